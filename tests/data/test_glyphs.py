"""The rendered characters: deterministic, cached whole, and checked when read."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont, features
from PIL import __version__ as pillow_version

from qbench.data import Dataset, cache_dir, dataset_fingerprint, glyph_render, glyphs, load_dataset
from qbench.data.arrays import ArraySplit
from qbench.data.fingerprint import fingerprint as sha
from qbench.errors import DataError

SMALL = {"num_train": 96, "num_validation": 32, "num_test": 48}


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qbench"


def pixels(split: object) -> np.ndarray:
    assert isinstance(split, ArraySplit)
    return np.asarray(split._images)


def shas(dataset: Dataset) -> list[str]:
    return [split.content_sha() for split in (dataset.train, dataset.validation, dataset.test)]


def test_form_of_the_full_set() -> None:
    defaults = glyphs.load.__kwdefaults__
    assert defaults == glyphs.fingerprint.__kwdefaults__
    assert defaults == {"num_train": 40_000, "num_validation": 4_000, "num_test": 8_000}
    assert all(count % len(glyph_render.ALPHABET) == 0 for count in defaults.values())


def test_every_font_is_there_and_holds_every_character() -> None:
    for name in glyph_render.FONTS:
        font = ImageFont.truetype(glyph_render.font_path(name), 24, layout_engine=ImageFont.Layout.BASIC)
        missing = bytes(font.getmask("\ue000"))
        drawn = [bytes(font.getmask(character)) for character in glyph_render.ALPHABET]
        assert missing not in drawn, name
        assert len(set(drawn)) == len(glyph_render.ALPHABET), name


def test_the_alphabet_has_no_character_twice() -> None:
    assert len(set(glyph_render.ALPHABET)) == len(glyph_render.ALPHABET) >= 10
    assert not set(glyph_render.ALPHABET) & set(glyph_render._CLUTTER)


def test_an_item_is_a_function_of_its_number() -> None:
    whole = glyph_render.render_range(1000, 1040)
    assert whole.shape == (40, 3, 32, 32)
    assert np.array_equal(whole[17:19], glyph_render.render_range(1017, 1019))
    assert len({image.tobytes() for image in whole}) == 40


def test_no_item_runs_out_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    # The busiest picture: three stray letters, two lines below the character and one above it.
    draw = glyph_render.Draws.between
    monkeypatch.setattr(glyph_render.Draws, "below", lambda self, limit: [draw(self, 0, 1), limit - 1][1])
    monkeypatch.setattr(glyph_render.Draws, "between", lambda self, low, high: low + draw(self, 0, 0.1) * (high - low))
    draws = glyph_render.Draws()
    draws.begin(0)
    glyph_render._render(draws, "A")
    assert len(list(draws._uniform)) > 0


@pytest.mark.skipif(
    (pillow_version, features.version("freetype2")) != ("13.0.0", "2.14.3"),
    reason="pixels are pinned for Pillow 13.0.0 with FreeType 2.14.3; other versions rasterise differently",
)
def test_pinned_fingerprints() -> None:
    # Where these change, glyph_render.VERSION must be raised too: caches are found by it.
    assert shas(load_dataset("glyphs", options=SMALL)) == ["6243551c225bf7fe", "211bb499440fe850", "e8e26ddc6508924e"]
    assert sha(glyph_render.render_range(39_000, 39_064)) == "52ca35ca85ef962a"


def test_labels_are_balanced_in_every_split() -> None:
    dataset = load_dataset("glyphs", options=SMALL)
    for split, count in ((dataset.train, 6), (dataset.validation, 2), (dataset.test, 3)):
        _, labels = split.batch(np.arange(len(split)), None)
        assert np.bincount(labels).tolist() == [count] * 16


def test_the_character_of_the_label_is_what_is_drawn() -> None:
    """Averaged over many pictures colours and clutter cancel: what is left looks most like the label's character."""
    alphabet = glyph_render.ALPHABET
    images = glyph_render.render_range(0, 150 * len(alphabet)).astype(np.float64)
    # How far a pixel is from its picture's median colour: large on ink, whatever its colour.
    ink = np.abs(images - np.median(images, (2, 3), keepdims=True)).sum(1)
    means = ink.reshape(150, len(alphabet), 32, 32).mean(0)
    templates = np.zeros((len(alphabet), 32, 32))
    for template, character in zip(templates, alphabet, strict=True):
        mask = np.asarray(glyph_render._template("DejaVuSans", 20, character))
        top, left = (32 - mask.shape[0]) // 2, (32 - mask.shape[1]) // 2
        template[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    likeness = np.corrcoef(
        (means - means.mean(0)).reshape(len(alphabet), -1), (templates - templates.mean(0)).reshape(len(alphabet), -1)
    )[: len(alphabet), len(alphabet) :]
    # By chance: 1 in 16. Not all, for an average blurs 8 and S, or M and N, into each other.
    assert (likeness.argmax(1) == np.arange(len(alphabet))).mean() > 0.5


def test_a_larger_split_begins_with_the_smaller_one() -> None:
    small = load_dataset("glyphs", options=SMALL)
    large = load_dataset("glyphs", options={**SMALL, "num_train": 112, "num_test": 64})
    assert np.array_equal(pixels(large.train)[:96], pixels(small.train))
    assert np.array_equal(pixels(large.test)[:48], pixels(small.test))


def test_processes_render_what_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"train": 40, "validation": 16, "test": 16}
    alone = glyphs._rendered(counts)
    monkeypatch.setattr(glyphs, "usable_cores", lambda: 2)
    monkeypatch.setattr(glyphs, "_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(glyphs, "_ITEMS_PER_JOB", 25)
    assert np.array_equal(glyphs._rendered(counts), alone)


def test_the_second_time_it_is_read_from_the_cache(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_dataset("glyphs", options=SMALL)
    name = dataset_fingerprint("glyphs", None, SMALL)
    assert sorted(path.suffix for path in empty_cache.iterdir()) == [".lock", ".npy", ".sha"]
    assert (empty_cache / f"glyphs-{name}.npy").is_file()
    monkeypatch.setattr(glyphs, "_rendered", lambda _counts: pytest.fail("rendered again"))
    assert shas(load_dataset("glyphs", options=SMALL)) == shas(first)


def test_a_full_disk_is_said_and_leaves_no_pixels(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("528384 requested and 0 written")  # numpy's own error, which has no number

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(
        DataError, match=r"^1 MiB of glyphs cannot be written .*/qbench \(528384 requested .*; make room"
    ):
        load_dataset("glyphs", options=SMALL)
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]


@pytest.mark.parametrize("damage", ["flip a bit", "cut", "empty", "no check sum", "pixels of another set"])
def test_damaged_pixels_are_rendered_again(damage: str, empty_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = shas(load_dataset("glyphs", options=SMALL))
    path = next(empty_cache.glob("*.npy"))
    raw = bytearray(path.read_bytes())
    if damage == "flip a bit":
        raw[-1000] ^= 1
        path.write_bytes(raw)
    elif damage == "cut":
        path.write_bytes(raw[:-1000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no check sum":
        path.with_suffix(".sha").unlink()
    else:
        glyphs._store(path, np.zeros((3, 3, 32, 32), np.uint8))
    with caplog.at_level(logging.WARNING, "qbench"):
        assert shas(load_dataset("glyphs", options=SMALL)) == expected
    assert ("will be rendered again" in caplog.text) == (damage != "no check sum")
    assert sha(np.load(path)) == path.with_suffix(".sha").read_text()


def test_an_interrupted_rendering_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object, **_keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(glyphs.np, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("glyphs", options=SMALL)
    assert [path.suffix for path in empty_cache.iterdir()] in ([".lock"], [])


def test_what_a_killed_rendering_left_goes_with_the_next_one(empty_cache: Path, tmp_path: Path) -> None:
    killed = (
        "import numpy, os, signal\n"
        "from qbench.data import glyphs\n"
        "numpy.save = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"glyphs.load(**{SMALL})\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", killed], env=environment, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len([path for path in empty_cache.iterdir() if path.name.startswith(".")]) == 1
    load_dataset("glyphs", options=SMALL)
    assert sorted(path.suffix for path in empty_cache.iterdir()) == [".lock", ".npy", ".sha"]


def test_the_fingerprint_covers_sizes_renderer_and_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dataset_fingerprint("glyphs", None, SMALL)
    assert dataset_fingerprint("glyphs", None, {**SMALL, "num_test": 49}) != before
    monkeypatch.setattr(glyph_render, "VERSION", glyph_render.VERSION + 1)
    other = dataset_fingerprint("glyphs", None, SMALL)
    monkeypatch.setattr(glyphs, "pillow_version", "0.0.0")
    assert len({before, other, dataset_fingerprint("glyphs", None, SMALL)}) == 3


def test_a_missing_font_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyph_render, "FONTS", ("NoSuchFont",))
    with pytest.raises(DataError, match=r"needs the font .*NoSuchFont\.ttf, which matplotlib installs; reinstall"):
        dataset_fingerprint("glyphs")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with pytest.raises(DataError, match=r"the cache directory .*file/qbench cannot be written to \(.*\); make it"):
        load_dataset("glyphs", options=SMALL)


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "qbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "qbench"


def test_pixels_survive_a_round_trip_through_normalisation() -> None:
    dataset = load_dataset("glyphs", options=SMALL)
    images, _ = dataset.train.batch(np.array([7]), None)
    restored = np.rint(images[0].numpy() * 75.5 + 127.0).astype(np.uint8)
    assert np.array_equal(restored, pixels(dataset.train)[7])
    assert np.asarray(Image.fromarray(restored.transpose(1, 2, 0))).shape == (32, 32, 3)

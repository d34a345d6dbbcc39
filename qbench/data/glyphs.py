"""Rendered characters in the shape of CIFAR: 32x32 colour images, 16 classes, drawn once and kept in the cache."""

import logging
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import __version__ as pillow_version
from PIL import features

from qbench.atomic import atomic_file, remove_orphans, write_atomic
from qbench.data import glyph_render
from qbench.data.arrays import ArraySplit
from qbench.data.cache import cache_dir, writable_dir
from qbench.data.dataset import Dataset
from qbench.data.fingerprint import fingerprint as sha
from qbench.environment import usable_cores
from qbench.errors import DataError
from qbench.options import PositiveInt

log = logging.getLogger(__name__)

# Of the training split's pixels (0..255); the channels are alike because colours are drawn uniformly.
_MEAN, _STD = 127.0, 75.5
_SHIFT = 4
# Splits take their items from ranges that never meet.
_FIRST_ITEM = {"train": 0, "validation": 1 << 40, "test": 2 << 40}
_ITEMS_PER_JOB = 10_000
_WORTH_A_PROCESS = 2_000


def load(
    *, num_train: PositiveInt = 40_000, num_validation: PositiveInt = 4_000, num_test: PositiveInt = 8_000
) -> Dataset:
    """The data set, rendered first where the cache does not hold it (about a minute on one core).

    num_train, num_validation, num_test: items of each split. A larger split begins with the items of a smaller one.
    Classes are equally frequent.
    """
    counts = {"train": num_train, "validation": num_validation, "test": num_test}
    train, validation, test = _splits(counts, _cached(counts))
    return Dataset(
        "glyphs",
        len(glyph_render.ALPHABET),
        3,
        glyph_render.SIZE,
        train,
        validation,
        test,
        f"the characters {glyph_render.ALPHABET}, rendered on clutter in {len(glyph_render.FONTS)} fonts of matplotlib",
    )


def fingerprint(
    *, num_train: PositiveInt = 40_000, num_validation: PositiveInt = 4_000, num_test: PositiveInt = 8_000
) -> str:
    """Over everything the pixels depend on: sizes, renderer, fonts, Pillow and FreeType. Nothing is rendered."""
    libraries = f"Pillow {pillow_version} FreeType {features.version('freetype2')}"
    sizes = f"{num_train} {num_validation} {num_test}"
    return sha(f"renderer {glyph_render.VERSION}", libraries, sizes, *map(_font_bytes, glyph_render.FONTS))


def _font_bytes(name: str) -> bytes:
    path = glyph_render.font_path(name)
    if not path.is_file():
        raise DataError(f"data set 'glyphs' needs the font {path}, which matplotlib installs; reinstall matplotlib")
    return path.read_bytes()


def _splits(counts: dict[str, int], images: NDArray[np.uint8]) -> Iterable[ArraySplit]:
    start = 0
    for name, count in counts.items():
        first = glyph_render.label_of(_FIRST_ITEM[name])
        labels = (first + np.arange(count, dtype=np.int64)) % len(glyph_render.ALPHABET)
        mean, std = [_MEAN] * 3, [_STD] * 3
        yield ArraySplit(images[start : start + count], labels, mean=mean, std=std, shift=_SHIFT)
        start += count


def _cached(counts: dict[str, int]) -> NDArray[np.uint8]:
    """The pixels of all splits, one after the other: a memory map, so that processes share one copy."""
    folder = writable_dir(cache_dir(), "the cache directory")
    name = fingerprint(**{f"num_{split}": count for split, count in counts.items()})
    path = folder / f"glyphs-{name}.npy"
    with FileLock(path.with_suffix(".lock")):
        images = _stored(path, sum(counts.values()))
        if images is None:
            log.info("rendering %d glyphs into %s", sum(counts.values()), path)
            _store(path, _rendered(counts))
            images = _stored(path, sum(counts.values()))
    assert images is not None
    return images


def _store(path: Path, images: NDArray[np.uint8]) -> None:
    # The check sum goes last: without it the pixels count as missing.
    check_sum = path.with_suffix(".sha")
    try:
        for file in (path, check_sum):
            remove_orphans(file)
        with atomic_file(path) as pixels:
            np.save(pixels, images, allow_pickle=False)
        write_atomic(check_sum, sha(images).encode())
    except OSError as error:
        why = error.strerror or error
        raise DataError(
            f"{images.nbytes / 2**20:.0f} MiB of glyphs cannot be written to the cache {path.parent} ({why}); "
            "make room there, or name another one in XDG_CACHE_HOME"
        ) from None


def _stored(path: Path, count: int) -> NDArray[np.uint8] | None:
    """The cached pixels, or None when they are absent or damaged."""
    try:
        expected = path.with_suffix(".sha").read_text()
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError) as error:
        log.warning("%s is damaged (%s) and will be rendered again", path, error)
        return None
    if len(images) != count or sha(images) != expected:
        log.warning("%s does not match its check sum and will be rendered again", path)
        return None
    return images


def _rendered(counts: dict[str, int]) -> NDArray[np.uint8]:
    """All splits' pixels [N, 3, 32, 32], rendered by as many processes as there are cores."""
    jobs = [
        (first, min(first + _ITEMS_PER_JOB, _FIRST_ITEM[name] + count))
        for name, count in counts.items()
        for first in range(_FIRST_ITEM[name], _FIRST_ITEM[name] + count, _ITEMS_PER_JOB)
    ]
    cores = usable_cores()
    if cores == 1 or sum(counts.values()) <= _WORTH_A_PROCESS:
        return np.concatenate([glyph_render.render_range(*job) for job in jobs])
    with ThreadPoolExecutor(cores) as threads:
        return np.concatenate(list(threads.map(_render_in_process, jobs)))


def _render_in_process(job: tuple[int, int]) -> NDArray[np.uint8]:
    command = [sys.executable, "-P", glyph_render.__file__, str(job[0]), str(job[1])]
    raw = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, 3, glyph_render.SIZE, glyph_render.SIZE)

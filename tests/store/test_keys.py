"""A key changes with everything that can change a number, and with nothing else."""

from __future__ import annotations

import math
from importlib import import_module

import pytest

from qbench.store import Keys, keys
from qbench.train.settings import MeasureSettings, OptimizerSettings, TrainSettings

PLUGIN = """from qbench import Recipe, method

@method("one")
def one(*, bits: int = 8) -> Recipe:
    return Recipe()

@method("two")
def two(*, bits: int = 8) -> Recipe:
    return Recipe()
"""


class Content:
    """Stands for the data set: its fingerprint is what a test says, and every reading is counted."""

    def __init__(self) -> None:
        self.sha = "d1"
        self.readings = 0

    def __call__(self, name, root, options):
        self.readings += 1
        return f"{self.sha}-{name}"


@pytest.fixture
def content():
    return Content()


@pytest.fixture
def both(content):
    """The keys of a cell's training and measurement."""

    def keys_of(cell, threads=1):
        made = Keys(threads=threads, fingerprint=content)
        return made.cell(cell), made.measure(cell)

    return keys_of


# What is changed; whether the key of the training and of the measurement changes with it.
CHANGES = [
    ({"options": {"bits": 4}}, True, True),
    ({"method": "bf16"}, True, True),
    ({"model": "resnet8"}, True, True),
    ({"model_options": {"width": 8}}, True, True),
    ({"dataset": "glyphs"}, True, True),
    ({"dataset_options": {"size": 8}}, True, True),
    ({"seed": 1}, True, False),
    ({"arithmetic": "integer"}, True, True),
    ({"device": "cuda"}, True, True),
    ({"train": TrainSettings(epochs=31)}, True, True),
    ({"train": TrainSettings(optimizer=OptimizerSettings(lr=0.2))}, True, True),
    ({"measure": MeasureSettings(steps=11)}, False, True),
    # what cannot change a number
    ({"measure": MeasureSettings(rounds=9)}, False, False),
    ({"measure": MeasureSettings(enabled=False)}, False, False),
    ({"train": TrainSettings(timeout_s=5.0)}, False, False),
    ({"suite": "another"}, False, False),
    ({"label": "another"}, False, False),
    ({"because": "of this"}, False, False),
    ({"data_root": "elsewhere"}, False, False),
]


@pytest.mark.parametrize(
    ("changes", "trains", "measures"), CHANGES, ids=[str(next(iter(c[0].items()))) for c in CHANGES]
)
def test_what_a_cell_says(both, cell, changes, trains, measures):
    before, after = both(cell()), both(cell(**changes))
    assert (before[0] != after[0], before[1] != after[1]) == (trains, measures)


def test_training_and_measurement_have_keys_of_their_own(both, cell):
    train, measure = both(cell())
    assert train != measure
    assert len(train) == len(measure) == 32


def test_keys_are_the_same_every_time(both, cell):
    assert both(cell()) == both(cell())


def test_the_content_of_the_data_counts(both, cell, content):
    before = both(cell())
    content.sha = "d2"
    assert all(a != b for a, b in zip(before, both(cell()), strict=True))


def test_the_number_of_threads_counts(both, cell):
    assert all(a != b for a, b in zip(both(cell()), both(cell(), threads=2), strict=True))


def test_a_data_set_is_read_once(content, cell):
    made = Keys(threads=1, fingerprint=content)
    for seed in range(3):
        made.cell(cell(seed=seed))
        made.measure(cell(seed=seed))
    assert content.readings == 1


def test_every_variant_of_a_data_set_is_read(content, cell):
    made = Keys(threads=1, fingerprint=content)
    for options, root in (({}, None), ({"size": 8}, None), ({}, "elsewhere")):
        made.cell(cell(dataset_options=options, data_root=root))
    assert content.readings == 3


@pytest.mark.parametrize("part", ["library_key", "hardware_key", "qbench_source", "method_source"])
def test_libraries_hardware_and_sources_count(both, cell, monkeypatch, part):
    before = both(cell())
    monkeypatch.setattr(keys, part, lambda *arguments: "something else")
    assert all(a != b for a, b in zip(before, both(cell()), strict=True))


def test_the_compiled_kernels_count(both, cell, monkeypatch, tmp_path):
    found = set()
    for content in (None, b"one", b"two"):
        library = tmp_path / f"{content}.so"
        if content is not None:
            library.write_bytes(content)
        monkeypatch.setattr(keys, "library_path", lambda library=library: library)
        found |= set(both(cell()))
    assert len(found) == 6


def test_what_json_does_not_have_has_no_key():
    with pytest.raises(ValueError, match="not JSON compliant"):
        keys.digest({"lr": math.nan})


def test_cores_count_for_measurements_only(both, cell, monkeypatch):
    before = both(cell())
    monkeypatch.setattr(keys, "num_cores", lambda: 999)
    after = both(cell())
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


@pytest.mark.parametrize(
    ("name", "value", "trains"),
    [
        ("ATEN_CPU_CAPABILITY", "avx2", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", True),
        ("QBENCH_ISA", "avx2", True),
        ("QBENCH_REPLAY", "off", False),
        ("LD_PRELOAD", "/usr/lib/libtcmalloc.so", False),
    ],
)
def test_variables_that_decide_how_is_computed_count(both, cell, monkeypatch, name, value, trains):
    before = both(cell())
    monkeypatch.setenv(name, value)
    after = both(cell())
    assert (before[0] != after[0], before[1] != after[1]) == (trains, True)


@pytest.mark.parametrize(("name", "value"), [("QBENCH_REPLAY", "on"), ("ATEN_CPU_CAPABILITY", ""), ("LANG", "C")])
def test_variables_that_change_nothing_do_not_count(both, cell, monkeypatch, name, value):
    before = both(cell())
    monkeypatch.setenv(name, value)
    assert both(cell()) == before


def test_a_plugins_source_counts_and_its_place_does_not(tmp_path):
    for folder, text in (("a", PLUGIN), ("b", PLUGIN), ("c", PLUGIN + "# changed\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.py").write_text(text)
    one, moved, changed = (keys.method_source(f"{tmp_path / folder / 'p.py'}:one") for folder in "abc")
    assert one == moved
    assert one != changed
    assert one != keys.method_source(f"{tmp_path / 'a' / 'p.py'}:two")


def test_the_other_modules_of_a_plugins_package_count(tmp_path, monkeypatch):
    package = tmp_path / "strangers"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "layers.py").write_text("DECAY = 1\n")
    (package / "mine.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(keys, "find_method", lambda name: getattr(import_module("strangers.mine"), name))
    before = keys.method_source.__wrapped__("one")
    assert before == keys.method_source.__wrapped__("one")
    (package / "layers.py").write_text("DECAY = 2\n")
    assert before != keys.method_source.__wrapped__("one")


COUNTING = ("recipe.py", "engine/jobs.py", "engine/worker.py", "kernels/k.cpp", "kernels/k.py")
NOT_COUNTING = ("engine/pool.py", "report/table.py", "kernels/notes.txt")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder that stands for qbench's own."""
    for name in (*COUNTING, *NOT_COUNTING):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(keys, "_PACKAGE", tmp_path)
    return tmp_path


def test_qbenchs_own_computing_sources_count_and_its_tables_do_not(package):
    changes = {}
    for name in (*COUNTING, *NOT_COUNTING):
        before = keys.qbench_source.__wrapped__()
        (package / name).write_text("2")
        changes[name] = keys.qbench_source.__wrapped__() != before
    assert changes == {**dict.fromkeys(COUNTING, True), **dict.fromkeys(NOT_COUNTING, False)}


def test_a_new_file_counts_too(package):
    before = keys.qbench_source.__wrapped__()
    (package / "kernels" / "new.py").touch()
    assert keys.qbench_source.__wrapped__() != before

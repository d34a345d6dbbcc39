"""From a file to a suite: expansion, profiles, protocols, the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qbench.catalog import methods
from qbench.cell import Cell
from qbench.suite import Overrides, Suite, load_suite, suite_names
from qbench.suite.theory import suite_kind


def labels(suite: Suite) -> list[str]:
    return [entry.label for entry in suite.entries]


def test_every_built_in_suite_loads_with_all_its_profiles():
    trained = [name for name in suite_names() if suite_kind(name) == "train"]
    assert "smoke" in trained
    for name in trained:
        suite = load_suite(name)
        assert suite.name == name
        assert suite.description.endswith(".")
        assert suite.cells()


@pytest.mark.parametrize("name", ["digits", "glyphs", "imagenet"])
def test_suites_said_to_have_every_method_do(name):
    suite = load_suite(name)
    assert suite.description.startswith("Every method ")
    built_in = {found.load().name for found in methods() if found.origin.startswith("qbench.methods.")}
    assert {entry.method for entry in suite.entries} == built_in


def test_defaults_are_filled_in(write, base):
    suite = load_suite(write(base))
    assert (suite.protocol, suite.arithmetic, suite.profile, suite.notes) == ("same", "integer", None, ())
    assert suite.train.epochs == 2
    assert suite.train.batch_size == 128
    assert suite.measure.rounds == 3


def test_a_list_of_values_expands_to_a_product(write, base):
    suite = load_suite(write(base.replace("- fp32", "- ./mine.py:mine: {bits: [2, 4], mode: [near, far]}")))
    assert labels(suite) == ["mine[bits=2]", "mine[bits=2,mode=far]", "mine[bits=4]", "mine[bits=4,mode=far]"]
    assert suite.entries[1].options["bits"] == 2


def test_models_and_data_sets_expand_too(write, base):
    text = base.replace("model: mlp", "model: [mlp, {name: resnet8, width: [8, 32]}]")
    suite = load_suite(write(text))
    assert [(m.name, m.options) for m in suite.models] == [
        ("mlp", {}),
        ("resnet8", {"width": 8}),
        ("resnet8", {"width": 32}),
    ]
    assert len(suite.cells()) == 2 * 3


def test_an_option_with_its_default_value_is_the_default(write, base):
    written = base.replace("mlp", "{name: resnet8, width: 16}").replace("fp32", "./mine.py:mine: {bits: 8}")
    suite = load_suite(write(written))
    plain = load_suite(write(base.replace("mlp", "resnet8").replace("fp32", "./mine.py:mine")))
    assert (suite.models, suite.entries) == (plain.models, plain.entries)
    assert suite.models[0].options == {}
    assert suite.entries[0].label == "mine"


def test_cells_are_seed_major_and_complete(write, base):
    cells = load_suite(write(base + "  - graham\n")).cells("cuda")
    assert [(cell.seed, cell.method) for cell in cells] == [(0, "fp32"), (0, "graham"), (1, "fp32"), (1, "graham")]
    assert {cell.device for cell in cells} == {"cuda"}
    assert Cell.model_validate_json(cells[0].model_dump_json()) == cells[0]


def test_measuring_takes_the_first_seed_of_each_method(write, base):
    suite = load_suite(write(base.replace("[0, 1]", "[4, 1]") + "  - graham\n"))
    assert [(cell.seed, cell.method) for cell in suite.measured_cells()] == [(4, "fp32"), (4, "graham")]
    off = load_suite(write(base + "measure: {enabled: false}\n"))
    assert off.measured_cells() == []


def test_all_three_forms_of_an_entry_are_one(write, base):
    forms = ["graham[bits=3]", "graham: {bits: 3}", "{method: graham, options: {bits: 3}}"]
    entries = [load_suite(write(base.replace("fp32", form))).entries for form in forms]
    assert entries[0] == entries[1] == entries[2]
    assert entries[0][0].label == "graham[bits=3]"


def test_a_label_of_ones_own(write, base):
    one = load_suite(write(base + "  - {method: fp32, label: baseline again}\n"))
    assert labels(one) == ["fp32", "baseline again"]
    many = load_suite(write(base + "  - {method: graham, label: g, options: {bits: [2, 3]}}\n"))
    assert labels(many) == ["fp32", "g[bits=2]", "g[bits=3]"]


def test_a_plugin_is_found_beside_the_suite_file(write, base, tmp_path, monkeypatch):
    write(base.replace("fp32", "./mine.py:mine"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    suite = load_suite("../s.yaml")
    assert suite.entries[0].method == f"{tmp_path}/mine.py:mine"
    monkeypatch.chdir(tmp_path)
    assert load_suite("s.yaml").entries[0].method == "mine.py:mine"


PROFILES = """profiles:
  quick:
    seeds: [7]
    train: {epochs: 1, optimizer: {lr: 0.5}}
    measure: {rounds: 1}
"""


def test_a_profile_is_merged_deeply(write, base):
    file = write(
        base.replace("{epochs: 2}", "{epochs: 2, batch_size: 32, optimizer: {lr: 0.2, momentum: 0.5}}") + PROFILES
    )
    suite = load_suite(file, profile="quick")
    assert suite.profile == "quick"
    assert suite.seeds == (7,)
    assert (suite.train.epochs, suite.train.batch_size) == (1, 32)
    assert (suite.train.optimizer.lr, suite.train.optimizer.momentum) == (0.5, 0.5)
    assert (suite.measure.rounds, suite.measure.steps) == (1, 10)
    assert load_suite(file).seeds == (0, 1)


PAPER = """name: paper
protocol: paper
model: mlp
dataset: digits
seeds: [0]
train: {epochs: 2, optimizer: {name: sgd, lr: 0.1, weight_decay: 0.001}}
methods:
  - fp32
  - method: graham
    options: {bits: [2, 3]}
    train: {epochs: 9, optimizer: {lr: 0.3}}
    because: the paper's section 4
profiles:
  quick: {train: {epochs: 1}}
"""


def test_a_method_may_train_as_its_paper_says(write):
    suite = load_suite(write(PAPER))
    fp32, two, three = suite.entries
    assert (fp32.train, fp32.because) == (suite.train, None)
    assert two.train == three.train
    assert (two.train.epochs, two.train.optimizer.lr, two.train.optimizer.weight_decay) == (9, 0.3, 0.001)
    assert two.because == "the paper's section 4"
    assert suite.cells()[1].because == "the paper's section 4"


def test_a_profile_and_the_command_line_win_over_a_methods_own_training(write):
    quick = load_suite(write(PAPER), profile="quick")
    assert [entry.train.epochs for entry in quick.entries] == [1, 1, 1]
    assert quick.entries[1].train.optimizer.lr == 0.3
    both = load_suite(write(PAPER), profile="quick", overrides=Overrides(epochs=5))
    assert [entry.train.epochs for entry in both.entries] == [5, 5, 5]


def test_a_profile_with_methods_of_its_own_keeps_their_training(write):
    more = PAPER + "  own:\n    train: {epochs: 1}\n    methods: [{method: fp32, train: {epochs: 4}, because: so}]\n"
    (entry,) = load_suite(write(more), profile="own").entries
    assert entry.train.epochs == 4


def test_the_command_line_overrides(write, base):
    overrides = Overrides(seeds=(3,), epochs=7, arithmetic="integer")
    suite = load_suite(write(base + PROFILES), profile="quick", overrides=overrides)
    assert (suite.seeds, suite.train.epochs, suite.arithmetic) == ((3,), 7, "integer")


SELECTIONS = [
    (("graham",), ["graham[bits=2]", "graham[bits=3]"]),
    (("graham[bits=8]",), ["graham[bits=8]"]),
    (("graham[bits=6,8]", "fp32"), ["graham[bits=6]", "graham[bits=8]", "fp32"]),
    (("bf16",), ["bf16"]),
    (("./mine.py:mine[bits=4,mode=far]",), ["mine[bits=4,mode=far]"]),
]


@pytest.mark.parametrize(("selections", "expected"), SELECTIONS)
def test_methods_are_chosen_on_the_command_line(write, selections, expected):
    suite = load_suite(write(PAPER), overrides=Overrides(methods=selections))
    assert labels(suite) == expected


LABELLED = """
  - {method: wageubn, options: {lr: 0.9}, label: wageubn}
"""


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("wageubn", ["wageubn"]),
        ("wageubn[lr=0.9]", ["wageubn[lr=0.9]"]),
        ("wageubn[lr=0.05]", ["wageubn[lr=0.05]"]),  # the method's default, which is not what the suite calls wageubn
        ("wageubn[lr=0.05,0.1]", ["wageubn[lr=0.05]", "wageubn[lr=0.1]"]),
    ],
)
def test_a_chosen_method_does_not_bear_the_label_of_other_options(write, base, selection, expected):
    suite = load_suite(write(base + LABELLED), overrides=Overrides(methods=(selection,)))
    assert labels(suite) == expected


def test_a_chosen_method_trains_as_the_suite_trains_it(write):
    suite = load_suite(write(PAPER), overrides=Overrides(methods=("graham[bits=8]", "bf16")))
    assert [entry.train.epochs for entry in suite.entries] == [9, 2]
    assert suite.entries[0].because == "the paper's section 4"


def test_the_data_root_reaches_the_cells(write, base):
    file = write(base.replace("digits", "imagenet"))
    suite = load_suite(file, overrides=Overrides(data_root=Path("trees/small")))
    assert {cell.data_root for cell in suite.cells()} == {"trees/small"}
    assert {cell.data_root for cell in load_suite(file).cells()} == {None}


def test_a_data_root_in_the_file_starts_beside_it(write, base, tmp_path):
    (tmp_path / "sub").mkdir()
    write(base.replace("digits", "{name: imagenet, root: tree}"), "sub/s.yaml")
    assert load_suite("sub/s.yaml").datasets[0].root == "sub/tree"


def test_a_suite_is_kept_whole_as_json_without_its_place(write):
    suite = load_suite(write(PAPER))
    again = Suite.model_validate_json(suite.model_dump_json())
    assert again == suite.model_copy(update={"source": ""})
    assert "s.yaml" not in json.dumps(suite.model_dump(mode="json"))


NOTES = [
    ("train: {epochs: 2, optimizer: {beta2: 0.9}}", "'train.optimizer.beta2' has no effect: only adam uses it"),
    ("train: {schedule: {factor: 0.5}}", "'train.schedule.factor' has no effect: only the step schedule uses it"),
    (
        "train: {schedule: {name: constant, final_factor: 0.5}}",
        "'train.schedule.final_factor' has no effect: only the cosine and exponential schedules use it",
    ),
    (
        "train: {epochs: 2, eval_every: 3}",
        "'train.eval_every' (3) exceeds epochs (2): only the last one is validated",
    ),
    ("measure: {enabled: false, rounds: 5}", "'measure.rounds' has no effect: measure.enabled is false"),
    ("train: {schedule: {name: step, factor: 0.5}, optimizer: {name: adam, beta2: 0.9}}", None),
]


@pytest.mark.parametrize(("section", "note"), NOTES)
def test_a_setting_without_effect_is_said(write, base, section, note):
    text = base.replace("train: {epochs: 2}\n", "")
    assert load_suite(write(f"{text}{section}\n")).notes == ((note,) if note else ())


def test_an_override_that_says_what_the_suite_says_is_said(write):
    file = write(PAPER.replace("train: {epochs: 9, optimizer: {lr: 0.3}}", "train: {epochs: 2}"))
    assert load_suite(file).notes == tuple(
        f"'train' of 'graham[bits={bits}]' has no effect: it says what the suite says" for bits in (2, 3)
    )


def test_a_data_root_that_nothing_reads_is_said(write, base):
    suite = load_suite(write(base), overrides=Overrides(data_root=Path("d")))
    assert suite.notes == ("--data d has no effect: no data set of this suite is read from a directory",)

"""Theory suites as files: the built-in ones, and every mistake with its file and line."""

from __future__ import annotations

import pytest

from qbench.errors import InputError, SuiteError, UnknownNameError
from qbench.suite import load_suite, suite_names
from qbench.suite.theory import load_theory_suite, suite_kind
from qbench.theory import find_experiment, registry
from qbench.theory.results import experiment_key

ONE = "name: mine\nkind: theory\nexperiments:\n  quadratic_chain:\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write_suite(text: str) -> str:
        (tmp_path / "s.yaml").write_text(text)
        return "s.yaml"

    return write_suite


def test_built_in_theory_suites_load_and_use_every_experiment():
    names = [name for name in suite_names() if suite_kind(name) == "theory"]
    assert names == ["direction", "range_norm", "rounding_theory", "weight_change"]
    suites = [load_theory_suite(name) for name in names]
    assert [suite.name for suite in suites] == names
    assert all(suite.description.endswith(".") for suite in suites)
    used = [experiment.name for suite in suites for experiment in suite.experiments]
    assert sorted(used) == registry.names()


@pytest.mark.parametrize("name", ["direction", "range_norm", "rounding_theory", "weight_change"])
def test_quick_profiles_make_every_experiment_smaller(name):
    full, quick = load_theory_suite(name), load_theory_suite(name, profile="quick")
    assert [e.name for e in quick.experiments] == [e.name for e in full.experiments]
    assert all(e.changed for e in quick.experiments)
    assert quick.profile == "quick"


def test_options_are_filled_in(write):
    suite = load_theory_suite(write(ONE + "    {steps: [0.5], chains: 10}\n  pure_noise:\n"), seed=3)
    first, second = suite.experiments
    assert suite.seed == 3
    assert first.changed == {"steps": (0.5,), "chains": 10}
    assert first.options["iterations"] == find_experiment("quadratic_chain").resolve({})["iterations"]
    assert (second.name, second.changed) == ("pure_noise", {})


@pytest.mark.parametrize("name", ["QBENCH_ISA", "QBENCH_KERNELS", "ATEN_CPU_CAPABILITY"])
def test_findings_belong_to_the_kernels_that_made_them(monkeypatch, name):
    experiment = load_theory_suite("direction").experiments[0]
    before = experiment_key(experiment, seed=0, threads=1)
    monkeypatch.setenv(name, "other")
    assert experiment_key(experiment, seed=0, threads=1) != before


def test_kinds(write):
    assert suite_kind("smoke") == "train"
    assert suite_kind(write(ONE)) == "theory"
    assert suite_kind(write(ONE.replace("theory", "theroy"))) == "train"
    with pytest.raises(SuiteError, match=r"s.yaml:2: 'kind' must be 'train' or 'theory' \(did you mean 'theory'\?\)"):
        load_suite(write("name: mine\nkind: theroy\nmodel: mlp\ndataset: digits\nseeds: [0]\nmethods: [fp32]\n"))
    with pytest.raises(SuiteError, match=r"s.yaml:2: a suite of kind 'theory' trains no methods"):
        load_suite(write(ONE))


MISTAKES = [
    (ONE + "sed: 3\n", r"s.yaml:5: unknown key 'sed', did you mean 'seed'\?"),
    (ONE + "methods: [fp32]\n", r"s.yaml:5: unknown key 'methods'; known: .*"),
    (ONE + "seed: -1\n", r"s.yaml:5: 'seed' must be at least 0, not -1"),
    (ONE.replace("quadratic_chain", "quadratic_chian"),
     r"s.yaml:4: unknown experiment 'quadratic_chian', did you mean 'quadratic_chain'\?"),
    (ONE + "    chains: 10\n    step: [0.1]\n",
     r"s.yaml:6: experiment 'quadratic_chain' has no option 'step', did you mean 'steps'\?"),
    (ONE + "    chains: 1\n",
     r"s.yaml:5: experiment 'quadratic_chain', option 'chains': input should be .* equal to 2, not 1"),
    (ONE + "    steps: [0.1, high]\n",
     r"s.yaml:5: experiment 'quadratic_chain', option 'steps': input should be a .* number, not 'high'"),
    (ONE + "    steps: []\n",
     r"s.yaml:5: experiment 'quadratic_chain', option 'steps': an empty list leaves nothing to try"),
    (ONE + "  weight_change:\n    model: mpl\n", r"s.yaml:6: unknown model 'mpl', did you mean 'mlp'\?"),
    (ONE + "  weight_change:\n    dataset: digit\n", r"s.yaml:6: unknown data set 'digit', did you mean 'digits'\?"),
    (ONE + "    10\n", r"s.yaml:4: 'experiments.quadratic_chain' must be a mapping of keys to values, not 10"),
    ("name: mine\nkind: theory\nexperiments: {}\n", r"s.yaml:3: 'experiments' must not be empty"),
    ("name: mine\nkind: theory\nexperiments: [pure_noise]\n", r"s.yaml:3: 'experiments' must be a mapping .*"),
    ("name: mine\nkind: theory\n", r"s.yaml:1: 'experiments' is missing"),
    (ONE + "profiles:\n  quick:\n    experiments:\n      quadratic_chain: {chain: 3}\n",
     r"s.yaml:8: experiment 'quadratic_chain' has no option 'chain', did you mean 'chains'\?"),
    (ONE + "profiles: {quick: {sed: 3}}\n", r"s.yaml:5: unknown key 'sed', did you mean 'seed'\?"),
    (ONE + "profiles:\n  quick: {kind: train}\n", r"s.yaml:6: profile 'quick' cannot change 'kind'"),
    (ONE + "  quadratic_chain: {}\n", r"s.yaml:5: key 'quadratic_chain' is written twice, .*"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_name_file_and_line(write, text, message):
    file = write(text)
    with pytest.raises(InputError, match=rf"^{message}$") as caught:
        load_theory_suite(file)
    assert caught.value.exit_code == 2


def test_an_unknown_profile(write):
    with pytest.raises(UnknownNameError, match=r"s.yaml: unknown profile 'quik', did you mean 'quick'\?"):
        load_theory_suite(write(ONE + "profiles:\n  quick: {seed: 3}\n"), profile="quik")

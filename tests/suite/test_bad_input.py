"""Every mistake in a suite is one sentence with file, line, and the nearest name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from qbench.errors import InputError, PluginError, SuiteError, UnknownNameError
from qbench.suite import Overrides, load_suite

HEAD = "name: base\nmodel: mlp\ndataset: digits\nseeds: [0]\n"
ONE = HEAD + "methods: [fp32]\n"

# What the file says, and the whole message.
MISTAKES = [
    # unknown keys
    (ONE + "epoch: 3\n", r"s.yaml:6: unknown key 'epoch'; known: .*"),
    (ONE + "trian: {epochs: 3}\n", r"s.yaml:6: unknown key 'trian', did you mean 'train'\?"),
    (ONE + "train:\n  epochs: 3\n  epoch: 3\n", r"s.yaml:8: unknown key 'epoch' in 'train', did you mean 'epochs'\?"),
    (
        ONE + "train:\n  optimizer:\n    name: sgd\n    momentun: 0.9\n",
        r"s.yaml:9: unknown key 'momentun' in 'train.optimizer', did you mean 'momentum'\?",
    ),
    (ONE + "measure: {round: 3}\n", r"s.yaml:6: unknown key 'round' in 'measure', did you mean 'rounds'\?"),
    (HEAD + "methods:\n - {method: fp32, option: {}}\n",
     r"s.yaml:6: unknown key 'option' in 'methods\[0\]', did you mean 'options'\?"),
    (
        ONE + "profiles:\n  quick:\n    train: {epoch: 1}\n",
        r"s.yaml:\d+: unknown key 'epoch' in 'train', did you mean 'epochs'\?",
    ),
    # unknown names
    (HEAD + "methods:\n  - fp32\n  - banner9\n", r"s.yaml:7: unknown method 'banner9', did you mean 'banner8'\?"),
    (ONE.replace("mlp", "resnet9"), r"s.yaml:2: unknown model 'resnet9', did you mean 'resnet\d+'\?"),
    (ONE.replace("digits", "digit"), r"s.yaml:3: unknown data set 'digit', did you mean 'digits'\?"),
    (
        HEAD + "methods:\n  - graham:\n      bit: 3\n",
        r"s.yaml:7: method 'graham' has no option 'bit', did you mean 'bits'\?",
    ),
    (
        ONE.replace("mlp", "{name: resnet8, with: 8}"),
        r"s.yaml:2: model 'resnet8' has no option 'with', did you mean 'width'\?",
    ),
    (ONE.replace("digits", "{name: digits, x: 8}"), r"s.yaml:3: data set 'digits' has no option 'x'; known: .*"),
    (ONE.replace("digits", "{name: digits, root: d}"),
     r"s.yaml:3: dataset 'digits' is not read from a directory; remove 'root'"),
    # wrong type or range
    (
        HEAD + "methods:\n  - graham:\n      bits: 0\n",
        r"s.yaml:7: method 'graham', option 'bits': .*greater than or equal to 1, not 0",
    ),
    (
        HEAD + "methods:\n  - graham:\n      bits:\n        - 4\n        - x\n",
        r"s.yaml:9: method 'graham', option 'bits': .*integer, not 'x'",
    ),
    (HEAD + "methods: ['graham[bits=0]']\n", r"s.yaml:5: method 'graham', option 'bits': .*, not 0"),
    (ONE + "train: {epochs: 0}\n", r"s.yaml:6: 'train.epochs' must be at least 1, not 0"),
    (ONE + "train: {epochs: 1.5}\n", r"s.yaml:6: 'train.epochs' must be a whole number, not 1.5"),
    (ONE + "train: {epochs: many}\n", r's.yaml:6: \'train.epochs\' must be a whole number, not "many"'),
    (ONE + f"train: {{epochs: {'very' * 30}}}\n",
     r's.yaml:6: \'train.epochs\' must be a whole number, not "(very){14}\.\.\.'),
    (ONE + "train: {epochs: 99999999999}\n",
     r"s.yaml:6: 'train.epochs' must be at most 1000000000, not 99999999999"),
    (ONE + "train: {timeout_s: 1e300}\n", r"s.yaml:6: 'train.timeout_s' must be at most 1000000000.0, not 1e\+300"),
    (ONE + "train: {schedule: {warmup_epochs: 1e308}}\n",
     r"s.yaml:6: 'train.schedule.warmup_epochs' must be at most .*"),
    (ONE + "train: {schedule: {name: step, milestones: [0.5, 30]}}\n",
     r"s.yaml:6: 'train.schedule.milestones\[1\]' must be at most 1.0, not 30"),
    (ONE + "measure: {rounds: 99999999999}\n", r"s.yaml:6: 'measure.rounds' must be at most 1000, not 99999999999"),
    (ONE.replace("mlp", "{name: mlp, width: 99999999999999999999}"),
     r"s.yaml:2: '99999999999999999999' is too large a number; the largest is 9223372036854775807"),
    (ONE.replace("mlp", "MLP"), r"s.yaml:2: unknown model 'MLP', did you mean 'mlp'\?"),
    (ONE + "train: {augment: 1}\n", r"s.yaml:6: 'train.augment' must be true or false, not 1"),
    (ONE + "train: 3\n", r"s.yaml:6: 'train' must be a mapping of keys to values, not 3"),
    (ONE + "train:\n", r"s.yaml:6: 'train' must be a mapping of keys to values, not null"),
    (ONE + "train: {optimizer: {lr: 0}}\n", r"s.yaml:6: 'train.optimizer.lr' must be more than 0.0, not 0"),
    (ONE + "train: {optimizer: {name: adam, nesterov: true}}\n",
     r"s.yaml:6: 'train.optimizer': nesterov.* only with .*"),
    (ONE + "train: {optimizer: {lr: .inf}}\n", r"s.yaml:6: '.inf' is no finite number"),
    (
        ONE + "train: {schedule: {name: cosin}}\n",
        r"s.yaml:6: 'train.schedule.name' must be 'constant', .* \(did you mean 'cosine'\?\), not \"cosin\"",
    ),
    (ONE + "arithmetic: int\n", r"s.yaml:6: 'arithmetic' must be 'simulated' or 'integer'.*, not \"int\""),
    (ONE + "protocol: fair\n", r"s.yaml:6: 'protocol' must be 'same' or 'paper', not \"fair\""),
    (ONE.replace("[0]", "[-1]"), r"s.yaml:4: 'seeds\[0\]' must be at least 0, not -1"),
    (ONE.replace("[0]", "[0.5]"), r"s.yaml:4: 'seeds\[0\]' must be a whole number, not 0.5"),
    (ONE.replace("[0]", "3"), r"s.yaml:4: 'seeds' must be a list, not 3"),
    (ONE.replace("base", "a/b"), r"s.yaml:1: 'name' must be made of letters, digits, .*, not \"a/b\""),
    (ONE.replace("mlp", "3"), r"s.yaml:2: 'model' must be a name or \{name: \.\.\., option: value\}.*"),
    (ONE.replace("mlp", "{width: 3}"), r"s.yaml:2: 'model' must be a name or .*"),
    (ONE + "description: !!binary aGk=\n", r"s.yaml:6: 'aGk=' is read as bytes; put it in quotes .*"),
    (ONE + "description: 2020-01-01\n", r"s.yaml:6: '2020-01-01' is read as a date; put it in quotes .*"),
    # empty
    ("", r"s.yaml is empty; a suite needs at least 'name', 'model', 'dataset', 'seeds' and 'methods'"),
    ("# nothing\n", r"s.yaml is empty; .*"),
    (HEAD + "methods: []\n", r"s.yaml:5: 'methods' must not be empty"),
    (HEAD + "methods:\n", r"s.yaml:5: 'methods' must be a list, not null"),
    (ONE.replace("[0]", "[]"), r"s.yaml:4: 'seeds' must not be empty"),
    (ONE.replace("mlp", "[]"), r"s.yaml:2: 'model' must not be empty"),
    (HEAD, r"s.yaml:1: 'methods' is missing"),
    (ONE.replace("model: mlp\n", ""), r"s.yaml:1: 'model' is missing"),
    (HEAD + "methods:\n  - graham:\n      bits: []\n", r"s.yaml:7: option 'bits' has an empty list of values"),
    (HEAD + "methods:\n  -\n", r"s.yaml:6: 'methods\[0\]' is no method; write NAME, .*"),
    # repetitions
    (ONE + "name: again\n", r"s.yaml:6: key 'name' is written twice, first at s.yaml:1; keep one"),
    (ONE.replace("[0]", "[0, 1, 0]"), r"s.yaml:4: seed 0 stands twice in 'seeds'; keep one"),
    (
        HEAD + "methods:\n  - fp32\n  - fp32\n",
        r"s.yaml:7: 'fp32' is already at s.yaml:6; remove one of the two, or give one a 'label' if they differ",
    ),
    (
        HEAD + "methods:\n  - graham: {bits: [3, 4]}\n  - graham: {bits: 3}\n",
        r"s.yaml:7: 'graham\[bits=3\]' is already at s.yaml:6; .*",
    ),
    (HEAD + "methods:\n  - graham: {bits: [3, 3]}\n", r"s.yaml:6: 'graham\[bits=3\]' is already at s.yaml:6; .*"),
    (ONE.replace("mlp", "[mlp, mlp]"), r"s.yaml:2: model 'mlp' is already at s.yaml:2; keep one"),
    # form
    ("- fp32\n", r"s.yaml:1: a suite must be a mapping of keys to values, not \[\"fp32\"\]"),
    ("just text\n", r"s.yaml:1: a suite must be a mapping of keys to values, not \"just text\""),
    (HEAD + "methods: [fp32\n", r"s.yaml:\d+: this is not YAML: .*"),
    (HEAD + "methods:\n\t- fp32\n", r"s.yaml:6: this is not YAML: .*"),
    (ONE + "a: \x01\n", r"s.yaml: this is not YAML: .*"),
    (ONE + "---\nname: second\n", r"s.yaml:6: this is not YAML: .*"),
    (ONE + "x: !!python/object/apply:os.system ['touch hacked']\n", r"s.yaml:6: tags are not allowed here, .*"),
    (ONE + "x: !mine 3\n", r"s.yaml:6: tags are not allowed here, and '!mine' is one; remove it"),
    (ONE + "3: x\n", r"s.yaml:6: a key must be text, not '3'; put it in quotes"),
    (ONE + "? [a, b]\n: x\n", r"s.yaml:6: a key must be text, not a list or a mapping"),
    (ONE + "x: " + "[" * 1000 + "]" * 1000 + "\n", r"s.yaml: this nests too deeply .*"),
    (ONE + "x: &a [*a]\n", r"s.yaml:6: this nests too deeply or repeats an alias too often; .*"),
    (
        ONE + "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
        r"s.yaml:\d+: this nests too deeply or repeats an alias too often; .*",
    ),
    (ONE + "x: {<<: {a: 1}}\n", r"s.yaml:6: merge keys \(<<\) are not supported; .*"),
    (
        HEAD + "methods:\n  - {metod: fp32, options: {}}\n",
        r"s.yaml:6: 'methods\[0\]' has several keys and none is 'method', did you mean 'method'\?; .*",
    ),
    (HEAD + "methods:\n  - {graham: 4}\n", r"s.yaml:6: the options of 'methods\[0\]' must be a mapping; .*"),
    # protocols
    (
        HEAD + "methods:\n  - method: fp32\n    train: {epochs: 3}\n    because: so\n",
        r"s.yaml:7: 'train' of one method needs 'protocol: paper'; .*",
    ),
    (
        "protocol: paper\n" + HEAD + "methods:\n  - method: fp32\n    train: {epochs: 3}\n",
        r"s.yaml:7: a method's own 'train' needs a 'because' line that says why",
    ),
    (
        "protocol: paper\n" + HEAD + "methods:\n  - method: fp32\n    because: so\n",
        r"s.yaml:7: 'because' explains a 'train' section, and this entry has none",
    ),
    (
        "protocol: paper\n" + HEAD + "methods:\n  - method: fp32\n    train: {epoch: 3}\n    because: so\n",
        r"s.yaml:8: unknown key 'epoch' in 'methods\[0\].train', did you mean 'epochs'\?",
    ),
    # profiles
    (ONE + "profiles: {quick: {name: x}}\n", r"s.yaml:6: profile 'quick' cannot change 'name'"),
    (ONE + "profiles: {quick: 3}\n", r"s.yaml:6: 'profiles.quick' must be a mapping of keys to values, not 3"),
    (ONE + "profiles: {quick: {seeds: []}}\n", r"s.yaml:6: 'seeds' must not be empty"),
    # plugins
    (HEAD + "methods: [./gone.py]\n", r"s.yaml:5: plugin file gone.py does not exist"),
    (HEAD + "methods: [./mine.py]\n", r"s.yaml:5: mine.py has several methods; name one as file.py:name; known: .*"),
    (HEAD + "methods: ['./mine.py:mime']\n", r"s.yaml:5: mine.py has no method 'mime', did you mean 'mine'\?"),
    (HEAD + "methods: ['./mine.py:none']\n",
     r"s.yaml:5: .*method 'none' \(.*mine.py:\d+\) must return a qbench.Recipe, not int"),
    (HEAD + "methods: ['./mine.py:broken']\n",
     r"s.yaml:5: method 'broken' \(.*\) fails: ZeroDivisionError: division by zero \(mine.py, line \d+\)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[message[:60] for _, message in MISTAKES])
def test_a_mistake_is_one_sentence_with_file_and_line(write, tmp_path, text, message):
    file = write(text)
    with pytest.raises(InputError) as caught:
        load_suite(file)
    said = str(caught.value)
    assert re.fullmatch(message, said), said
    assert "\n" not in said
    assert caught.value.exit_code == 2
    assert not (tmp_path / "hacked").exists()


def test_an_unknown_suite_names_the_nearest(write):
    with pytest.raises(UnknownNameError, match=r"^unknown suite 'smok', did you mean 'smoke'\? \(a suite file of your"):
        load_suite("smok")


def test_a_missing_file_is_named(write):
    with pytest.raises(SuiteError, match=r"^suite file none/s.yaml does not exist; built-in suites: .*smoke"):
        load_suite("none/s.yaml")


def test_a_directory_is_no_suite(write, tmp_path):
    (tmp_path / "d.yaml").mkdir()
    with pytest.raises(
        SuiteError, match=r"^suite file d.yaml cannot be read: Is a directory; name a YAML file that can be read$"
    ):
        load_suite("d.yaml")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: Path(path).symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_would_be_read_without_end_is_refused(write, tmp_path, make):
    make(tmp_path / "s.yaml")
    with pytest.raises(
        SuiteError, match=r"^suite file s.yaml cannot be read: Not a regular file; name a YAML file that"
    ):
        load_suite("s.yaml")


def test_other_encodings_are_refused(write, tmp_path):
    (tmp_path / "s.yaml").write_bytes("name: größe\n".encode("latin-1"))
    with pytest.raises(SuiteError, match=r"^suite file s.yaml is not UTF-8 text \(byte 8\); save it as UTF-8$"):
        load_suite("s.yaml")


def test_an_unknown_profile_names_the_nearest(write, base):
    file = write(base + "profiles: {quick: {seeds: [0]}}\n")
    with pytest.raises(UnknownNameError, match=r"^s.yaml: unknown profile 'quik', did you mean 'quick'\?$"):
        load_suite(file, profile="quik")


def test_a_profile_of_a_suite_without_profiles(write, base):
    with pytest.raises(UnknownNameError, match=r"^s.yaml: unknown profile 'quick'; known: none$"):
        load_suite(write(base), profile="quick")


def test_a_plugin_that_does_not_import(write, base, tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(PluginError, match=r"^s.yaml:7: plugin file bad.py does not import: ModuleNotFoundError: "):
        load_suite(write(base.replace("fp32", "./bad.py")))


OVERRIDES = [
    (Overrides(epochs=0), r"--epochs: 'train.epochs' must be at least 1, not 0"),
    (Overrides(seeds=()), r"--seeds: 'seeds' must not be empty"),
    (Overrides(seeds=(1, 1)), r"--seeds: seed 1 stands twice in 'seeds'; keep one"),
    (Overrides(seeds=(-1,)), r"--seeds: 'seeds\[0\]' must be at least 0, not -1"),
    (Overrides(arithmetic="exact"), r"--arithmetic: 'arithmetic' must be 'simulated' or 'integer', not \"exact\""),
    (Overrides(methods=("grahm",)), r"-m: unknown method 'grahm', did you mean 'graham'\?"),
    (Overrides(methods=("graham[bit=3]",)), r"-m: method 'graham' has no option 'bit', did you mean 'bits'\?"),
    (Overrides(methods=("graham[bits=0]",)), r"-m: method 'graham', option 'bits': .*, not 0"),
    (
        Overrides(methods=("fp32", "fp32")),
        r"-m: 'fp32' is already at -m; remove one of the two, or give the method of a file another name if they differ",
    ),
    (Overrides(methods=("./gone.py:x",)), r"-m: plugin file gone.py does not exist"),
]


@pytest.mark.parametrize(("overrides", "message"), OVERRIDES, ids=[message[:50] for _, message in OVERRIDES])
def test_a_mistake_on_the_command_line_names_its_option(write, base, overrides, message):
    with pytest.raises(InputError) as caught:
        load_suite(write(base), overrides=overrides)
    assert re.fullmatch(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("overrides", [Overrides(methods=("caf\udce9.py",)), Overrides(data_root=Path("caf\udce9"))])
def test_a_path_that_records_could_not_name_is_refused(write, overrides):
    with pytest.raises(InputError, match=r"caf\udce9(.py)?: this name is not UTF-8 text"):
        load_suite(write(ONE), overrides=overrides)

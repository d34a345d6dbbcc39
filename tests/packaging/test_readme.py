"""README.md shows the tables of the reference runs, not any typed by hand, and its examples run as they stand."""

import csv
import importlib.util
import re
import statistics
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from readme import README, code_block

from qbench.report.files import write_file
from qbench.store import RunManifest, Store
from qbench.store.manifest import slot

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from synthetic_records import make_record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def refresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "results/reference/refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_holds_the_reference_tables(refresh: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text()
    assert refresh.with_table(readme, ROOT / "results/reference/digits") == readme
    assert refresh.with_speeds(readme, refresh.SPEEDS) == readme


def test_the_reference_follows_from_its_cells() -> None:
    """Accuracies and differences, whoever edited one of the files."""
    folder = ROOT / "results/reference/digits"
    cells, methods = (
        list(csv.DictReader((folder / name).read_text().splitlines())) for name in ("cells.csv", "methods.csv")
    )
    top1: dict[str, dict[str, float]] = {}
    for cell in cells:
        top1.setdefault(cell["label"], {})[cell["seed"]] = float(cell["top1"])
    assert sorted(top1) == sorted(row["label"] for row in methods)
    printed = (folder / "methods.md").read_text().replace("\\_", "_")
    for row in methods:
        seeds = top1[row["label"]]
        mean, deviation = statistics.mean(seeds.values()), statistics.stdev(seeds.values())
        assert [float(row["top1"]), float(row["top1_sd"])] == pytest.approx([mean, deviation], rel=1e-9)  # ten digits
        shown = rf"^\| {row['label']}( \[\d+\])* \| (\*\*)?{mean:.2f} ± {deviation:.2f}"
        assert re.search(shown, printed, re.MULTILINE), row["label"]
        if row["label"] != "fp32":
            difference = statistics.mean(value - top1["fp32"][seed] for seed, value in seeds.items())
            assert float(row["top1_difference"]) == pytest.approx(difference, rel=1e-9, abs=1e-9)


def test_what_the_examples_write_is_not_taken_for_a_part_of_the_checkout() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    written = re.findall(
        r"--out(?:put)? ([\w./-]+)|save_checkpoint\(\w+, \"([\w.]+)\"|`(mine\.py)`|run (mine\.yaml)", README
    )
    names = sorted({name for found in written for name in found if name})
    assert {"mine.py", "mine.yaml", "digits.npz", "table.md", "sample", "gpu.json"} <= set(names)
    # With a slash, because a directory that is not there is no directory to git.
    shown = subprocess.run(
        ["git", "-C", ROOT, "check-ignore", *(name if "." in name else f"{name}/" for name in names)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [name.rstrip("/") for name in shown.stdout.split()] == names


NOT_TAKEN = {
    "nothere": "there are no results at ",
    "results": " is no results directory of qbench",
    "results/reference/bench/none.json": "none.json cannot be read: No such file or directory; name a file",
    "results/reference/digits/machine.json": "benchmarks are kept; move it there",
}


@pytest.mark.parametrize(("path", "message"), NOT_TAKEN.items())
def test_what_cannot_be_a_reference_is_refused(
    refresh: ModuleType, path: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (ROOT / "README.md").read_text()
    assert refresh.main(str(ROOT / path)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert (ROOT / "README.md").read_text() == before


@pytest.mark.parametrize("flaw", ["changed", "waiting", "uncommitted"])
def test_a_run_that_is_not_as_it_ended_is_no_reference(
    refresh: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flaw: str
) -> None:
    run, records = tmp_path / "run", [make_record("fp32", seed) for seed in (0, 1)]
    store = Store.open(run, "digits", create=True)
    store.recover()
    store.begin(
        RunManifest(
            suite="digits", run="r", resolved={}, conditions="c", measures={}, environment={},
            cells={record.key: slot(record.cell) for record in records},
        )
    )  # fmt: skip
    for record in records[flaw == "waiting" :]:
        qbench = {"version": "0.1.0", "commit": "c0ffee", "dirty": flaw == "uncommitted" and record is records[1]}
        store.put(record.model_copy(update={"environment": {**record.environment, "qbench": qbench}}))
    for name in refresh.KEPT:
        write_file(run / name, name)
    store.seal()
    monkeypatch.setattr(refresh, "HOME", tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    if flaw == "changed":
        assert refresh.main(str(run)) == 0
        (file, _) = (run / "records").iterdir()
        file.write_text(file.read_text().replace("99.0", "99.9"))
    assert refresh.main(str(run)) == 2
    said = {
        "changed": "is not what a run wrote",
        "waiting": "some of its cells have not run",
        "uncommitted": "was trained by sources that no commit holds",
    }
    assert said[flaw] in capsys.readouterr().err


def test_a_table_without_the_columns_of_the_readme_is_refused(
    refresh: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.json").write_text(
        '{"rows": [{"subject": "step", "section": "speed", "against": "x", "ratio": null}]}'
    )
    monkeypatch.setattr(refresh, "SPEEDS", tmp_path / "speeds.json")
    assert refresh.main(str(tmp_path / "odd.json")) == 2
    assert "is no table of benchmarks with float32, AVX2" in capsys.readouterr().err


def test_one_thing_is_taken_at_a_time(refresh: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert refresh.main() == 2
    assert "one of them" in capsys.readouterr().err


@pytest.mark.slow
def test_training_loop_of_ones_own_runs(tmp_path: Path) -> None:
    printed = run(code_block("python", "save_checkpoint"), tmp_path)
    accuracy, *manifest = printed.splitlines()
    found = re.fullmatch(r"([0-9.]+) % of 297 right", accuracy)
    assert found and float(found[1]) > 85  # a tenth by chance
    assert manifest and all(line.endswith(" integer") for line in manifest)
    # 28,960 weights of a byte each, and the norms and headers beside them.
    assert 29_000 < (tmp_path / "digits.npz").stat().st_size < 45_000


@pytest.mark.slow
def test_kernels_run_as_shown(tmp_path: Path) -> None:
    shown = code_block("python", "conv2d_s8")
    checks = """
exact = torch.nn.functional.conv2d(x.double(), w.double(), stride=2, padding=1)
assert y.dtype == torch.int32 and y.shape == (8, 32, 16, 16) and torch.equal(y.double(), exact)
# 256 steps for 256 codes: with the zero point rounded, the largest value lies up to 1.5 steps beyond the last code.
assert codes.dtype == torch.uint8 and error.abs().max() < 1.51 * scale and error.mean().abs() < scale / 50
"""
    run(shown + checks, tmp_path)


def run(program: str, folder: Path) -> str:
    """What a program prints that runs in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

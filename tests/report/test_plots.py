"""Which files a run's plots are, and what is drawn in none."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
from drawn_plots import figure_of, measured, together, with_curve, words, written
from PIL import Image
from synthetic_records import make_measure, make_record, small_run

from qbench.cell import Status
from qbench.errors import UnknownNameError
from qbench.report.aggregate import method_table
from qbench.report.plots import PLOTS, find_plot, write_plots


def test_every_plot_is_a_picture_and_the_same_bytes_again(tmp_path: Path) -> None:
    first = written(tmp_path / "a", *small_run())
    assert sorted(first) == sorted(
        f"{p.name}.{suffix}" for p in PLOTS.values() if not p.extra for suffix in ("png", "svg")
    )
    for name, content in first.items():
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    with Image.open(tmp_path / "a" / "accuracy.png") as picture:
        assert picture.width > 800
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 20  # not blank
    assert written(tmp_path / "b", *small_run()) == first


def test_svg_carries_no_date(tmp_path: Path) -> None:
    content = written(tmp_path, *small_run(), "accuracy")["accuracy.svg"].decode()
    assert "<dc:date>" not in content


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    assert list(written(tmp_path, *small_run(), "curves")) == ["curves.png", "curves.svg"]


def test_one_method_one_seed(tmp_path: Path) -> None:
    assert len(written(tmp_path, [make_record()], [make_measure(train_ms=(60.0,), simulated=False)])) == 8


def test_many_methods_with_all_that_can_go_wrong(tmp_path: Path) -> None:
    labels = [
        "fp32",
        "bf16",
        *(f"graham[bits={bits}]" for bits in range(2, 10)),
        "strange $_{method}$ | with a long name",
    ]
    records = [make_record(label, seed, 98.0 + 0.1 * seed) for label in labels for seed in range(3)]
    records += [
        make_record("r", 0, 61.0),
        make_record("sr", 0, None, status=Status.DIVERGED, diverged_step=3, epochs=1),
        make_record("wageubn", 0, None, status=Status.ERROR, message="boom", epochs=0),
    ]
    measures = [make_measure(label, simulated=label not in {"fp32", "bf16"}) for label in [*labels, "r", "sr"]]
    assert len(written(tmp_path, records, measures)) == 8


def test_nothing_to_show_is_told_and_not_drawn(tmp_path: Path) -> None:
    records = [make_record("fp32", 0, None, status=Status.ERROR, epochs=0)]
    drawn = write_plots(records, [], tmp_path)
    assert drawn.paths == ()
    assert drawn.skipped[0] == "accuracy: no cell finished with an accuracy"
    assert len(drawn.skipped) == 4


def test_file_names_carry_the_setting_where_there_are_several(tmp_path: Path) -> None:
    records = [make_record(model="mlp"), make_record(model="resnet8", model_options={"width": 8})]
    names = {path.name for path in write_plots(records, [], tmp_path, only=["accuracy"]).paths}
    assert {"accuracy-mlp-digits-cpu.png", "accuracy-resnet8-width=8-digits-cpu.png"} < names


def test_unknown_plot() -> None:
    with pytest.raises(UnknownNameError, match="unknown plot 'acuracy', did you mean 'accuracy'"):
        find_plot("acuracy")


@pytest.mark.parametrize("name", ["accuracy", "curves", "speed"])
@pytest.mark.parametrize("top1", [0.0, 100.0])
def test_no_axis_names_an_accuracy_below_0_or_above_100(name: str, top1: float) -> None:
    records = [with_curve(record, val_top1=[top1] * 5) for record in together(fp32=top1, sr=top1)]
    axes = figure_of(name, records, measured("fp32", "sr")).axes[0]
    ticks = axes.get_xticks() if name == "accuracy" else axes.get_yticks()
    assert len(ticks) > 1
    assert all(0 <= tick <= 100 for tick in ticks)


def test_a_baseline_that_was_not_run_is_refused_as_by_the_table(tmp_path: Path) -> None:
    records = [make_record("fp32"), make_record("banner8")]
    with pytest.raises(UnknownNameError, match="no method 'fp33' in this run, did you mean 'fp32'") as plots:
        write_plots(records, [], tmp_path, baseline="fp33")
    with pytest.raises(UnknownNameError) as table:
        method_table(records, [], baseline="fp33")
    assert str(plots.value) == str(table.value)
    assert list(tmp_path.iterdir()) == []


def test_the_baseline_is_mentioned_where_it_is_drawn() -> None:
    records = [make_record("banner8"), make_record("sr", top1=98.0)]
    assert "dashed" not in words(figure_of("accuracy", records))
    assert "dashed: sr" in words(figure_of("accuracy", records, baseline="sr"))
    failed = make_record("fp32", 0, None, status=Status.ERROR, epochs=0)
    assert "dashed" not in words(figure_of("accuracy", [*records, failed]))
    assert "dashed" not in words(figure_of("accuracy", [make_record("fp32")]))


def test_the_callers_matplotlib_is_left_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    write_plots(*small_run(), tmp_path, only=["speed"])
    assert dict(mpl.rcParams) == before

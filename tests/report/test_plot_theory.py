"""Pictures of experiments."""

from __future__ import annotations

import pytest

from qbench.report.plots.style import plot_style
from qbench.report.plots.theory import draw as draw_theory
from qbench.theory.findings import Panel, Picture
from qbench.theory.findings import Series as Points


@pytest.mark.parametrize("x_scale", ["linear", "log", "log2"])
@pytest.mark.parametrize("y_scale", ["linear", "log"])
def test_a_logarithmic_axis_of_an_experiment_is_called_one(x_scale: str, y_scale: str) -> None:
    series = {"label": "SR", "role": "sr", "x": (1, 2), "y": (0.1, 0.2)}
    panel = {"x_label": "spacing", "y_label": "loss", "series": [series], "x_scale": x_scale, "y_scale": y_scale}
    picture = Picture.model_validate({"name": "loss", "title": "loss", "columns": 1, "panels": [panel]})
    with plot_style():
        (axes,) = draw_theory(picture).axes
    assert axes.get_xlabel() == ("spacing" if x_scale == "linear" else "spacing (log scale)")
    assert axes.get_ylabel() == ("loss" if y_scale == "linear" else "loss (log scale)")


def test_names_stand_on_an_axis_that_counts_nothing() -> None:
    series = tuple(
        Points(label=name, role="range", x=(float(index),), y=(0.1,), style="points")
        for index, name in enumerate(("paper, 1 chunk", "code, 16 chunks"))
    )
    panel = Panel(x_label="constant and number of chunks", y_label="points", series=series, x_scale="names")
    with plot_style():
        (axes,) = draw_theory(Picture(name="range", title="norms", columns=1, panels=(panel,))).axes
    assert list(axes.get_xticks()) == [0.0, 1.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["paper,\n1 chunk", "code,\n16 chunks"]
    assert axes.get_xlabel() == "constant and number of chunks"


def test_a_long_title_of_an_experiment_is_not_cut() -> None:
    panel = Panel(x_label="updates", y_label="share", series=(Points(label="SR", role="sr", x=(1.0,), y=(0.1,)),))
    picture = Picture(name="noise", title="binary weights that differ " * 4, columns=1, panels=(panel,))
    with plot_style():
        figure = draw_theory(picture)
        title = next(text for text in figure.texts if "binary" in text.get_text())
        assert title.get_window_extent().x1 < figure.bbox.x1


def test_points_of_one_rule_differ_in_their_markers() -> None:
    steps = (
        Points(label=f"SR, step {step}", role="sr", x=(1.0, 2.0), y=(0.1, 0.2), style="points") for step in (0.1, 0.02)
    )
    panel = Panel(x_label="spacing", y_label="loss", series=tuple(steps))
    with plot_style():
        (axes,) = draw_theory(Picture(name="quadratic", title="loss", columns=1, panels=(panel,))).axes
    assert len({line.get_marker() for line in axes.get_lines()}) == 2
    assert {line.get_markerfacecolor() for line in axes.get_lines()} == {"none"}

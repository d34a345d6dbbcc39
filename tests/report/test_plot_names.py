"""Names, titles, fonts, colours and labels in the plots."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
from drawn_plots import figure_of
from matplotlib.text import Annotation, Text
from synthetic_records import make_measure, make_record, small_run

from qbench.catalog import methods
from qbench.cell import MeasureRecord, Record
from qbench.report.plots import write_plots
from qbench.report.plots.fonts import families, undrawable
from qbench.report.plots.labels import Label, place_labels
from qbench.report.plots.names import columns, shortened
from qbench.report.plots.style import looks, new_figure, plot_style

LONG = [
    "fp32",
    "方" * 200,
    "$a_{" * 60,
    *(f"mine[{'option=0.125,' * 20}bits={bits},{'option=0.5,' * 20}]" for bits in (4, 5)),
]


def long_run(*, seeds: int = 3) -> tuple[list[Record], list[MeasureRecord]]:
    """Methods whose names are far too long, one of them far below the others."""
    records = [make_record(label, seed, 99 - 0.2 * i) for i, label in enumerate(LONG) for seed in range(seeds)]
    records += [make_record("r", 0, 61.0)]
    return records, [make_measure(label, (60.0 + i,), peak=10**7 + i * 10**6) for i, label in enumerate([*LONG, "r"])]


def test_long_names_are_cut_in_the_middle_and_told_apart() -> None:
    short = shortened(LONG)
    assert short[:2] == ["fp32", "方" * 12 + "…" + "方" * 11]
    assert all(columns(name) <= 48 for name in short)
    assert "bits=4" in short[3]
    assert "bits=5" in short[4]
    assert shortened(["a" * 30, "a" * 30, "b" * 49]) == ["a" * 30, "a" * 30, "b" * 24 + "…" + "b" * 23]
    hard = ["a" * 50 + middle + "a" * 50 for middle in ("", "b", "b" + "a" * 60 + "c")]
    assert len(set(shortened(hard))) == 3


@pytest.mark.filterwarnings("error")
def test_long_and_foreign_names_draw_without_a_warning(tmp_path: Path) -> None:
    drawn = write_plots(*long_run(), tmp_path)
    assert len(drawn.paths) == 8
    assert drawn.skipped == ()
    if "方" in undrawable("方fp32"):
        assert drawn.note.startswith("no font here has 方: pictures show boxes in their place")
    assert write_plots(*small_run(), tmp_path).note == ""


def test_only_fonts_that_are_installed_are_asked() -> None:
    assert families()[0] == "DejaVu Sans"
    assert undrawable("fp32[bits=4] … ± ↓") == ""
    assert undrawable("\U0010fffd" * 2) == "\U0010fffd"


def test_long_names_stay_in_their_places() -> None:
    for name in ("speed", "memory"):
        (axes,) = figure_of(name, *long_run()).axes
        frame = axes.get_window_extent()
        for text in (child for child in axes.texts if isinstance(child, Annotation)):
            box = Text.get_window_extent(text)
            assert frame.x0 - 1 <= box.x0
            assert box.x1 <= frame.x1 + 1
    curves = figure_of("curves", *long_run())
    assert all(not curves.legends[0].get_window_extent().overlaps(axes.get_window_extent()) for axes in curves.axes)
    accuracy = figure_of("accuracy", *long_run())
    assert min(label.get_window_extent().x0 for label in accuracy.axes[0].get_yticklabels()) >= 0


def test_a_caption_does_not_touch_the_title_of_a_tall_picture() -> None:
    axes = figure_of("accuracy", [make_record(f"graham[bits={bits}]") for bits in range(40)]).axes[0]
    caption = next(text for text in axes.texts if "diamond" in text.get_text())
    title = next(text for text in axes.findobj(Text) if "accuracy by method" in text.get_text())
    assert not caption.get_window_extent().overlaps(title.get_window_extent())


def test_a_family_keeps_its_colour_and_its_members_differ() -> None:
    few = looks([("graham", "graham[bits=2]")])
    many = looks([("fp32", "fp32"), ("mine", "mine"), ("graham", "graham[bits=2]"), ("graham", "graham[bits=3]")])
    assert few["graham[bits=2]"].color == many["graham[bits=2]"].color
    assert len({(look.color, look.dash) for look in many.values()}) == 4


def test_every_method_of_qbench_has_a_colour_of_its_own_in_every_picture() -> None:
    names = [entry.name for entry in methods() if entry.origin.startswith("qbench.methods.")]
    together = looks([(name, name) for name in names])
    assert {name: looks([(name, name)])[name].color for name in names} == {n: k.color for n, k in together.items()}
    strangers = looks([(f"mine{index}", f"mine{index}") for index in range(20)])
    assert len({look.color for look in together.values()} - {look.color for look in strangers.values()}) == len(names)


def test_families_that_share_a_colour_differ_in_their_lines() -> None:
    many = looks([("fp32", "fp32")] + [(f"mine{index}", f"mine{index}") for index in range(20)])
    assert len({(look.color, look.dash) for look in many.values()}) == 21


def test_labels_do_not_cover_each_other() -> None:
    with plot_style():
        figure = new_figure(6, 4)
        axes = figure.subplots()
        axes.set(xlim=(0, 10), ylim=(0, 10))
        points = [(5 + 0.1 * (i % 3), 5 + 0.1 * (i // 3)) for i in range(9)]
        placed = place_labels(axes, [Label(x, y, f"method {i}", "black") for i, (x, y) in enumerate(points)])
        boxes = [super(type(text), text).get_window_extent() for text in placed]
    overlaps = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert fmean(overlaps) == 0


def test_a_label_leaves_the_end_of_a_bar_to_be_seen() -> None:
    with plot_style():
        figure = new_figure(6, 4)
        axes = figure.subplots()
        axes.set(xlim=(0, 10), ylim=(0, 10))
        label, ends = Label(5, 5, "bf16", "black"), [(5, 5.4), (5.4, 5.0), (4.6, 5.0)]
        (near,), (clear,) = (place_labels(axes, [label], ends=of) for of in (ends[1:], ends))
        places = [super(type(text), text).get_window_extent() for text in (near, clear)]
    end = axes.transData.transform(ends[0])
    assert places[0].contains(*end)
    assert not places[1].contains(*end)

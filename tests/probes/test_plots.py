"""Pictures of what probes recorded: which there are, what they say, and values that are no ordinary numbers."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))

from synthetic_records import make_record

from qbench.cell import ProbeChoice, ProbeSeries, Record, Status
from qbench.cli.overview import _observed
from qbench.report.entries import gather
from qbench.report.plots import PLOTS, probes, write_plots
from qbench.report.plots.observed import observations
from qbench.report.plots.scene import scenes
from qbench.report.plots.style import plot_style

LAYERS = ("classifier", "stages.10.conv", "stages.2.conv", "stem.conv")
INF, NAN = math.inf, math.nan


def series(probe: str, quantity: str, path: str, rows: list[list[float | None]]) -> list[ProbeSeries]:
    return [
        ProbeSeries(probe=probe, quantity=quantity, layer=layer, path=path, values=tuple(values))
        for layer, values in zip(LAYERS, rows, strict=False)
    ]


def record(label: str, seed: int, found: list[ProbeSeries]) -> Record:
    made = make_record(label, seed)
    return made.model_copy(update={"outcome": made.outcome.model_copy(update={"probes": tuple(found)})})


@pytest.fixture(scope="module")
def records() -> list[Record]:
    angles = [[1.0, 2.0, 3.0], [4.0, NAN, 6.0], [7.0, 8.0, 9.0], [10.0, 20.0, 30.0]]
    change = [[None, 0.5, -1.0]] * 4
    found = []
    for seed in (0, 1):
        shifted = [[value + seed for value in row] for row in angles]
        own = series("cosine", "angle", "error", shifted) + series("cosine", "angle", "wgrad_error", angles[:2])
        ratio = series("sqnr", "sqnr", "weight", [[INF, INF, INF], [-INF, 1.0, 2.0], [5.0, 6.0, 7.0]])
        found.append(record("banner8", seed, own + ratio + series("drift", "scale_change", "activation", change)))
        found.append(record("$_{x}$[a=1]", seed, series("cosine", "angle", "error", angles)))
    return [*found, make_record("fp32", 0)]


def figures(records: list[Record]) -> dict[str, Figure]:
    with plot_style():
        return dict(probes.draw(scenes(gather(records, []), "fp32")[0]))


@pytest.fixture(scope="module")
def pictures(records: list[Record]) -> dict[str, Figure]:
    return figures(records)


def words(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    return [*found, figure.get_suptitle(), *(axes.get_ylabel() for axes in figure.axes)]


def test_a_heat_map_per_quantity_and_data_path_and_curves_per_quantity(pictures: dict[str, Figure]) -> None:
    assert list(pictures) == [
        "probe-cosine-angle-error", "probe-cosine-angle-curves", "probe-sqnr-weight", "probe-sqnr-curves",
        "probe-drift-scale_change-activation", "probe-drift-scale_change-curves",
    ]  # fmt: skip


def test_heat_map_says_what_it_shows(pictures: dict[str, Figure]) -> None:
    figure = pictures["probe-cosine-angle-error"]
    found = words(figure)
    for expected in (
        "resnet8 on digits: angle between used and exact tensor", "E: error; mean over 2 seeds; grey: no value",
        "angle [degrees]", "banner8", r"\$_{x}\$[a=1]", "error", "wgrad_error", "epoch", *LAYERS, "1", "2", "3",
    ):  # fmt: skip
        assert expected in found, expected
    # Two paths of banner8, one of the other method, and the colour bar.
    assert len(figure.axes) == 4
    heights = {text.get_text(): text.get_position()[1] for text in figure.texts if text.get_text() in LAYERS[1:]}
    assert heights["stem.conv"] > heights["stages.2.conv"] > heights["stages.10.conv"]


def test_colours_are_means_over_seeds_and_odd_values_have_their_own(pictures: dict[str, Figure]) -> None:
    bar = pictures["probe-cosine-angle-error"].axes[-1]
    assert bar.get_ylim() == (0.0, 30.5)
    shown = np.asarray(pictures["probe-sqnr-weight"].axes[0].images[0].get_array())
    grey, blue, brown = ([int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in ("#e4e4e4", "#7fb2e5", "#b5651d"))
    assert shown[-1].tolist() == [blue] * 3  # the classifier, last
    assert shown[1, 0].tolist() == brown
    assert "light blue: infinite; brown: minus infinity" in " ".join(words(pictures["probe-sqnr-weight"]))
    change = pictures["probe-drift-scale_change-activation"]
    assert np.asarray(change.axes[0].images[0].get_array())[:, 0].tolist() == [grey] * 4
    assert change.axes[-1].get_ylim() == (-1.0, 1.0)


def test_curves_are_medians_over_layers_of_one_tensor(pictures: dict[str, Figure]) -> None:
    error, wgrad_error = drawn = pictures["probe-cosine-angle-curves"].axes
    assert [axes.get_title(loc="left") for axes in drawn] == ["E: error", "E: wgrad_error"]
    assert {(axes.get_xlabel(), axes.get_ylabel()) for axes in drawn} == {("epoch", "angle [degrees]")}
    lines = {str(line.get_label()): line for line in error.get_lines()}
    assert set(lines) == {"banner8", r"\$_{x}\$[a=1]"}
    # Epoch 1 of banner8: the means over both seeds are 1.5, 4.5, 7.5 and 10.5 and, of wgrad_error, 1 and 4.
    assert lines["banner8"].get_ydata()[0] == pytest.approx(6.0)
    assert list(lines["banner8"].get_xdata()) == [1, 2, 3]
    assert [line.get_ydata()[0] for line in wgrad_error.get_lines()] == pytest.approx([2.5])
    note = "infinite ones, as where nothing is lost, are not drawn"
    assert note in " ".join(words(pictures["probe-sqnr-curves"]))
    assert "layers without a value left out" in " ".join(words(pictures["probe-cosine-angle-curves"]))


def test_a_median_takes_in_the_layers_that_lose_nothing() -> None:
    """At epoch 1 most layers lose nothing, at epoch 2 half of them, at epoch 3 one."""
    rows: list[list[float | None]] = [[INF, INF, INF], [INF, INF, 30.0], [INF, 20.0, 20.0], [10.0, 10.0, 10.0]]
    (axes,) = figures([record("wage", 0, series("sqnr", "sqnr", "activation", rows))])["probe-sqnr-curves"].axes
    (line,) = axes.get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([3], [25.0])


def test_a_method_that_loses_nothing_has_no_line() -> None:
    rows: list[list[float | None]] = [[INF], [INF], [10.0]]
    (axes,) = figures([record("wage", 0, series("sqnr", "sqnr", "activation", rows))])["probe-sqnr-curves"].axes
    assert list(axes.get_lines()) == []


def test_curves_stand_in_the_order_of_the_data_paths() -> None:
    found = [s for path in ("update", "norm_error", "weight") for s in series("cosine", "cosine", path, [[0.5, 0.6]])]
    panels = figures([record("fp32", 0, found)])["probe-cosine-curves"].axes
    assert [axes.get_title(loc="left") for axes in panels] == ["W: weight", "E: norm_error", "U: update"]


def test_the_name_beside_a_colour_bar_is_not_cut_where_its_numbers_are_long() -> None:
    values: list[list[float | None]] = [[0.9999991, 0.9999995]]
    figure = figures([record("fp32", 0, series("cosine", "cosine", "weight", values))])["probe-cosine-weight"]
    figure.draw_without_rendering()
    assert figure.axes[-1].yaxis.label.get_window_extent().x1 < figure.bbox.x1


def test_files_are_written_and_are_the_same_bytes_again(tmp_path: Path) -> None:
    one = [record("fp32", 0, series("cosine", "angle", "update", [[1.0, 2.0]]))]
    first, again = (write_plots(one, [], tmp_path / folder, only=["probes"]) for folder in ("a", "b"))
    assert first.skipped == ()
    assert [path.name for path in first.paths] == [
        f"probe-cosine-angle-{what}.{suffix}" for what in ("update", "curves") for suffix in ("png", "svg")
    ]
    assert first.paths[0].read_bytes().startswith(b"\x89PNG")
    assert [path.read_bytes() for path in again.paths] == [path.read_bytes() for path in first.paths]


def test_without_probes_there_is_a_sentence_only_where_they_were_asked_for(tmp_path: Path) -> None:
    plain = [make_record()]
    asked = write_plots(plain, [], tmp_path, only=["probes"])
    assert asked.paths == ()
    assert asked.skipped[0].startswith("probes: no probe was recorded; ask for some with 'probes:'")
    unasked = [plot for plot in PLOTS.values() if not plot.extra]
    assert "probes" not in {plot.name for plot in unasked}


def test_one_epoch_is_a_point(tmp_path: Path) -> None:
    single = [record("fp32", 0, series("cosine", "cosine", "update", [[0.5]]))]
    figure = figures(single)["probe-cosine-curves"]
    assert figure.axes[0].get_lines()[0].get_marker() == "o"
    assert "one seed" in " ".join(words(figure))


def test_an_axis_names_the_options_of_its_probe() -> None:
    made = record("fp32", 0, series("weight_change", "sign_since_k", "weight", [[0.5, 0.25]]))
    cell = made.cell.model_copy(update={"probes": (ProbeChoice(name="weight_change", options={"k": 3}),)})
    pictures = figures([made.model_copy(update={"cell": cell})])
    for figure in pictures.values():
        assert "sign since k = 3 [share]" in words(figure)
        assert "resnet8 on digits: weights whose sign changed since 3 epochs ago" in words(figure)


def test_methods_observed_with_other_options_have_pictures_of_their_own() -> None:
    found = []
    for label, k in (("fp32", 3), ("sr", 5)):
        observed = series("weight_change", "sign_since_k", "weight", [[0.1 * k]])
        made = record(label, 0, observed + series("weight_change", "sign_since_start", "weight", [[0.5]]))
        choice = ProbeChoice(name="weight_change", options={"k": k})
        found.append(made.model_copy(update={"cell": made.cell.model_copy(update={"probes": (choice,)})}))
    pictures = figures(found)
    curves = {
        f"probe-weight_change-{name}-curves" for name in ("sign_since_k-k=3", "sign_since_k-k=5", "sign_since_start")
    }
    assert {name for name in pictures if name.endswith("curves")} == curves
    for label, k in (("fp32", 3), ("sr", 5)):
        figure = pictures[f"probe-weight_change-sign_since_k-k={k}-curves"]
        assert f"resnet8 on digits: weights whose sign changed since {k} epochs ago" in words(figure)
        (line,) = figure.axes[0].get_lines()
        assert (line.get_label(), list(np.asarray(line.get_ydata()))) == (label, [pytest.approx(0.1 * k)])


def test_a_picture_of_one_panel_has_no_empty_side() -> None:
    found = figures([record("fp32", 0, series("cosine", "cosine", "update", [[0.5, 0.6, 0.7]]))])
    panel, bar = found["probe-cosine-update"].axes
    assert bar.get_position().x1 > 0.85
    assert panel.get_position().width > 0.5


def test_a_long_title_stays_in_the_picture_and_says_what_is_shown() -> None:
    made = record("fp32", 0, series("weight_change", "sign_since_start", "weight", [[0.5, 0.6]]))
    options = {f"option{index}": index for index in range(20)}
    cell = made.cell.model_copy(update={"model_options": options})
    for figure in figures([made.model_copy(update={"cell": cell})]).values():
        title = next(text for text in figure.texts if text.get_text() == figure.get_suptitle())
        assert "\N{HORIZONTAL ELLIPSIS}" in title.get_text()
        assert title.get_text().endswith(" on digits: weights whose sign changed since the start")
        assert title.get_window_extent().x1 < figure.bbox.x1


def test_a_title_is_not_cut_where_the_picture_can_be_wider() -> None:
    for figure in figures([record("fp32", 0, series("drift", "scale_change", "weight", [[None, 0.5]]))]).values():
        title = next(text for text in figure.texts if text.get_text() == figure.get_suptitle())
        assert title.get_text() == "resnet8 on digits: change of the quantiser's step since the epoch before"
        assert title.get_window_extent().x1 < figure.bbox.x1


@pytest.mark.parametrize(
    ("probe", "quantity", "value"),
    [("clipping", "clipped", 0.0), ("updates", "wanted", 1.0), ("weight_change", "code_since_start", 1.0),
     ("cosine", "cosine", 1.0), ("cosine", "angle", 0.0)],
)  # fmt: skip
@pytest.mark.parametrize("other", [0.0, 0.5, 0.96])  # 0.04 to 1: a tick of 1.0000000000000002
def test_no_number_on_an_axis_is_impossible(probe: str, quantity: str, value: float, other: float) -> None:
    found = figures([record("fp32", 0, series(probe, quantity, "update", [[value, abs(value - other)]]))])
    (axes,) = found[next(name for name in found if name.endswith("-curves"))].axes
    low, high = axes.get_ylim()
    assert low < value < high  # the line is not on the frame
    possible = {"cosine": (-1.0, 1.0), "angle": (0.0, 180.0)}.get(quantity, (0.0, 1.0))
    assert any(tick == pytest.approx(value) for tick in axes.get_yticks())
    assert [tick for tick in axes.get_yticks() if not possible[0] <= tick <= possible[1] + 1e-9] == []


def test_epochs_of_a_heat_map_are_labelled_first_and_last() -> None:
    found = figures([record("fp32", 0, series("cosine", "cosine", "update", [[0.5] * 20]))])
    numbers = [text.get_text() for text in found["probe-cosine-update"].texts if text.get_text().isdigit()]
    assert numbers == ["1", "5", "10", "15", "20"]


def test_show_says_which_probes_are_recorded(records: list[Record]) -> None:
    assert list(_observed(records)) == [
        "probes: cosine in 4 cells, drift in 2 cells, sqnr in 2 cells; 'qbench plot' draws them"
    ]
    assert list(_observed([make_record()])) == []


def test_curves_name_a_method_that_begins_with_an_underscore() -> None:
    found = [record(label, 0, series("cosine", "angle", "error", [[1.0, 2.0]])) for label in ("_mine", "fp32")]
    (legend,) = figures(found)["probe-cosine-angle-curves"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["fp32", "_mine"]


def test_means_are_of_the_seeds_that_finished_unless_none_did() -> None:
    def ended(seed: int, status: Status, values: list[float | None]) -> Record:
        made = record("banner8", seed, series("cosine", "angle", "error", [values]))
        return made.model_copy(update={"outcome": made.outcome.model_copy(update={"status": status})})

    def means(*found: Record) -> list[float]:
        (scene,) = scenes(gather(found, []), "fp32")
        return observations(scene).groupby("epoch")["value"].mean().to_list()

    diverged = ended(1, Status.DIVERGED, [80.0, 90.0])
    killed = ended(2, Status.KILLED, [70.0])
    assert means(ended(0, Status.OK, [1.0, 2.0, 3.0]), diverged, killed) == [1.0, 2.0, 3.0]
    assert means(diverged, killed) == [80.0, 90.0]

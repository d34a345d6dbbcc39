"""Every format against its golden file, byte for byte. A wanted change is read in the diff and committed with it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from synthetic_records import make_measure, make_record, small_run

from qbench.cell import Status
from qbench.errors import UnknownNameError
from qbench.report.aggregate import method_table
from qbench.report.cells import cells_frame
from qbench.report.grid import Column, Entry, Grid, cells_grid, method_grids
from qbench.report.render import FORMATS, find_format, latex, markdown, terminal

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", list(FORMATS))
def test_method_table_is_byte_stable(name: str) -> None:
    form = FORMATS[name]
    assert form.methods(method_table(*small_run())) == (GOLDEN / f"methods{form.suffix}").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(FORMATS))
def test_cells_table_is_byte_stable(name: str) -> None:
    form = FORMATS[name]
    assert form.cells(cells_frame(*small_run())) == (GOLDEN / f"cells{form.suffix}").read_text(encoding="utf-8")


def test_csv_holds_the_figures_in_full() -> None:
    rows = {
        row["label"]: row for row in csv.DictReader(io.StringIO(FORMATS["csv"].methods(method_table(*small_run()))))
    }
    assert float(rows["banner8"]["top1"]) == 98.75
    assert rows["banner8"]["train_speed_ratio_simulated"] == "True"
    assert rows["wageubn"]["train_images_per_s"] == ""


def test_json_states_unit_and_direction() -> None:
    content = json.loads(FORMATS["json"].methods(method_table(*small_run())))
    columns = {column["name"]: column for column in content["columns"]}
    assert columns["peak_train_bytes"] == {
        "name": "peak_train_bytes",
        "unit": "bytes",
        "better": "lower",
        "spread": "half_range",
        "description": "largest live tensor storage in a training step",
    }
    assert content["rows"][0]["figures"]["top1"]["n"] == 3


def test_sim_stands_in_every_speed_and_memory_cell_of_a_simulation() -> None:
    grid = method_grids(method_table(*small_run()))[0]
    banner = next(row for row in grid.rows if row[0].text == "banner8")
    marked = {column.title for column, entry in zip(grid.columns, banner, strict=True) if entry.simulated}
    assert marked == {"training", "inference", "peak memory", "saved", "model", "optimizer"}
    assert any(sentence.startswith("sim:") for sentence in grid.legend)


def test_kernels_are_told_once_where_all_are_the_same_and_by_method_where_not() -> None:
    records = [make_record(label) for label in ("fp32", "banner8", "r", "sr")]
    alike, other = ("cpp (avx2)",), ("numba", "reference")

    def grid(kernels_of_sr: tuple[str, ...], *, simulated: bool = False) -> Grid:
        measures = [make_measure("fp32", simulated=False)]
        measures += [make_measure(label, kernels=alike, simulated=False) for label in ("banner8", "r")]
        measures += [make_measure("sr", kernels=kernels_of_sr, simulated=simulated)]
        return method_grids(method_table(records, measures))[0]

    same = grid(alike)
    assert "kernels: cpp (avx2)." in same.legend and not same.notes
    mixed = grid(other)
    assert {"kernels: cpp (avx2) (banner8, r).", "kernels: numba, reference (sr)."} <= set(mixed.legend)
    (note,) = mixed.notes
    assert "reference kernels" in note
    assert {row[0].text: row[0].marks for row in mixed.rows} == {"fp32": (), "banner8": (), "r": (), "sr": (1,)}
    assert not grid(other, simulated=True).notes  # it is no speed of its own anyway


def test_the_machine_is_told_once_where_all_are_the_same_and_by_method_where_not() -> None:
    here = {"cpu": {"model": "CPU A", "cores": 2}, "worker_threads": 1, "memory_bytes": 2**30, "python": "3.12.1",
            "libraries": {"torch": "2.13.0"}, "qbench": {"version": "0.1.0"}}  # fmt: skip
    there, odd = {**here, "gpus": [{"name": "GPU B"}, 3]}, {"cpu": 3, "gpus": "none", "libraries": None}
    line = "CPU A, 2 cores; 1 thread per process; 1.00 GiB; torch 2.13.0, Python 3.12.1; qbench 0.1.0"

    def machines(*environments: dict[str, object]) -> list[str]:
        records = [make_record(label) for label in ("fp32", "r", "sr")]
        records = [r.model_copy(update={"environment": e}) for r, e in zip(records, environments, strict=True)]
        (grid,) = method_grids(method_table(records, [make_measure("sr", environment=here)]))
        return [sentence for sentence in grid.legend if sentence.startswith("machine")]

    assert machines(here, here, here) == [f"machine: {line}."]
    assert machines(here, odd, there) == [
        f"machine: {line} (fp32).",
        "machine: unknown CPU, ? cores; torch ?, Python ?; qbench ? (r).",
        f"machine: {line.replace('1.00 GiB; ', '1.00 GiB; GPU B; a GPU; ')}; and {line} (sr).",
    ]


def test_a_column_without_figures_is_left_out() -> None:
    titles = [column.title for column in method_grids(method_table([make_record()], []))[0].columns]
    assert titles == ["method", "top-1", "cells"]


def test_two_arithmetics_of_one_method_are_told_apart() -> None:
    records = [make_record("banner8"), make_record("banner8", arithmetic="integer")]
    names = [row[0].text for row in method_grids(method_table(records, []))[0].rows]
    assert names == ["banner8 (integer)", "banner8 (simulated)"]


NASTY = r"a|b_c*d`e<f>[bold red]g[/](h)\i{j}$k&l#m%n^o~p"


def nasty_grid() -> Grid:
    return Grid(NASTY, (Column(NASTY),), ((Entry(NASTY, best=True),),), (NASTY,), (NASTY,))


def test_markdown_shows_user_strings_as_they_are() -> None:
    line = next(line for line in markdown.render([nasty_grid()]).splitlines() if line.startswith("| **"))
    assert line == r"| **a\|b\_c\*d\`e\<f\>[bold red]g[/]\(h)\\i{j}\$k\&l#m%n^o\~p** |"


def test_latex_shows_user_strings_as_they_are() -> None:
    assert latex.escape(NASTY) == (
        r"a\textbar{}b\_c{*}d`e\textless{}f\textgreater{}{[}bold red{]}g{[}/{]}(h)\textbackslash{}i\{j\}\$k\&l\#m\%n"
        r"\textasciicircum{}o\textasciitilde{}p"
    )


def test_latex_joins_no_characters_and_needs_no_other_font_encoding() -> None:
    assert latex.escape("a--b---c ''d'' ``e`` f?`") == "a-{}-b-{}-{}-c '{}'d'{}' `{}`e`{}` f?{}`"
    # \textquotedbl would stop LaTeX without T1 fonts.
    assert latex.escape('"') == r"\texttt{\char34}"


def test_terminal_shows_user_strings_as_they_are() -> None:
    assert terminal.plain([nasty_grid()]).count(NASTY) == 5


def test_control_characters_cannot_reach_the_terminal() -> None:
    table = method_table([make_record("x\x1b[2J\r\ny"), make_record("fp32")], [])
    text = FORMATS["terminal"].methods(table)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "x [2J  y" in text


def test_a_wide_table_is_split_for_a_narrow_screen() -> None:
    grids = method_grids(method_table(*small_run()))
    narrow, wide = (terminal.for_screen(grids, width) for width in (80, 400))
    assert wide.count("bf16") == 1
    assert narrow.count("bf16") >= 3
    assert all(part.count("bf16") <= 1 for part in narrow.split("\n\n"))
    assert "\x1b[1;32m98.93 ± 0.15\x1b[0m" in narrow


def test_a_screen_without_styles_gets_the_same_columns_and_a_star() -> None:
    grids = method_grids(method_table(*small_run()))
    styled, bare = (terminal.for_screen(grids, 80, styles=styles) for styles in (True, False))
    assert "\x1b" not in bare
    assert "98.93 ± 0.15*" in bare
    assert bare.count("\n") == styled.count("\n")


def test_parts_of_a_split_table_of_cells_repeat_method_and_seed() -> None:
    grid = cells_grid(cells_frame(*small_run()), ["method", "top1", "seed", "loss"])
    assert [(column.title, column.right) for column in grid.columns if column.key] == [
        ("method", False),
        ("seed", True),
    ]


def test_the_best_value_is_visible_without_colours() -> None:
    assert "98.93 ± 0.15*" in terminal.plain(method_grids(method_table(*small_run())))


def test_single_seed_shows_no_spread() -> None:
    records = [make_record("fp32", top1=99.0), make_record("banner8", top1=98.5)]
    text = FORMATS["md"].methods(method_table(records, [make_measure("fp32", (64.0,))]))
    assert "| banner8 | 98.50 | \N{MINUS SIGN}0.50 | 1 ok |" in text
    assert "One seed gives no spread" in text


def test_unknown_format() -> None:
    with pytest.raises(UnknownNameError, match="unknown table format 'latx', did you mean 'latex'"):
        find_format("latx")


def test_equal_differences_stand_without_an_interval_and_it_is_said() -> None:
    records = [
        make_record(label, seed, top1 - seed) for label, top1 in (("fp32", 99.0), ("sr", 98.0)) for seed in (0, 1)
    ]
    text = FORMATS["md"].methods(method_table(records, []))
    assert "| sr | 97.50 ± 0.71 | \N{MINUS SIGN}1.00 | 2 ok |" in text
    assert "Equal differences at all seeds give no interval." in text
    assert "Equal differences" not in FORMATS["md"].methods(method_table(*small_run()))


@pytest.mark.parametrize("seeds", [(1, 2), (0,)])
def test_a_single_pair_of_seeds_has_no_interval_and_it_is_said(seeds: tuple[int, ...]) -> None:
    records = [make_record("fp32", seed, 99.0 + seed) for seed in (0, 1)]
    records += [make_record("sr", seed, 98.0 + seed) for seed in seeds]
    text = FORMATS["md"].methods(method_table(records, []))
    assert "One seed gives no spread, and one pair of seeds no interval." in text
    assert "One seed" not in FORMATS["md"].methods(method_table(*small_run()))


def test_a_carriage_return_makes_no_row_of_csv() -> None:
    records = [make_record("a\rb"), make_record("fp32", 0, None, status=Status.ERROR, message="10 %\r20 %\r\nfailed")]
    methods = list(csv.DictReader(io.StringIO(FORMATS["csv"].methods(method_table(records, [])), newline="")))
    assert [row["label"] for row in methods] == ["fp32", "a\nb"]
    cells = list(csv.DictReader(io.StringIO(FORMATS["csv"].cells(cells_frame(records, [])), newline="")))
    assert [row["message"] for row in cells] == ["10 %\n20 %\nfailed", ""]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-gelu", "@SUM(A1)", "\t=1+1"])
def test_no_text_of_csv_is_a_formula_and_numbers_stay_numbers(text: str) -> None:
    records = [
        make_record("fp32"),
        make_record(text, top1=97.0),
        make_record("r", 1, None, status=Status.ERROR, message=text),
    ]
    methods = list(csv.DictReader(io.StringIO(FORMATS["csv"].methods(method_table(records, [])), newline="")))
    assert f"'{text}" in [row["label"] for row in methods]
    assert [row["top1_difference"] for row in methods if row["label"] == f"'{text}"] == ["-2"]
    cells = list(csv.DictReader(io.StringIO(FORMATS["csv"].cells(cells_frame(records, [])), newline="")))
    for column in ("label", "message"):
        assert f"'{text}" in [row[column] for row in cells]
    assert text in [row["label"] for row in json.loads(FORMATS["json"].methods(method_table(records, [])))["rows"]]


def test_only_accuracies_say_over_how_many_seeds_they_are() -> None:
    measure = make_measure(train_ms=(64.0, 60.0), simulated=False)
    assert "(n=" not in FORMATS["md"].methods(method_table([make_record()], [measure]))

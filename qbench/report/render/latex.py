"""LaTeX with booktabs: ``\\usepackage{booktabs}`` and nothing else is needed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.report.grid import Column, Entry, Grid

_ARROWS = {"higher": " $\\uparrow$", "lower": " $\\downarrow$", None: ""}
_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", '"': r"\texttt{\char34}", "[": "{[}", "]": "{]}", "*": "{*}",
        "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MINUS SIGN}": "$-$", "\N{MULTIPLICATION SIGN}": r"$\times$",
        "\N{GREEK CAPITAL LETTER DELTA}": r"$\Delta$", "\N{EN DASH}": "--", "\N{UPWARDS ARROW}": r"$\uparrow$",
        "\N{DOWNWARDS ARROW}": r"$\downarrow$", "\0": "{}",
    }
)  # fmt: skip
# TeX draws these with the character that follows as one: a dash, a closing quote, an upside-down question mark.
_LIGATURES = re.compile(r"([-'`,])(?=\1)|[?!](?=`)")


def render(grids: list[Grid]) -> str:
    """Each grid as a ``table`` with a caption, its footnotes and its legend."""
    return "\n".join(_grid(grid) for grid in grids)


def escape(text: str) -> str:
    """``text`` as LaTeX that prints exactly these characters."""
    return _LIGATURES.sub("\\g<0>\0", text).translate(_ESCAPES)


def _grid(grid: Grid) -> str:
    alignment = "".join("r" if column.right else "l" for column in grid.columns)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(grid.title)}}}",
            rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            _line([escape(column.title) for column in grid.columns]),
            _line([_unit(column) for column in grid.columns]),
            r"\midrule",
            *(_line([_entry(entry) for entry in row]) for row in grid.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *_below(grid),
            r"\end{table}",
            "",
        ]
    )


def _below(grid: Grid) -> list[str]:
    notes = [rf"\textsuperscript{{{number}}} {escape(note)}" for number, note in enumerate(grid.notes, 1)]
    lines = [*notes, *(escape(sentence) for sentence in grid.legend)]
    return [r"\par\smallskip\footnotesize", *(rf"{line}\par" for line in lines)] if lines else []


def _line(entries: list[str]) -> str:
    return " & ".join(entries) + r" \\"


def _unit(column: Column) -> str:
    return (f"({escape(column.unit)})" if column.unit else "") + _ARROWS[column.better]


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    bold = rf"\textbf{{{text}}}" if entry.best else text
    marks = rf"\textsuperscript{{{','.join(map(str, entry.marks))}}}" if entry.marks else ""
    return bold + (r" \textit{sim}" if entry.simulated else "") + marks

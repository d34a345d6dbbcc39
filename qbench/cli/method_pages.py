"""The pages of the built-in methods, made from what their files declare: ``qbench list methods --docs DIR``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.cli.datapaths import data_paths
from qbench.errors import InputError

if TYPE_CHECKING:
    from qbench.plugin import Method

COMMAND = "qbench list methods --docs docs/methods"
INDEX = "README.md"
# The sentences by which a page is known as made here, each at the end of a line of its own.
_INDEX_IS_MADE = f"Made by `{COMMAND}` from the files in `methods/`."
_PAGE_IS_MADE = f"; this page is made by `{COMMAND}`."


def write_pages(folder: Path) -> list[Path]:
    """Write all pages into ``folder`` and remove those of methods that are gone; the paths written.

    Only pages that this function wrote are replaced or removed. Raises InputError, before anything is written, where
    another file has the name of a page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = {folder / name: text for name, text in method_pages().items()}
    there = {path: _is_made_here(path) for path in folder.glob("*.md")}
    for path in pages:
        if not there.get(path, True):
            raise InputError(f"--docs: {path} was not written by qbench; move it away or choose another directory")
    for path in there.keys() - pages.keys():
        if there[path]:
            path.unlink()
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return list(pages)


def _is_made_here(path: Path) -> bool:
    if not path.is_file():
        return False
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line == _INDEX_IS_MADE or line.endswith(_PAGE_IS_MADE) for line in lines)


def method_pages() -> dict[str, str]:
    """File name to text: an index, and one page per built-in method."""
    methods = _built_in()
    return {INDEX: _index(methods), **{f"{method.name}.md": _page(method) for method in methods}}


def _built_in() -> list[Method]:
    from qbench.catalog import methods

    return [entry.load() for entry in methods() if entry.origin.startswith("qbench.methods.")]


def _index(methods: list[Method]) -> str:
    lines = [
        "# Methods", "", _INDEX_IS_MADE, "",
        "| method | paper | what it does |", "| :--- | :--- | :--- |",
    ]  # fmt: skip
    lines += [f"| [{m.name}]({m.name}.md) | {_paper(m)} | {cell(m.summary)} |" for m in methods]
    return "\n".join(lines) + "\n"


def _page(method: Method) -> str:
    lines = [f"# {method.name}", "", method.summary, ""]
    if method.paper:
        lines += [f"Paper: {_paper(method)}. ", ""]
    lines += [f"Defined in `methods/{method.source_file.name}`{_PAGE_IS_MADE}", ""]
    lines += ["## Data paths", "", *_tables(method), "## Options", "", *_options(method)]
    if method.presets:
        lines += ["## Presets", "", *_presets(method)]
    if method.deviations:
        lines += ["## Where it departs from the paper", "", *(f"* {text}" for text in method.deviations), ""]
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _paper(method: Method) -> str:
    kind, _, number = (method.paper or "").partition(":")
    return f"[{method.paper}](https://arxiv.org/abs/{number})" if kind == "arXiv" else method.paper or "none"


def _tables(method: Method) -> Iterator[str]:
    """The data paths with default options, and with each preset that changes them."""
    seen: list[list[str]] = []
    presets: dict[str, dict[str, object]] = {f"Preset `{name}`": {"preset": name} for name in method.presets}
    for title, options in {"Default options": {}, **presets}.items():
        rows = [f"| {row.path} | {row.slot} | {cell(row.format)} |" for row in data_paths(method.build(options))]
        if rows in seen:
            yield from (f"{title}: as with default options." if rows == seen[0] else f"{title}: as above.", "")
            continue
        seen.append(rows)
        yield from (f"{title}:", "", "| path | slot | format |", "| :--- | :--- | :--- |", *rows, "")


def _options(method: Method) -> Iterator[str]:
    if not method.options:
        yield from ("None.", "")
        return
    yield from ("| option | values | default |", "| :--- | :--- | :--- |")
    yield from (f"| {option.name} | {cell(option.type)} | {option.default} |" for option in method.options)
    yield ""
    yield from (" ".join(method.explanation.split()), "")


def _presets(method: Method) -> Iterator[str]:
    for name, values in method.presets.items():
        yield f"* `{name}`: {', '.join(f'{key} {value}' for key, value in values.items())}"
    yield ""


def cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    return text.replace("|", "\\|")

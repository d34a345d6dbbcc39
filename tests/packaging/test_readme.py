"""README.md shows the table of the reference run, not one typed by hand."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_readme_holds_the_reference_table() -> None:
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "results/reference/refresh.py")
    assert spec is not None
    assert spec.loader is not None
    refresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refresh)
    readme = (ROOT / "README.md").read_text()
    assert refresh.with_table(readme, ROOT / "results/reference/digits") == readme

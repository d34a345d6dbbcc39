"""The data sets under test, each in its smallest form, in a cache of their own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from qbench.data import Dataset, load_dataset, registry, write_sample_imagenet


class Case(NamedTuple):
    """A data set as the tests load it."""

    name: str
    options: Mapping[str, object]
    root: Path | None

    def load(self) -> Dataset:
        return load_dataset(self.name, root=self.root, options=self.options)


# Options that make a data set small. A new data set is one line here.
SMALL: dict[str, dict[str, object]] = {
    "digits": {},
    "glyphs": {"num_train": 96, "num_validation": 32, "num_test": 48},
    "imagenet": {"image_size": 32, "validation_fraction": 0.34},
}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache directory that belongs to the tests."""
    with pytest.MonkeyPatch.context() as patch:
        base = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(base))
        yield base / "qbench"


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample in ImageNet's layout."""
    root = tmp_path_factory.mktemp("tree")
    write_sample_imagenet(root, classes=3, train_per_class=6, val_per_class=2)
    return root


@pytest.fixture(scope="session", params=registry.names())
def case(request: pytest.FixtureRequest, tree: Path) -> Case:
    """Every data set of the registry."""
    return Case(request.param, SMALL[request.param], tree if registry.get(request.param).needs_root else None)


@pytest.fixture(scope="session")
def dataset(case: Case) -> Dataset:
    """The same, loaded."""
    return case.load()

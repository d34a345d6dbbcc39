"""Options of the benchmarks, and the one table that all of them fill."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from bench_table import BenchTable, Row, is_tiny, require
from kernel_race import keep_freed_memory
from torch_settings import threads

TABLE = pytest.StashKey[BenchTable]()
SAVED = Path(__file__).parents[2] / "results" / "reference" / "bench"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only seen where the folder of the benchmarks is named on the command line, as ``make bench`` does."""
    group = parser.getgroup("qbench benchmarks")
    group.addoption("--assert-targets", action="store_true", help="fail where a ratio surely misses its bound")
    group.addoption("--any-cpu", action="store_true", help="measure also what this CPU is not held to")
    group.addoption(
        "--save-bench", action="store_true", help="write the table to results/reference/bench/CPU-LEVEL.json"
    )
    group.addoption("--bench-rounds", type=int, default=15, help="rounds of a comparison of whole steps")
    group.addoption("--bench-threads", type=int, default=0, help="threads of every side; default: PyTorch's choice")
    group.addoption("--random-bits", choices=("philox", "hash"), default="philox", help="of stochastic rounding")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = BenchTable()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Shows a row and adds it to the table at the end of the session; where asked, fails if it misses its bound."""
    terminal: Any = request.config.pluginmanager.get_plugin("terminalreporter")

    def add(*rows: Row) -> None:
        request.config.stash[TABLE].rows.extend(rows)
        for row in rows:  # the whole takes most of an hour, and may be cut short
            terminal.write_line(f"{row.section}: {' | '.join(row.cells())}; {row.detail}")
        if request.config.getoption("--assert-targets", default=False):
            require(rows)

    return add


@pytest.fixture
def num_threads(request: pytest.FixtureRequest) -> int:
    """Threads of every side of a comparison."""
    return int(request.config.getoption("--bench-threads", default=0)) or torch.get_num_threads()


@pytest.fixture
def steady(num_threads: int) -> Iterator[None]:
    """That many threads, and memory that stays with the process."""
    keep_freed_memory()
    with threads(num_threads):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[TABLE]
    if not table.rows:
        return
    terminalreporter.write_line("")
    terminalreporter.write_line(table.render(max(160, terminalreporter._tw.fullwidth)))
    if config.getoption("--save-bench", default=False) and not is_tiny(config):
        from qbench.environment import environment
        from qbench.kernels import cpu

        level = cpu.levels()[-1] if cpu.available() else "no kernels"
        terminalreporter.write_line(f"written: {table.save(SAVED, environment(), level)}")

"""How much of its CPUs a measurement had to share."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from qbench.environment import num_cores
from qbench.train import crowding
from qbench.train.crowding import SHORTEST_S, Reading, share_taken

START = Reading(10.0, 100.0, 5.0)


@pytest.mark.parametrize(
    ("all_work", "own_work", "num_threads", "cores", "share"),
    [
        (8.0, 8.0, 4, 4, 0.0),
        (9.0, 7.0, 4, 4, 0.25),  # of 2 seconds on 4 CPUs others had 2 CPU seconds: one CPU
        (3.0, 1.0, 1, 4, 0.0),  # one thread, and others on the CPUs that it leaves free
        (7.0, 1.0, 2, 4, 0.5),  # 3 CPUs for others, 1 for 2 threads
        (8.0, 0.0, 4, 4, 1.0),
        (20.0, 0.0, 4, 4, 1.0),
        (1.0, 1.1, 4, 4, 0.0),  # the system counts more coarsely than the process
    ],
)
def test_share(all_work: float, own_work: float, num_threads: int, cores: int, share: float) -> None:
    end = Reading(START.clock + 2.0, START.all_work + all_work, START.own_work + own_work)
    assert share_taken(START, end, num_threads, cores) == pytest.approx(share)


def test_a_moment_is_too_short() -> None:
    end = Reading(START.clock + SHORTEST_S / 2, START.all_work + 4, START.own_work)
    assert share_taken(START, end, 2, 2) is None


def test_a_system_that_hides_its_work_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(percpu: bool) -> None:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(crowding.psutil, "cpu_times", hidden)
    end = Reading.now()
    assert share_taken(Reading(end.clock - 2.0, end.all_work, end.own_work), end, 2, 2) is None


@pytest.mark.slow
def test_processes_at_work_are_seen() -> None:
    """As many as there are CPUs; what this machine does besides can only add to them."""
    spin = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _ in range(num_cores())]
    try:
        time.sleep(0.5)  # they start
        before = Reading.now()
        time.sleep(1.0)
        taken = share_taken(before, Reading.now(), num_cores())
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert taken is not None and taken > 0.9


def test_own_work_is_not_others() -> None:
    before = Reading.now()
    while time.perf_counter() < before.clock + 2 * SHORTEST_S:
        os.getpid()
    after = Reading.now()
    assert after.own_work - before.own_work <= after.clock - before.clock + 0.01
    assert after.all_work >= before.all_work

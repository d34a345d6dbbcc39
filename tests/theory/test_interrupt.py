"""Ctrl-C ends a theory run, whichever of its threads the system gives the signal to."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

RUN = """
import json, signal, sys, threading, time
from pathlib import Path
from qbench.suite.theory import load_theory_suite
from qbench.theory.runner import run_theory

suite, out = sys.argv[1], Path(sys.argv[2])

def interrupt():
    while not list(out.glob("logs/*")):
        time.sleep(0.02)
    time.sleep(0.5)
    IN_THREAD

threading.Thread(target=interrupt, daemon=True).start()
worker = [sys.executable, "-c", "import time; time.sleep(600)"]
summary = run_theory(load_theory_suite(suite), out, worker=worker)
print(json.dumps([summary.finished, summary.interrupted, summary.exit_code]))
"""
SUITE = "name: mine\nkind: theory\nexperiments:\n  pure_noise:\n"


@pytest.mark.parametrize("thread", ["threading.get_ident()", "threading.main_thread().ident"])
def test_an_interrupt_ends_the_run(thread, tmp_path):
    (tmp_path / "s.yaml").write_text(SUITE)
    program = RUN.replace("IN_THREAD", f"signal.pthread_kill({thread}, signal.SIGINT)")
    command = [sys.executable, "-c", program, tmp_path / "s.yaml", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (json.loads(done.stdout), done.stderr) == ([0, True, 130], "")

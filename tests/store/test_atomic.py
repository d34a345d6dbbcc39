"""A file is there whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from qbench.atomic import write_atomic

WRITER = """
import sys
from pathlib import Path
from qbench.atomic import write_atomic
path, number = Path(sys.argv[1]), 0
while True:
    number += 1
    write_atomic(path, (f"{number} " * 20000).encode())
"""


def test_the_content_replaces_what_was_there(tmp_path):
    file = tmp_path / "f"
    write_atomic(file, b"old")
    write_atomic(file, b"new")
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_files_are_as_readable_as_any_other(tmp_path):
    write_atomic(tmp_path / "ours", b"")
    (tmp_path / "plain").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step):
    def fail(*arguments):
        raise OSError(5, "Input/output error")

    file = tmp_path / "f"
    write_atomic(file, b"old")
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(type(file), "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_content_and_name_reach_the_disk_in_this_order(tmp_path, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, type(tmp_path).replace

    def fsync(descriptor):
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        steps.append(f"{os.fstat(descriptor).st_size} bytes" if is_file else "directory")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(type(tmp_path), "replace", lambda a, b: (steps.append("rename"), real_replace(a, b)))
    write_atomic(tmp_path / "f", b"content")
    assert steps == ["7 bytes", "rename", "directory"]


def test_a_reader_never_sees_a_part_even_when_the_writer_is_killed(tmp_path):
    file = tmp_path / "f"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)])
    try:
        end = time.monotonic() + 60
        seen = set()
        while len(seen) < 5 and time.monotonic() < end:
            if file.exists():
                seen.add(file.read_text())
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    seen.add(file.read_text())
    assert len(seen) >= 5
    for content in seen:
        words = content.split()
        assert len(words) == 20000
        assert len(set(words)) == 1

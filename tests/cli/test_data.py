"""``qbench data``."""

from __future__ import annotations

from pathlib import Path

from verbs import qbench, refused


def test_data_info() -> None:
    lines = qbench("data", "info", "digits").stdout.splitlines()
    assert lines[1] == "10 classes, 1 x 8 x 8"
    assert lines[4].startswith("test: 400 items, fingerprint ")
    assert "did you mean 'digits'" in refused("data", "info", "digit")


def test_data_prepare() -> None:
    assert qbench("data", "prepare", "digits").stdout.startswith("digits is ready: 1197 training items")
    assert "looked in" in refused("data", "prepare", "imagenet", "--data", "nowhere")


def test_data_sample(tmp_path: Path) -> None:
    out = tmp_path / "tree"
    counts = ("--classes", "2", "--train-per-class", "2", "--val-per-class", "1")
    assert qbench("data", "sample", "imagenet", "--out", str(out), *counts).exit_code == 0
    assert len(list(out.rglob("*.JPEG"))) == 6
    assert "never overwrites" in refused("data", "sample", "imagenet", "--out", str(out))
    assert refused("data", "sample", "cifar", "--out", str(out)) == "there is no sample of 'cifar'; known: imagenet"

"""The small parts of a training run: plan, losses, fingerprints, progress, device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from qbench.data import Dataset
from qbench.errors import DataError, DeviceError
from qbench.train.device import find_device, float_kernels
from qbench.train.fingerprint import OrderHash, eval_sha, init_sha
from qbench.train.losses import DivergedError, LossLog
from qbench.train.plan import make_plan, require_items
from qbench.train.progress import Progress, Reporter
from qbench.train.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np


class Items:
    """A split that is only its fingerprint and its size."""

    decodes = False

    def __init__(self, sha: str, size: int = 1) -> None:
        self.sha, self.size = sha, size

    def __len__(self) -> int:
        return self.size

    def batch(self, indices: np.ndarray, augment: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError

    def content_sha(self) -> str:
        return self.sha


# --- plan ---


def test_plan_drops_the_incomplete_batch() -> None:
    plan = make_plan(TrainSettings(batch_size=64, epochs=3), 1197)
    assert (plan.batch_size, plan.steps_per_epoch, plan.total_steps) == (64, 18, 54)


def test_plan_clips_the_batch_to_the_data() -> None:
    plan = make_plan(TrainSettings(batch_size=128), 100)
    assert (plan.batch_size, plan.steps_per_epoch) == (100, 1)


def test_plan_cuts_an_epoch_short() -> None:
    assert make_plan(TrainSettings(batch_size=10, max_steps_per_epoch=4), 1000).steps_per_epoch == 4
    assert make_plan(TrainSettings(batch_size=10, max_steps_per_epoch=400), 1000).steps_per_epoch == 100


@pytest.mark.parametrize("name", ["training", "validation", "test"])
def test_an_empty_split_is_one_clear_message(name: str) -> None:
    sizes = {"training": 1, "validation": 1, "test": 1} | {name: 0}
    splits = [Items("", size) for size in sizes.values()]
    dataset = Dataset("holes", 10, 1, 8, *splits, source="")
    with pytest.raises(DataError, match=f"data set 'holes' has no {name} items"):
        require_items(dataset)


# --- losses ---


def add(log: LossLog, losses: list[float]) -> None:
    for step, loss in enumerate(losses):
        log.add(step, torch.tensor(loss))


def test_the_mean_starts_anew_each_epoch() -> None:
    log = LossLog(torch.device("cpu"))
    add(log, [1.0, 3.0])
    assert log.take_mean() == 2
    add(log, [5.0])
    assert (log.take_mean(), log.newest) == (5, 5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_on_the_cpu_the_bad_step_raises_at_once(bad: float) -> None:
    log = LossLog(torch.device("cpu"))
    add(log, [1.0, 2.0])
    with pytest.raises(DivergedError) as caught:
        log.add(2, torch.tensor(bad))
    assert caught.value.step == 2


@pytest.mark.parametrize("bad_step", [0, 7, 15, 16, 20])
def test_losses_read_in_groups_name_the_first_bad_step(bad_step: int) -> None:
    log = LossLog(torch.device("cuda"))  # nothing is asked of it
    assert log.interval == 16
    losses = [1.0] * bad_step + [math.nan] * (21 - bad_step)

    def run() -> None:
        add(log, losses)
        log.take_mean()

    with pytest.raises(DivergedError) as caught:
        run()
    assert caught.value.step == bad_step


def test_losses_read_in_groups_have_the_same_mean() -> None:
    log = LossLog(torch.device("cpu"))
    log.interval = 4
    add(log, [1.0, 2.0, 3.0, 4.0, 10.0])
    assert log.take_mean() == 4


# --- fingerprints ---


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_init_sha_is_of_names_and_values() -> None:
    sha = init_sha(linear())
    assert sha == init_sha(linear())
    assert len(sha) == 16
    changed = linear()
    with torch.no_grad():
        changed.weight[0, 0] += 1
    assert init_sha(changed) != sha
    assert init_sha(nn.Sequential(linear())) != sha, "another name, the same values"


def test_init_sha_does_not_depend_on_the_memory_format() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    sha = init_sha(conv)
    assert init_sha(conv.to(memory_format=torch.channels_last)) == sha  # type: ignore[call-overload]


def test_init_sha_takes_any_dtype() -> None:
    assert init_sha(linear().bfloat16()) != init_sha(linear())


def test_eval_sha_changes_with_either_split_and_with_the_cut() -> None:
    shas = {
        eval_sha(Items("a"), Items("b"), None),
        eval_sha(Items("b"), Items("a"), None),
        eval_sha(Items("a"), Items("c"), None),
        eval_sha(Items("a"), Items("b"), 10),
    }
    assert len(shas) == 4
    assert eval_sha(Items("a"), Items("b"), 10) in shas


def test_order_hash_is_of_the_sequence() -> None:
    def of(*draws: bytes) -> str:
        order = OrderHash()
        for draw in draws:
            order.update(draw)
        return order.hexdigest()

    assert of(b"1", b"2") == of(b"1", b"2")
    assert of(b"1", b"2") != of(b"2", b"1")
    assert of(b"1") != of(b"1", b"2")


# --- progress ---


def test_reports_come_no_faster_than_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    sent: list[Progress] = []
    reporter = Reporter(sent.append, min_interval_s=0.25)
    for step in range(101):
        now = 100 + step / 100
        if reporter.due():
            reporter.send(Progress(1, 1, step, 101, None, None))
    assert [progress.step for progress in sent] == [0, 25, 50, 75, 100]


# --- device ---


def test_the_cpu_is_there() -> None:
    assert find_device("cpu") == torch.device("cpu")


def test_an_absent_gpu_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert find_device("cuda:0").index == 0
    with pytest.raises(DeviceError, match=r"device 'cuda:1' is not here: PyTorch \S+ sees 1 GPUs"):
        find_device("cuda:1")


def test_a_misspelt_device_is_one_clear_message() -> None:
    with pytest.raises(DeviceError, match="device 'gpu' is not one PyTorch knows"):
        find_device("gpu")


def test_float_kernels_leaves_the_switches_as_they_were() -> None:
    def switches() -> tuple[bool, bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = switches()
    with float_kernels(reproducible=True):
        assert switches() == (True, False, False, False)
    with float_kernels(reproducible=False):
        assert switches() == (False, True, False, False)
    assert switches() == before

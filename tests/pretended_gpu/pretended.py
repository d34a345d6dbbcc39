"""Trains a method on a pretended GPU and says where that differs from the CPU: ``pretended.py LIBRARY METHOD``.

LIBRARY: device.cpp, compiled. It has to be there before PyTorch, so this is a program of its own. The kernels of the
pretended GPU are the reference; those of CUDA have tests of their own.
"""

from __future__ import annotations

import copy
import ctypes
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    ctypes.CDLL(sys.argv[1])
sys.path.insert(0, str(Path(__file__).parent.parent))

import graphs
import torch
from recorded_steps import CONFIGURATIONS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qbench.catalog import find_method
from qbench.kernels import backends
from qbench.nn import CapturedStep, Converted, convert, load_checkpoint, save_checkpoint
from qbench.nn.capture import WARM_UP
from qbench.optim import build_optimizer
from qbench.recipe import Arithmetic, BatchRenorm, Recipe
from qbench.train.rehearsal import Rehearsed
from qbench.train.settings import OptimizerSettings

CUDA = {
    "_lazy_init": lambda: None, "is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: 1,
    "current_device": lambda: 0, "is_current_stream_capturing": lambda: False, "_exchange_device": lambda index: 0,
    "_maybe_exchange_device": lambda index: 0, **graphs.CUDA,
}  # fmt: skip
"""What is asked of torch.cuda in Python."""

STEPS, BATCH = 2, 24


def pretend() -> None:
    """Let torch.cuda say what the library makes true."""
    for name, answer in CUDA.items():
        setattr(torch.cuda, name, answer)
    of_the_host = torch.UntypedStorage.clone

    def clone(storage: torch.UntypedStorage) -> torch.UntypedStorage:
        """PyTorch makes none of a device that it was not built for; copies of tensors want it."""
        if storage.device.type == "cpu":
            return of_the_host(storage)
        return torch.empty(0, dtype=torch.uint8, device="cuda").set_(storage).clone().untyped_storage()

    torch.UntypedStorage.clone = clone  # type: ignore[method-assign]
    backends.ORDER["cuda"] = ("reference",)


class Waits(TorchDispatchMode):
    """Notes what would make the host wait: copies between host and device, and reading a value."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if graphs.waits(func, args, kwargs, result):
            self.found.append(str(func))
        return result


class Training:
    """A small network under a recipe, on one device."""

    def __init__(self, recipe: Recipe, arithmetic: Arithmetic, rule: str, device: str, *, moved_later: bool = False):
        torch.manual_seed(0)
        model = Rehearsed().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        converted = convert(model if moved_later else model.to(device), recipe, arithmetic=arithmetic)
        if moved_later:
            converted.model.to(device)
        converted.clock.total_steps = 2 * STEPS
        self.converted, self.device = converted, device
        settings = OptimizerSettings(name=rule, lr=0.02, weight_decay=1e-3)  # type: ignore[arg-type]
        self.optimizer = build_optimizer(converted, recipe, settings)
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(BATCH, 3, 12, 12, generator=generator).to(device)
        self.labels = torch.randint(10, (BATCH,), generator=generator).to(device)

    def train(self, steps: range) -> None:
        self.converted.model.train()
        for self.converted.clock.step in steps:
            self.optimizer.zero_grad()
            self.differentiate()
            self.optimizer.step()

    def differentiate(self) -> None:
        """The forward and the backward pass."""
        nn.functional.cross_entropy(self.converted.model(self.x), self.labels).backward()

    def train_captured(self, steps: Sequence[int]) -> None:
        """The same from a graph, behind the passes that come before a capture."""
        self.converted.model.train()
        captured = CapturedStep(self.converted, self.differentiate)
        for self.converted.clock.step in steps:
            self.optimizer.zero_grad()
            captured.replay()
            self.optimizer.step()

    def evaluated(self) -> Tensor:
        self.converted.model.eval()
        with torch.inference_mode():
            return self.converted.predict(self.x)

    def after(self, other: Training) -> Training:
        """To go on from where another training is."""
        self.converted.model.load_state_dict(copy.deepcopy(other.converted.model.state_dict()))
        self.optimizer.load_state_dict(copy.deepcopy(other.optimizer.state_dict()))
        return self


def differences(recipe: Recipe, arithmetic: Arithmetic, rule: str) -> list[str]:
    """What does not come out as on the CPU, and what waits."""

    def make(device: str, *, moved_later: bool = False) -> Training:
        return Training(recipe, arithmetic, rule, device, moved_later=moved_later)

    host, device, moved = trainings = make("cpu"), make("cuda"), make("cuda", moved_later=True)
    for training in trainings:
        training.train(range(1))  # which may wait: tables are made
    with Waits() as waits:
        device.train(range(1, STEPS))
        device.evaluated()
    host.train(range(1, STEPS))
    moved.train(range(1, STEPS))
    copied = copy.copy(device)
    copied.converted = copy.deepcopy(device.converted)
    evaluating = {
        "on the device": device, "moved when it was converted": moved, "copied": copied,
        "loaded by the CPU": loaded(device.converted, make("cpu")), "loaded": loaded(host.converted, make("cuda")),
    }  # fmt: skip
    found = [f"waits in {name}" for name in waits.found] + others(host, evaluating)
    if host.converted.manifest() != moved.converted.manifest():
        found.append("other codes in the manifest")
    resumed = {"resumed by the CPU": make("cpu").after(device), "resumed": make("cuda").after(host)}
    for training in (host, *resumed.values()):
        training.train(range(STEPS, 2 * STEPS))
    return found + others(host, resumed) + differences_of_graphs(make("cuda"), make("cuda"))


def differences_of_graphs(run: Training, captured: Training) -> list[str]:
    """What comes out otherwise where steps are replayed, each with random bits of its own."""
    run.converted.model.train()
    run.converted.clock.step = 1  # the first that notes no codes
    for _ in range(WARM_UP):
        run.differentiate()
    run.train(range(1, 2 * STEPS))
    try:
        captured.train_captured(range(1, 2 * STEPS))
    except ValueError as error:
        norm = run.converted.recipe.norm
        return [] if isinstance(norm, BatchRenorm) and "follows the number of the step" in str(error) else [str(error)]
    return others(run, {"captured": captured})


def others(host: Training, trainings: dict[str, Training]) -> list[str]:
    """Those that do not give what the one on the CPU gives."""
    wanted = host.evaluated().cpu()
    return [name for name, training in trainings.items() if not torch.equal(training.evaluated().cpu(), wanted)]


def loaded(saved: Converted, target: Training) -> Training:
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(saved, Path(folder) / "checkpoint.npz")
        load_checkpoint(target.converted, Path(folder) / "checkpoint.npz")
    return target


def is_seen() -> bool:
    """Whether a wait is found where there is one, in the backward pass too, which has a thread of its own."""

    def read(gradient: Tensor) -> None:
        gradient.max().item()

    x = torch.ones(3, device="cuda", requires_grad=True)
    x.register_hook(read)
    calls: dict[str, Callable[[], object]] = {
        "_local_scalar_dense": lambda: (x * 2).sum().backward(),
        "lift_fresh": lambda: torch.tensor(0.5, device="cuda"),
        "copy_": lambda: x.detach()[0].copy_(torch.tensor(0.5)),
        "_to_copy": x.detach().cpu,
    }
    for name, call in calls.items():
        with Waits() as waits:
            call()
        if [found.split(".")[1] for found in waits.found] != [name] or not is_refused(call):
            return False
    return True


def is_refused(call: Callable[[], object]) -> bool:
    """Whether it cannot be captured."""
    try:
        with graphs.capture(graphs.Graph()):
            call()
    except RuntimeError as error:
        return "not permitted" in str(error)
    return False


def is_drawn_anew() -> bool:
    """Whether a graph whose clock stands still gives something else: then random bits are seen to follow the clock."""
    recipe = find_method("banner8").build({})
    moving, standing = (Training(recipe, "integer", "sgd", "cuda") for _ in range(2))
    moving.train_captured(range(1, 4))
    standing.train_captured([1, 1, 1])
    return bool(others(moving, {"standing": standing}))


def is_held_back() -> bool:
    """Whether a capture is refused while a graph of an earlier step is held."""
    training = Training(find_method("fp32").build({}), "integer", "sgd", "cuda")
    loss = training.converted.model(training.x).sum()
    try:
        training.train_captured([1])
    except ValueError as error:
        return loss.requires_grad and "still held with its graph" in str(error)
    return False


def is_captured_again() -> bool:
    """Whether a step can be captured while an earlier capture of it is there, whose loss it returned."""
    training = Training(find_method("fp32").build({}), "integer", "sgd", "cuda")

    def step() -> Tensor:
        loss = nn.functional.cross_entropy(training.converted.model(training.x), training.labels)
        loss.backward()
        return loss

    first, second = (CapturedStep(training.converted, step) for _ in range(2))
    return torch.equal(first.replay(), second.replay()) and not first.result.requires_grad


def main(name: str) -> dict[str, list[str]]:
    """Differences by options, arithmetic and optimizer; only those that are not empty."""
    warnings.simplefilter("ignore")
    pretend()
    assert is_seen()
    assert is_drawn_anew()
    assert is_held_back()
    assert is_captured_again()
    method, found = find_method(name), {}
    presets = [{"preset": preset} for preset in method.presets]
    for options in [{}, *presets, *(options for owner, options in CONFIGURATIONS if owner == name and options)]:
        recipe = method.build(options)
        for arithmetic in recipe.arithmetics:
            for rule in ("sgd",) if options else ("sgd", "adam"):
                found[f"{options} {arithmetic} {rule}"] = differences(recipe, arithmetic, rule)
    return {label: texts for label, texts in found.items() if texts}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[2])))

"""The contract suite: what every method promises, built-in or a stranger's, checked on the digits data set.

Each check is a function of a :class:`Probe`; adding one to ``CHECKS`` makes every method answer it.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qbench.cell import Cell
from qbench.errors import ContractError, InputError, QbenchError, UnknownNameError
from qbench.plugin import located
from qbench.train.build import BuiltCell, build_cell
from qbench.train.device import float_kernels
from qbench.train.settings import MeasureSettings, OptimizerSettings, ScheduleSettings, TrainSettings
from qbench.train.step import InferencePass, TrainStep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qbench.plugin import Method
    from qbench.recipe import Arithmetic, Recipe

NULL_STEPS = 20
SHORT_STEPS = 4
REPLAY_STEPS = 8
"""The first is run, the next two are recorded, the rest may be replayed."""

INFERENCE_BATCHES = 3
"""They are run and recorded; seen again, they may be replayed."""

BATCH = 32


@dataclass(frozen=True)
class CheckResult:
    """One promise and whether the method keeps it; ``detail`` says what was seen."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Probe:
    """A method under test, with the short training runs that checks share.

    reference: as ``qbench.find_method`` takes it.
    """

    method: Method
    reference: str

    @cached_property
    def arithmetics(self) -> tuple[Arithmetic, ...]:
        """Those the method offers with default options, the preferred one first."""
        return self.method.build({}).arithmetics

    def cell(self, options: Mapping[str, object], reference: str | None = None) -> Cell:
        """A small cell on digits, in the method's preferred arithmetic."""
        return Cell(
            suite="contract",
            method=reference or self.reference,
            label=self.method.name,
            options=dict(options),
            model="resnet8",
            model_options={"width": 8},
            dataset="digits",
            seed=3,
            arithmetic=self.arithmetics[0],
            device="cpu",
            train=TrainSettings(
                epochs=1,
                batch_size=BATCH,
                max_steps_per_epoch=NULL_STEPS,
                optimizer=OptimizerSettings(name="sgd", lr=0.05, weight_decay=1e-4),
                schedule=ScheduleSettings(name="cosine"),
            ),
            measure=MeasureSettings(enabled=False),
        )

    @cached_property
    def default(self) -> Trace:
        """A short run with default options."""
        return run(build_cell(self.cell({})), SHORT_STEPS)

    @cached_property
    def baseline(self) -> Trace:
        """The float baseline's run."""
        return run(build_cell(self.cell({}, "fp32")), NULL_STEPS)


@dataclass(frozen=True)
class Trace:
    """Losses step by step, and the cell they came from. replayed: steps that came from a tape."""

    losses: list[float]
    built: BuiltCell
    replayed: int


def run(built: BuiltCell, steps: int, *, disturb: bool = False, replays: bool = False) -> Trace:
    """Train ``steps`` steps. disturb: use up PyTorch's global random numbers in between. replays: from a tape, where
    that can be."""
    step = TrainStep(built, replays=replays)
    built.model.train()
    losses, replayed = list[float](), 0
    with float_kernels(reproducible=True):
        for number, (images, labels) in enumerate(_batches(built, steps)):
            if disturb:
                torch.rand(number + 1)
            loss = step.forward(number, images, labels)
            losses.append(float(loss.detach()))
            step.update(loss)
            replayed += step.is_replayed
    return Trace(losses, built, replayed)


def _batches(built: BuiltCell, steps: int) -> list[tuple[Tensor, Tensor]]:
    split = built.dataset.train
    indices = [torch.arange(i * BATCH, (i + 1) * BATCH).numpy() for i in range(steps)]
    return [built.to_device(*split.batch(chosen, None)) for chosen in indices]


def check_method(method: Method, reference: str | None = None) -> list[CheckResult]:
    """Run every check on ``method``; a check that raises has failed, and its message says why.

    reference: how workers find the method again, where that is not its name (``path/to/file.py:name``).
    """
    probe = Probe(method, reference or method.name)
    return [_run_check(name, check, probe) for name, check in CHECKS.items()]


def _run_check(name: str, check: Callable[[Probe], str], probe: Probe) -> CheckResult:
    try:
        return CheckResult(name, True, check(probe))
    except QbenchError as error:
        return CheckResult(name, False, str(error))
    except (Exception, SystemExit) as error:  # a method that ends the program has not passed
        return CheckResult(name, False, located(error, probe.method.source_file))


def _documented(probe: Probe) -> str:
    """Every option is explained in the docstring."""
    text = inspect.getdoc(probe.method.function) or ""
    if not text:
        raise ContractError("the method's function has no docstring; its first line is shown in listings")
    missing = [option.name for option in probe.method.options if not _mentions(text, option.name)]
    if missing:
        raise ContractError(f"the docstring does not mention: {', '.join(missing)}")
    return f"{len(probe.method.options)} options documented"


def _mentions(text: str, name: str) -> bool:
    return any(word.strip("`.,:;()") == name for word in text.split())


def _builds(probe: Probe) -> str:
    """Default options give a recipe, twice the same, and every preset one."""
    recipe, again = probe.method.build({}), probe.method.build({})
    if recipe != again:
        way_out = (
            "; its transform is another each time: make it a function of the file, or where it needs options a frozen "
            "dataclass with __call__"
        )
        hint = way_out if recipe.transform != again.transform else ""
        raise ContractError(f"two calls with the same options return different recipes{hint}")
    for preset in probe.method.presets:
        probe.method.build({"preset": preset})
    return _formats(recipe)


def _formats(recipe: Recipe) -> str:
    paths = ("weight", "activation", "error", "wgrad_error", "branch_error", "norm_error", "gradient", "trunk")
    used = [path for path in paths if getattr(recipe, path) not in (None, "error")]
    return f"quantises {', '.join(used) or 'no operand'}; {type(recipe.norm).__name__}, {type(recipe.update).__name__}"


def _refuses(probe: Probe) -> str:
    """Unknown options and wrong types are refused."""
    bad: list[dict[str, object]] = [{"no_such_option": 1}]
    bad += [{option.name: object()} for option in probe.method.options]
    for options in bad:
        try:
            probe.method.resolve(options)
        except (InputError, UnknownNameError):
            continue
        raise ContractError(f"accepts any value for '{next(iter(options))}'; give the option a type")
    return f"{len(bad)} bad inputs refused"


def _null(probe: Probe) -> str:
    """With its null options the method reproduces the float baseline's losses bit for bit."""
    if probe.method.null is None:
        raise ContractError("states no null options: give @method(null={...}), options under which nothing changes")
    cell = probe.cell(probe.method.null)
    # Blocks are replaced even where nothing is quantised, so that the machinery itself is on trial.
    losses = run(build_cell(cell, always_convert=True), NULL_STEPS).losses
    expected = probe.baseline.losses
    if losses != expected:
        step = next(i for i, (a, b) in enumerate(zip(losses, expected, strict=True)) if a != b)
        raise ContractError(
            f"null options change the loss at step {step}: {losses[step]!r}, float32 {expected[step]!r}"
        )
    return f"{NULL_STEPS} losses equal to float32's, bit for bit"


def _same_start(probe: Probe) -> str:
    """The model starts from the baseline's weights."""
    if probe.default.built.init_sha != probe.baseline.built.init_sha:
        raise ContractError("starts from other weights than the baseline")
    return f"initial weights {probe.default.built.init_sha}"


def _repeatable(probe: Probe) -> str:
    """Two runs are identical, whatever else draws random numbers."""
    again = run(build_cell(probe.cell({})), SHORT_STEPS, disturb=True).losses
    if not _same_losses(again, probe.default.losses):
        raise ContractError("two runs with one seed differ; draw random bits from the recipe's own stream only")
    return f"{SHORT_STEPS} losses repeated"


def _same_losses(a: list[float], b: list[float]) -> bool:
    """Bit for bit, where NaN is NaN: losses that are not finite break another promise."""
    return repr(a) == repr(b)


def _agrees(probe: Probe) -> str:
    """Every arithmetic it offers gives the same losses and weights, bit for bit."""
    first, *others = probe.arithmetics
    for arithmetic in others:
        cell = probe.cell({}).model_copy(update={"arithmetic": arithmetic})
        other = run(build_cell(cell), SHORT_STEPS)
        if not _same_losses(other.losses, probe.default.losses):
            raise ContractError(f"{arithmetic} arithmetic gives other losses than {first}")
        both = zip(other.built.state(), probe.default.built.state(), strict=True)
        if not all(_same(a, b) for a, b in both):
            raise ContractError(f"{arithmetic} arithmetic gives other weights than {first}")
    return f"{' and '.join(probe.arithmetics)}: the same after {SHORT_STEPS} steps"


def _replays(probe: Probe) -> str:
    """Steps from a tape give the same losses and weights, and forward passes in evaluation the same outputs, bit for
    bit."""
    expected, replayed = (run(build_cell(probe.cell({})), REPLAY_STEPS, replays=replays) for replays in (False, True))
    if not _same_losses(replayed.losses, expected.losses):
        raise ContractError("replayed steps give other losses: a layer does more than PyTorch's operators show")
    both = zip(replayed.built.state(), expected.built.state(), strict=True)
    if not all(_same(a, b) for a, b in both):
        raise ContractError("replayed steps give other weights: a layer does more than PyTorch's operators show")
    pairs = zip(*(_inferred(expected.built, replays=replays) for replays in (False, True)), strict=True)
    if not all(_same(a, b) for a, b in pairs):
        raise ContractError("replayed inference gives other outputs: a layer does more than PyTorch's operators show")
    return f"{replayed.replayed} of {REPLAY_STEPS} steps replayed"


def _inferred(built: BuiltCell, *, replays: bool) -> list[Tensor]:
    """The outputs for some batches, each seen several times."""
    built.model.eval()
    inference = InferencePass(built, replays=replays)
    with float_kernels(reproducible=True):
        outputs = [inference.run(images) for images, _ in 2 * _batches(built, INFERENCE_BATCHES)]
    built.model.train()
    return outputs


def _trains(probe: Probe) -> str:
    """Losses and weights stay finite."""
    losses = probe.default.losses
    if not all(math.isfinite(loss) for loss in losses):
        raise ContractError(f"the loss is not finite within {SHORT_STEPS} steps: {losses}")
    if not all(bool(tensor.isfinite().all()) for tensor in _floating(probe.default.built)):
        raise ContractError("a weight or buffer is not finite after training")
    return f"loss {losses[0]:.3f} to {losses[-1]:.3f} in {SHORT_STEPS} steps"


def _floating(built: BuiltCell) -> list[Tensor]:
    """Parameters, and buffers that training has written."""
    return [tensor for tensor in built.state() if tensor.is_floating_point()]


def _evaluates(probe: Probe) -> str:
    """Evaluation changes nothing and repeats itself."""
    built = probe.default.built
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    first, second = _logits(built), _logits(built)
    if not _same(first, second):
        raise ContractError("two evaluations of the same batch differ")
    changed = [name for name, value in built.model.state_dict().items() if not _same(value, before[name])]
    if changed:
        raise ContractError(f"evaluation changes {', '.join(changed[:3])}")
    return "repeatable, and leaves the model as it was"


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal, where NaN is NaN and nothing else."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _logits(built: BuiltCell) -> Tensor:
    built.model.eval()
    with torch.no_grad(), float_kernels(reproducible=True):
        images, _ = _batches(built, 1)[0]
        logits = built.converted.predict(images)
    built.model.train()
    return logits


def _blank(probe: Probe) -> str:
    """A batch of zeros gives finite losses and gradients."""
    built = build_cell(probe.cell({}))
    images, labels = _batches(built, 1)[0]
    loss = TrainStep(built).forward(0, torch.zeros_like(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in built.model.parameters() if p.grad is not None]
    if not all(bool(value.isfinite().all()) for value in [loss, *gradients]):
        raise ContractError("a batch of zeros gives a loss or gradient that is not finite")
    return f"{len(gradients)} gradients finite"


def _manifest(probe: Probe) -> str:
    """No data path used more bits than its format declares."""
    rows = probe.default.built.converted.manifest()
    by_name: dict[str, Any] = {site.name: site for site in probe.default.built.converted.sites()}
    over = []
    for row in rows:
        site = by_name.get(f"{row.layer}/{row.path}")
        if site is not None and row.needs_bits is not None and row.needs_bits > site.spec.bound_bits:
            over.append(f"{row.layer}/{row.path} used {row.needs_bits} bits of {site.spec.bound_bits}")
    if over:
        raise ContractError("; ".join(over[:3]))
    return f"{len(rows)} data paths as declared"


CHECKS: dict[str, Callable[[Probe], str]] = {
    "documented": _documented,
    "builds a recipe": _builds,
    "refuses bad options": _refuses,
    "null options change nothing": _null,
    "same start as float32": _same_start,
    "repeatable": _repeatable,
    "arithmetics agree": _agrees,
    "replayed steps are the same": _replays,
    "trains": _trains,
    "evaluates": _evaluates,
    "survives zeros": _blank,
    "declared formats hold": _manifest,
}

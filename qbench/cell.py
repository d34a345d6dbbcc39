"""The unit of work: one (method + options, model, dataset, seed); and what it leaves behind, the record."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from qbench.recipe import Arithmetic
from qbench.train.settings import MeasureSettings, TrainSettings


class Status(StrEnum):
    """How a cell ended. ``ok`` and ``diverged`` are results; the others are tried again by the next run."""

    OK = "ok"
    DIVERGED = "diverged"
    OOM = "oom"
    TIMEOUT = "timeout"
    KILLED = "killed"
    ERROR = "error"
    SKIPPED = "skipped"

    @property
    def is_result(self) -> bool:
        """Whether the cell is finished and not to be run again."""
        return self in {Status.OK, Status.DIVERGED}


class Plain(BaseModel):
    """Base of what travels between processes and lies on disk as JSON."""

    # A diverged loss is NaN: as the text "NaN" it stays valid JSON and is read back as the number.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Keyed(Plain):
    """Base of the records that lie on disk, each in a file that is named after its key."""

    key: str


class ProbeChoice(Plain):
    """A probe (see :mod:`qbench.probes`) and all its options."""

    name: str
    options: dict[str, Any] = {}


class Cell(Plain):
    """One training run, described in full: two equal cells give the same numbers on the same machine.

    options hold every option of the method (defaults filled in); data_root is where an on-disk data set lies.
    """

    suite: str
    method: str = Field(description="name, or path/to/file.py:name, as qbench.find_method takes it")
    label: str = Field(description="the method and its non-default options, as shown in tables")
    options: dict[str, Any]
    changed: dict[str, Any] = Field(default={}, description="those of the options that are not the method's defaults")
    model: str
    model_options: dict[str, Any] = {}
    dataset: str
    dataset_options: dict[str, Any] = {}
    data_root: str | None = None
    seed: int
    arithmetic: Arithmetic
    device: str
    train: TrainSettings
    measure: MeasureSettings = MeasureSettings()
    because: str | None = Field(default=None, description="why this method's training settings differ")
    probes: tuple[ProbeChoice, ...] = Field(default=(), description="what is observed while training")


class EpochRow(Plain):
    """One epoch of a learning curve; validation figures are None where the epoch was not validated."""

    epoch: int
    step: int
    lr: float
    train_loss: float
    val_loss: float | None = None
    val_top1: float | None = Field(default=None, description="percent")
    val_top5: float | None = Field(default=None, description="percent")
    wall_s: float


class Fingerprints(Plain):
    """SHA-256 (first 16 hex digits) of what must be the same for every method of one seed."""

    init_sha: str = Field(description="the float model's weights and buffers before conversion")
    order_sha: str = Field(description="item indices and augmentation draws, in the order consumed")
    eval_sha: str = Field(description="the items and labels evaluated on")


class ManifestRow(Plain):
    """One data path of one layer: what the recipe declares and what was seen while training."""

    layer: str
    path: str = Field(description="weight, activation, error, wgrad_error, branch_error, norm_error, gradient, ...")
    declared: str = Field(description="the number format, or 'float32'")
    arithmetic: str = Field(description="integer, simulated or float")
    code_min: float | None = None
    code_max: float | None = None
    needs_bits: int | None = Field(default=None, description="smallest integer width that holds the codes seen")
    note: str = ""


class ProbeSeries(Plain):
    """One quantity that a probe observed on one data path of one layer, epoch by epoch.

    values: of the first epoch, the second, and so on, to seven digits; None where the quantity is not defined yet (a
    change since five epochs ago, in the third), NaN where the tensor was empty or held NaN or infinity.
    """

    probe: str
    quantity: str
    layer: str
    path: str = Field(description="as in the manifest, and loss_gradient, update and stored")
    values: tuple[float | None, ...]


class Outcome(Plain):
    """What training one cell gives. top1, top5 and loss are of the last epoch, on the test split."""

    status: Status
    message: str = ""
    traceback: str = ""
    epochs: int = 0
    diverged_step: int | None = None
    top1: float | None = Field(default=None, description="percent")
    top5: float | None = Field(default=None, description="percent")
    loss: float | None = None
    curve: tuple[EpochRow, ...] = ()
    fingerprints: Fingerprints | None = None
    manifest: tuple[ManifestRow, ...] = ()
    probes: tuple[ProbeSeries, ...] = ()
    wall_s: float = 0.0


class Measurement(Plain):
    """One round of speed and memory figures of one method, taken alone on the device.

    Times are seconds per step, raw. Byte counts: peak_train_bytes is the largest live tensor storage within a
    training step, saved_bytes what autograd keeps for backward (parameters excluded), model_bytes an inference
    checkpoint and optimizer_bytes the training state beside it, both in the method's own storage format.
    """

    status: Status
    message: str = ""
    traceback: str = ""
    batch_size: int = 0
    train_step_s: tuple[float, ...] = ()
    infer_step_s: tuple[float, ...] = ()
    peak_train_bytes: int | None = None
    saved_bytes: int | None = None
    model_bytes: int | None = None
    optimizer_bytes: int | None = None
    energy_j_per_image: float | None = None
    memory_method: str = Field(default="", description="how the bytes were counted")
    simulated: bool = Field(default=True, description="speed and memory are of a simulation")
    kernels: tuple[str, ...] = Field(default=(), description="what computed beside PyTorch, such as 'cpp (avx2)'")
    share_taken: float | None = Field(
        default=None, description="share of the CPUs that other processes took from the measurement"
    )
    replayed: int | None = Field(default=None, description="training steps that came from a tape (QBENCH_REPLAY)")
    infer_replayed: int | None = Field(default=None, description="inference batches that came from a tape")
    run: str = Field(default="", description="identifier of the qbench run that measured it")
    round: int = Field(default=0, description="rounds of two methods are a pair where run and round are equal")


class Attempt(Plain):
    """A failed try, kept so that its error stays visible."""

    status: Status
    message: str
    traceback: str = ""
    finished: str


class Record(Keyed):
    """What a cell leaves on disk."""

    run: str = Field(description="identifier of the qbench run that made it")
    cell: Cell
    outcome: Outcome
    attempts: tuple[Attempt, ...] = ()
    environment: dict[str, Any]
    started: str
    finished: str


class MeasureRecord(Keyed):
    """The rounds of one method's measurement on disk; the cell's seed is the first of the suite."""

    run: str
    cell: Cell
    rounds: tuple[Measurement, ...]
    environment: dict[str, Any]
    finished: str

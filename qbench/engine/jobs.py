"""What is asked of a worker process, and the lines it answers with: JSON both ways."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from qbench.cell import Cell, Measurement, Outcome, Plain, Status

Task = Literal["train", "measure"]
Result = Outcome | Measurement

RESULT_TYPE: Mapping[Task, type[Outcome] | type[Measurement]] = {"train": Outcome, "measure": Measurement}


class Job(Plain):
    """One piece of work for one process. source: the method's, as the key of the result holds it."""

    task: Task
    cell: Cell
    threads: int
    source: str


class BegunLine(Plain):
    """A worker's first word: the job is read, and the time that it may take runs from here."""

    event: Literal["begun"] = "begun"


class ProgressLine(Plain):
    """A worker's word on how far a training run is; see :class:`qbench.train.Progress`."""

    event: Literal["progress"] = "progress"
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    top1: float | None = None


class ResultLine(Plain):
    """A worker's last word."""

    event: Literal["result"] = "result"
    outcome: Outcome | None = None
    measurement: Measurement | None = None


_LINE: TypeAdapter[BegunLine | ProgressLine | ResultLine] = TypeAdapter(
    Annotated[BegunLine | ProgressLine | ResultLine, Field(discriminator="event")]
)


def parse_line(line: bytes) -> BegunLine | ProgressLine | ResultLine:
    """What a worker said. Raises pydantic's ValidationError for anything else."""
    return _LINE.validate_json(line)


def failed(task: Task, status: Status, message: str, traceback: str = "") -> Result:
    """The result of a job that ended without one of its own."""
    return RESULT_TYPE[task](status=status, message=message, traceback=traceback)


def worker_environment(threads: int) -> dict[str, str]:
    """The environment of every worker, the same for all methods.

    The C library normally maps large blocks afresh and gives them back: every step then pays for page faults, how
    much depending on a method's allocation pattern. Here memory once taken stays with the process. Threads of all
    libraries are limited alike; the cuBLAS setting makes its sums reproducible.
    """
    count = str(threads)
    return {
        **os.environ,
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**62),
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        # NumPy's BLAS multiplies nothing here, and its threads would make the nursery unsafe to fork.
        "OPENBLAS_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": count,
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }

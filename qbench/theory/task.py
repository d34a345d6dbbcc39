"""What is asked of an experiment's process, and the lines it answers with: JSON both ways."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from qbench.cell import Plain, Status
from qbench.theory.findings import Findings


class Task(Plain):
    """One experiment for one process."""

    experiment: str
    options: dict[str, Any]
    seed: int
    threads: int


class FractionLine(Plain):
    """How far the experiment has come, in [0, 1]."""

    event: Literal["fraction"] = "fraction"
    fraction: float


class ResultLine(Plain):
    """The last word."""

    event: Literal["result"] = "result"
    status: Status
    message: str = ""
    traceback: str = ""
    findings: Findings | None = None


Line = FractionLine | ResultLine
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="event")])


def parse_line(line: bytes) -> Line:
    """What a worker said. Raises pydantic's ValidationError for anything else."""
    return _LINE.validate_json(line)

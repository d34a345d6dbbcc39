"""One side of a comparison in a process of its own: builds a training step, then does what the parent asks.

Started with the step as JSON and the number of warm-up steps. Every line of standard input is a command, every line of
standard output the answer as JSON: ``time N`` gives the seconds of N steps, ``peak`` and ``saved`` give bytes. It ends
with its input.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import Any, TextIO

import torch
from training_step import StepSpec, TrainingStep

from qbench.kernels import backends
from qbench.train.device import float_kernels


def main() -> None:
    """Answer until the input ends. A failure is an answer too, and ends the process."""
    answers = _own_output()
    try:
        with float_kernels(reproducible=False):
            step = TrainingStep(StepSpec(**json.loads(sys.argv[1])))
            for _ in range(int(sys.argv[2])):
                step.run()
            _answer(answers, {"kernels": kernels_in_use(), "threads": torch.get_num_threads()})
            for line in sys.stdin:
                _answer(answers, _do(step, *line.split()))
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        _answer(answers, {"failed": f"{type(error).__name__}: {first_line}"})
        raise


def _own_output() -> TextIO:
    """Standard output for the answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _answer(answers: TextIO, data: dict[str, Any]) -> None:
    print(json.dumps(data), file=answers, flush=True)


def _do(step: TrainingStep, command: str, count: str = "") -> dict[str, Any]:
    if command == "time":
        seconds = [_seconds(step) for _ in range(int(count))]
        if not math.isfinite(step.loss()):
            raise ArithmeticError(f"the loss became {step.loss()} within {step.steps} steps")
        return {"seconds": seconds}
    if command == "peak":
        return {"bytes": step.peak_bytes()}
    if command == "saved":
        return {"bytes": step.saved_bytes()}
    raise ValueError(f"unknown command {command}")


def _seconds(step: TrainingStep) -> float:
    started = time.perf_counter()
    step.run()
    return time.perf_counter() - started


def kernels_in_use() -> list[str]:
    """The implementations that served the integer kernels so far, with their instruction sets."""
    used = set()
    for (op, device), function in backends.CHOSEN.items():
        name = next(name for name in backends.candidates(device) if backends.find(op, name) is function)
        isa = backends.isa(name)
        used.add(f"{name} ({isa})" if isa else name)
    return sorted(used)


if __name__ == "__main__":
    main()

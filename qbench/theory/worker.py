"""The worker program: ``python -m qbench.theory.worker`` reads one task from stdin and answers on stdout in JSON lines.

Whatever an experiment prints goes to stderr. stdin stays open for as long as the run lives: when it closes, the worker
ends, so that a killed run leaves no process behind.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback

from qbench.cell import Plain, Status
from qbench.errors import InputError
from qbench.theory.task import FractionLine, ResultLine, Task


def main() -> None:
    """Do one task."""
    faulthandler.enable()
    answers = os.dup(1)
    os.dup2(2, 1)
    task = Task.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_run, daemon=True).start()

    def send(line: Plain) -> None:
        content = line.model_dump_json().encode() + b"\n"
        while content:
            content = content[os.write(answers, content) :]

    send(do(task, lambda fraction: send(FractionLine(fraction=fraction))))


def do(task: Task, progress: object) -> ResultLine:
    """The task's findings, or why there are none."""
    from qbench.theory import find_experiment

    _limit_threads(task.threads)
    try:
        findings = find_experiment(task.experiment).build(task.options, seed=task.seed, progress=progress)
    except InputError as error:
        return ResultLine(status=Status.ERROR, message=str(error))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        message = f"{type(error).__name__}: {first}"
        return ResultLine(status=Status.ERROR, message=message, traceback=traceback.format_exc())
    return ResultLine(status=Status.OK, findings=findings)


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _end_with_the_run() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

"""The worker program: ``python -m qbench.engine.worker FD [--preload]``, where FD is the socket of the run.

It becomes a nursery (:mod:`qbench.engine.nursery`); each worker forked from it reads one job from stdin and answers
on a pipe of its own. stdin stays open for as long as the run lives: when it closes, the worker ends itself and all
its children, so that a killed run leaves no process behind.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import gc
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from qbench.cell import Measurement, Outcome, Plain, Status
from qbench.engine.jobs import BegunLine, Job, ProgressLine, Result, ResultLine, Task, failed
from qbench.engine.nursery import Nursery
from qbench.errors import InputError

Report = Callable[[Any], None]
Run = Callable[[Job, Report], Result]

# What every training run on a CPU imports. PyTorch's optimisers import its compiler, although nothing is compiled.
_PRELOADED = (
    "torch._dynamo", "qbench.train.loop", "qbench.train.measure", "qbench.kernels.library",
    "qbench.models.cifar_resnet", "qbench.models.mlp", "qbench.data.loader", "qbench.data.digits", "qbench.data.glyphs",
)  # fmt: skip


def main() -> None:
    """Work with qbench's own training and measuring."""
    serve(sys.argv[1:], {"train": _train, "measure": _measure}, _PRELOADED)


def serve(arguments: Sequence[str], tasks: Mapping[Task, Run], preloaded: Sequence[str] = ()) -> None:
    """Be the worker program. arguments: of its command line. tasks: what can be asked for."""
    if "--preload" in arguments:
        for module in preloaded:
            importlib.import_module(module)
        # Collecting these objects in a worker would touch, and so copy, every page they lie on.
        gc.freeze()
    Nursery(int(arguments[0]), partial(do_one_job, tasks)).serve()


def do_one_job(tasks: Mapping[Task, Run], answers: int) -> None:
    """Read one job from stdin, run its task, and write progress and result to the descriptor ``answers``."""
    faulthandler.enable()
    os.set_inheritable(answers, False)
    job = Job.model_validate_json(_read_line(0))
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    lock = threading.Lock()

    def send(line: Plain) -> None:
        with lock:
            _write_all(answers, line.model_dump_json().encode() + b"\n")

    send(BegunLine())

    def report(progress: Any) -> None:
        send(ProgressLine(**dataclasses.asdict(progress)))

    result = _run(job, tasks[job.task], report)
    send(ResultLine(outcome=result) if isinstance(result, Outcome) else ResultLine(measurement=result))


def _train(job: Job, report: Report) -> Outcome:
    from qbench.train import train_cell

    _refuse_another_source(job)
    _settle(job)
    return train_cell(job.cell, report)


def _measure(job: Job, report: Report) -> Measurement:
    from qbench.train import measure_cell

    _refuse_another_source(job)
    _settle(job)
    return measure_cell(job.cell)


def _run(job: Job, run: Run, report: Report) -> Result:
    try:
        return run(job, report)
    except InputError as error:
        return failed(job.task, Status.ERROR, str(error))
    except Exception as error:
        if _is_out_of_memory(error):
            return failed(job.task, Status.OOM, _first_line(error), traceback.format_exc())
        return failed(job.task, Status.ERROR, f"{type(error).__name__}: {_first_line(error)}", traceback.format_exc())


def _refuse_another_source(job: Job) -> None:
    """Raises InputError where the method was edited since the run began: its result would bear an older key."""
    from qbench.store.keys import method_source

    if method_source(job.cell.method) != job.source:
        raise InputError(f"method '{job.cell.method}' was edited while the run went on; run the same command again")


def _settle(job: Job) -> None:
    """Its threads, and its GPU as the one that is meant where none is named: no other is touched."""
    import torch

    torch.set_num_threads(job.threads)
    if job.cell.device.startswith("cuda:"):
        torch.cuda.set_device(job.cell.device)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    # torch's CPU allocator raises a plain RuntimeError; its CUDA one a subclass with its own name.
    text = str(error)
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text or "out of memory" in text
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _end_with_the_run() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _read_line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        block = os.read(descriptor, 65536)
        if not block:
            break
        line += block
    return line


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


if __name__ == "__main__":
    main()

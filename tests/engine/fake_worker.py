"""A worker program whose tasks do what their cell's method is told to do: succeed, crash, hang, ..."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time

from qbench.cell import Measurement, Outcome, Status
from qbench.engine.worker import serve
from qbench.train.progress import Progress


def note(task, cell, **more):
    """Take down, in the file that the test reads, that this ran."""
    line = {"task": task, "label": cell.label, "seed": cell.seed, "pid": os.getpid(), **more}
    with open(os.environ["FAKE_RUNS"], "a") as file:
        file.write(json.dumps(line) + "\n")


def answer_pipes():
    """Descriptors of the pipes this process can write to, the answer pipe among them."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and os.path.exists(f"/proc/self/fd/{number}") and stat.S_ISFIFO(os.fstat(number).st_mode):
            yield number


def child_that_stays(cell):
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    note("grandchild", cell, child=child)


def say(text):
    for pipe in answer_pipes():
        os.write(pipe, text)


def fail(message, kind=ValueError):
    raise kind(message)


def end_with(number):
    print("last words", flush=True)
    os.kill(os.getpid(), number)


def answer_garbage():
    say(b"hello\n")
    time.sleep(600)


def answer_half():
    say(b'{"event":"result","outc')
    os.kill(os.getpid(), signal.SIGKILL)


def orphan():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(0.2)


def flaky():
    if not os.path.exists(os.environ["FAKE_RUNS"] + ".mended"):
        fail("not yet")


TORCH_MEMORY = "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: 8 bytes"

DEEDS = {
    "error": lambda: fail("boom\nand more"),
    "memory": lambda: fail("no room", MemoryError),
    "torch_memory": lambda: fail(TORCH_MEMORY, RuntimeError),
    "kill": lambda: end_with(signal.SIGKILL),
    "segfault": lambda: end_with(signal.SIGSEGV),
    "exit": lambda: sys.exit(3),
    "hang": lambda: time.sleep(600),
    "slow": lambda: time.sleep(0.4),
    "garbage": answer_garbage,
    "half": answer_half,
    "orphan": orphan,
    "flaky": flaky,
}


def act(does, cell):
    if does == "grandchild":
        child_that_stays(cell)
    DEEDS.get(does, lambda: None)()


def train(job, report):
    cell = job.cell
    note("train", cell, threads=os.environ["OMP_NUM_THREADS"], trim=os.environ["MALLOC_TRIM_THRESHOLD_"])
    does = cell.options.get("does", "ok")
    report(Progress(1, 1, 1, 2, 0.5, None))
    act(does, cell)
    if does == "wrong":
        return Measurement(status=Status.OK)
    if does == "diverge":
        return Outcome(status=Status.DIVERGED, diverged_step=7, loss=float("nan"))
    return Outcome(status=Status.OK, top1=50.0 + cell.seed, epochs=1)


def measure(job, report):
    cell = job.cell
    note("measure", cell)
    does = cell.options.get("measured", "ok")
    act(does, cell)
    if does == "diverge":
        return Measurement(status=Status.DIVERGED, batch_size=8)
    return Measurement(status=Status.OK, batch_size=8, train_step_s=(0.1, 0.2))


if __name__ == "__main__":
    time.sleep(float(os.environ.get("FAKE_IMPORT_S", "0")))
    serve(sys.argv[1:], {"train": train, "measure": measure})

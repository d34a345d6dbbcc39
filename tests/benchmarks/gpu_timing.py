"""Time on a device, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from qbench.kernels import backends, cuda

WARM_UP = 3
REPETITIONS = 10
MOST_SECONDS = 1.0
"""Of one measurement; a slow call is repeated less often."""

PUBLISH_EVERY_S = 1.0

BUSY_CYCLES = 2_000_000
"""Of the device's clock, about a millisecond: in less than that any call here has been launched."""


class OutOfTimeError(Exception):
    """A section has used its share of the budget."""


class DeviceLostError(Exception):
    """A kernel has read or written where it must not: this process can do nothing more on the device."""


@dataclass
class Outcome:
    """Whether something ended without an error."""

    is_good: bool = True

    def __bool__(self) -> bool:
        return self.is_good


class Bench:
    """Device and sizes of a run, and the results of the section that is running.

    publish: called with the results so far now and then, in case the section never ends. before: those of the same
    section in a process that ended in one of its parts, if any; the section goes on behind that part.
    """

    def __init__(
        self,
        device: torch.device,
        tiny: bool,
        publish: Callable[[dict[str, Any]], None] = lambda results: None,
        before: dict[str, Any] | None = None,
    ) -> None:
        self.device = device
        self.tiny = tiny
        self.results: dict[str, Any] = {}
        self._before = before or {}
        self._publish = publish
        self._published = 0.0
        self._begun = 0
        self._deadline = float("inf")

    @property
    def on_gpu(self) -> bool:
        """Whether the CUDA kernels are meant."""
        return self.device.type == "cuda"

    @property
    def implementation(self) -> str:
        """The name, in qbench.kernels.backends, of what is tested: the fastest of the device that is complete."""
        if self.on_gpu:
            return "cuda"
        return "reference" if backends.why_not("cpp") else "cpp"

    def why_not(self) -> str:
        """Why nothing can be measured on this device; empty where it can."""
        return cuda.why_not() if self.on_gpu else ""

    def begin(self, deadline: float) -> None:
        """A section starts; it may run until ``deadline`` of time.monotonic()."""
        lost = list(self._before.get("lost", []))
        if self._before.get("running") and self._before.get("kind"):
            lost.append(self._before["kind"])
        self.results = {**self._before, **({"lost": lost} if lost else {})}
        self._begun = 0
        self._deadline = deadline

    def kept(self, key: str, empty: Any) -> Any:
        """A result that grows part by part: as a process before this one left it, else ``empty``."""
        return self.results.setdefault(key, empty)

    def check_time(self) -> None:
        """Raises OutOfTimeError behind the deadline."""
        now = time.monotonic()
        if now > self._published + PUBLISH_EVERY_S:
            self._publish(self.results)
            self._published = now
        if now > self._deadline:
            raise OutOfTimeError

    def start(self, part: str, kind: str = "") -> bool:
        """Says at once which part of the section comes next: it may end the process, or never end.

        Whether it is to be run: False if a process before this one has begun it, or was ended by another one of its
        kind, because starting again at each of many would take all the time.
        """
        self._begun += 1
        if self._begun <= self._before.get("begun", 0) or kind in self.results.get("lost", ()):
            return False
        self.results |= {"begun": self._begun, "running": part, "kind": kind}
        self._published = 0.0
        self.check_time()
        return True

    def done(self) -> None:
        """All parts that were started have ended."""
        for key in ("begun", "running", "kind"):
            self.results.pop(key, None)

    def look_after(self, error: Exception) -> None:
        """Raises DeviceLostError if the device is lost to this process by an error: whatever came next would fail."""
        try:
            self.synchronize()
        except Exception:  # CuPy's own hierarchy among them
            raise DeviceLostError(str(error)) from error

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def function(self, op: str) -> Callable[..., Any]:
        """The kernel that is tested."""
        found = backends.find(op, self.implementation)
        assert found is not None, op
        return found

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object], *, queued: bool = False) -> float:
        """Median time of one call, between events on the device.

        queued: whether the device is kept busy until the call has been launched, so that a call of less time than its
        launches take shows its own.
        """
        self.check_time()
        for _ in range(1 if self.tiny else WARM_UP):
            call()
        self.synchronize()
        first = self._once(call, queued)
        wanted = 1 if self.tiny else REPETITIONS
        count = max(1, min(wanted, int(MOST_SECONDS / max(first, 1e-9))))
        return median(self._once(call, queued) for _ in range(count))

    def _once(self, call: Callable[[], object], queued: bool) -> float:
        if not self.on_gpu:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if queued:
            torch.cuda._sleep(BUSY_CYCLES)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000

    @contextmanager
    def noted(self, key: str, where: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """A part of a section: an error in it is noted beside its results, and the section goes on."""
        part: dict[str, Any] = {}
        (self.results if where is None else where)[key] = part
        with self.going_on(part):
            yield part

    @contextmanager
    def going_on(self, part: dict[str, Any]) -> Iterator[Outcome]:
        """The same for a part that is there already; what it gives is true behind it unless there was an error."""
        outcome = Outcome()
        try:
            yield outcome
        except (OutOfTimeError, DeviceLostError):
            raise
        except Exception as error:  # CuPy's own hierarchy among them
            outcome.is_good = False
            part["error"] = f"{type(error).__name__}: {error}"[:500]
            self.look_after(error)

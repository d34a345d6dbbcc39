"""The step a converted model is at, and the random bits that follow from it."""

from __future__ import annotations

import hashlib
from collections import Counter

from qbench.errors import InputError
from qbench.kernels.random import Generator, Key
from qbench.nn.backward_pass import OUTSIDE, backward_pass

OBSERVE_EVERY = 50
"""Steps between observations of the codes in use; observing costs one pass over each tensor."""

STEP_BITS = 24
"""Of the 32 of a key's step; the others number the micro-batches."""

MOST_MICRO_BATCHES = 2 ** (32 - STEP_BITS)


class Draws:
    """How often random bits were drawn for each tensor in the backward pass under way, which that of a reentrant
    checkpoint is by itself. A copy begins anew."""

    def __init__(self) -> None:
        self._pass = OUTSIDE
        self._counts: Counter[int] = Counter()

    def __reduce__(self) -> tuple[type[Draws], tuple[()]]:
        return type(self), ()

    def begin(self, tensor: int) -> None:
        """Count one more for ``tensor``. Outside of a backward pass nothing is counted."""
        under_way = backward_pass()
        if under_way != self._pass:
            self._pass = under_way
            self._counts.clear()
        if under_way != OUTSIDE:
            self._counts[tensor] += 1

    def before(self, tensor: int) -> int:
        """The number of draws for ``tensor`` before the newest one; 0 where there was none in this pass."""
        return max(self._counts[tensor] - 1, 0) if backward_pass() == self._pass else 0


class Clock:
    """The step a model is at, shared by all its sites: random bits and schedules depend on it.

    micro_batch: which of the batches whose gradients one step adds up; each draws random bits of its own, and nothing
    else follows it. total_steps: of the whole training. generator: of the random bits. draw: which network of an
    ensemble is evaluated. draws: of the backward pass under way.
    readings: how often it was asked for the step itself, the progress or the micro-batch, as schedules do.
    """

    def __init__(self, seed: int = 0, step: int = 0, total_steps: int = 1, generator: Generator = "philox") -> None:
        self.seed = seed
        self.total_steps = total_steps
        self.generator: Generator = generator
        self.draw = 0
        self.draws = Draws()
        self.readings = 0
        self._step = step
        self._micro_batch = 0

    @property
    def step(self) -> int:
        """Optimiser steps done; the training loop sets it before each forward pass."""
        self.readings += 1
        return self._step

    @step.setter
    def step(self, step: int) -> None:
        self._step = step

    @property
    def micro_batch(self) -> int:
        """Batches done of those whose gradients one step adds up; a training loop that adds up sets it before each
        forward pass, and leaves it until behind that batch's backward pass.

        Raises InputError where it is set to no number from 0 to 255.
        """
        self.readings += 1
        return self._micro_batch

    @micro_batch.setter
    def micro_batch(self, number: int) -> None:
        if not 0 <= number < MOST_MICRO_BATCHES:
            raise InputError(f"micro-batches of a step are numbered 0 to {MOST_MICRO_BATCHES - 1}, not {number}")
        self._micro_batch = number

    @property
    def key_step(self) -> int:
        """What random keys have as their step: step + 2^24 * micro-batch, another number for each pair of a step below
        2^24 and a micro-batch."""
        return self._step + (self._micro_batch << STEP_BITS)

    @property
    def progress(self) -> float:
        """Share of training done, in [0, 1]; 1 only behind its last step."""
        return min(self.step / max(self.total_steps, 1), 1.0)

    @property
    def is_noting(self) -> bool:
        """Whether sites note the codes in use at this step."""
        return self._step % OBSERVE_EVERY == 0

    def key(self, tensor: int) -> Key:
        """Of this step's and micro-batch's random bits for the tensor of that number, as :func:`tensor_id` gives it."""
        return Key(self.seed, tensor, self.key_step, self.generator)


def tensor_id(name: str) -> int:
    """A stable 32-bit number for a tensor's name: its part of the random key."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")

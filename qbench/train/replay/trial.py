"""A tape is tried before it stands for other steps: on the step that it was recorded in, whose results are known.

What a recorder cannot see, such as a function of C++ that writes into a tensor and is no operator, is seen in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qbench.train.replay.recorder import UnrepeatableError
from qbench.train.replay.tape import Tape

PLAYS = 2
"""Times that a tape is tried: the first time it learns what its kernels are, and then it calls them."""


class Moment:
    """The values of some tensors, and the state of PyTorch's random numbers, at one moment."""

    @torch.no_grad()
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self._values = [x.clone() for x in tensors]
        self._random = torch.get_rng_state()

    @torch.no_grad()
    def is_now(self) -> bool:
        """Whether all is as it was."""
        is_random = torch.equal(self._random, torch.get_rng_state())
        return is_random and all(map(_is_same, self.tensors, self._values))

    @torch.no_grad()
    def bring_back(self) -> None:
        """Make it so again."""
        torch.set_rng_state(self._random)
        for x, value in zip(self.tensors, self._values, strict=True):
            if not _is_same(x, value):  # one that is expanded cannot be written, and is not
                x.copy_(value)


class Trial(NamedTuple):
    """A step to try a tape on. before: all tensors that are there before the step, the batch among them."""

    step: int
    images: Tensor
    labels: Tensor
    before: Moment

    def require_repeated(self, tape: Tape, loss: Tensor) -> None:
        """Behind the backward pass of ``loss``, before the update: play the tape, and leave all as it was.

        Raises :class:`UnrepeatableError` where it gives another loss, other gradients, buffers or random numbers.
        """
        after = Moment(self.before.tensors)
        try:
            for _ in range(PLAYS):
                self.before.bring_back()
                if not self._is_repeated(tape, loss) or not after.is_now():
                    raise UnrepeatableError("a replayed step gives something else than the step that was recorded")
        except RuntimeError as error:
            raise UnrepeatableError(f"an operator fails in a replayed step: {error}") from error
        finally:
            after.bring_back()

    def _is_repeated(self, tape: Tape, loss: Tensor) -> bool:
        different = set[Tensor | None]()
        for parameter, result in tape.play(self.step, self.images, self.labels):
            expected = loss if parameter is None else parameter.grad
            is_same = expected is not None and _is_same(result, expected.detach())
            (different.discard if is_same else different.add)(parameter)  # of several times the last one counts
        return not different


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same values."""
    may_lack_numbers = (a.dtype.is_floating_point or a.dtype.is_complex) and a.dtype == b.dtype
    return torch.equal(a, b) or (may_lack_numbers and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))

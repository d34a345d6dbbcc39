"""What two nodes of the graph hand to each other beside it."""

from __future__ import annotations

from typing import Any


class Between:
    """What passes between two nodes of a block beside the graph: of Range batch norm's block, the product on the way
    forward and the gradient's codes on the way back, for which a placeholder stands in the graph itself, so that
    autograd keeps neither alive; of a direct norm's, the range of the gradient."""

    def __init__(self) -> None:
        self._held: Any = None

    def put(self, value: Any) -> None:
        """Hold ``value`` until it is taken."""
        self._held = value

    def take(self) -> Any:
        """What was put, held no longer."""
        value, self._held = self._held, None
        assert value is not None, "a block's two nodes run one after the other"
        return value

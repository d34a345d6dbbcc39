"""Environment variables that decide how qbench computes."""

from __future__ import annotations


def check_variables() -> None:
    """Raises InputError where one asks for kernels that this machine does not have, or for what qbench does not know:
    all that is run would fail of it, one after another."""
    from qbench.kernels.backends import check_environment
    from qbench.train.replay import is_allowed

    check_environment()
    is_allowed()

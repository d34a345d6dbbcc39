"""Errors that a user can act on. Each class carries the exit code of the command line.

0 done; 1 a comparison or a cell failed; 2 the user's input is wrong.
"""


class QbenchError(Exception):
    """Base of all errors qbench raises on purpose; its text is one sentence for the user."""

    exit_code = 1


class InputError(QbenchError):
    """What the user wrote cannot be used: what is wrong, where, and what to do."""

    exit_code = 2


class UnknownNameError(InputError):
    """A method, model, dataset, suite or option that does not exist."""


class CollisionError(InputError):
    """Two origins define the same name."""


class SuiteError(InputError):
    """A suite file that cannot be read as a suite."""


class PluginError(InputError):
    """A plugin that cannot be imported, or that does not return what it must."""


class DataError(InputError):
    """A data set that is missing, incomplete or not in the expected layout."""


class StoreError(InputError):
    """A results directory that cannot be used: unreadable, of another suite, or in use."""


class DeviceError(InputError):
    """A device that this machine does not have."""


class ContractError(QbenchError):
    """A method breaks one of the promises that every method makes."""

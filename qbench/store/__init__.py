"""Records on disk: keys, atomic writes, queries."""

from qbench.store.atomic import write_atomic
from qbench.store.files import Damaged
from qbench.store.keys import Keys
from qbench.store.manifest import RunManifest
from qbench.store.store import Store

__all__ = ["Damaged", "Keys", "RunManifest", "Store", "write_atomic"]

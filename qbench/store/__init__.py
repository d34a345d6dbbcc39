"""Records on disk: keys, manifests, queries."""

from qbench.store.files import Damaged
from qbench.store.keys import Keys
from qbench.store.manifest import RunManifest
from qbench.store.store import Store

__all__ = ["Damaged", "Keys", "RunManifest", "Store"]

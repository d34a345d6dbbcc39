"""Settings of every test process."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # One test process per core: more threads would wait for each other. Set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

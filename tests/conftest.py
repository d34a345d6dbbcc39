"""Settings of every test process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# What tests of several folders share lies here.
sys.path.insert(0, str(Path(__file__).parent))

if "PYTEST_XDIST_WORKER" in os.environ:
    # One test process per core: more threads would wait for each other. Set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

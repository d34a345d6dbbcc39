from __future__ import annotations

import sys
from pathlib import Path

# The tests of the command line use the same made-up records.
sys.path.insert(0, str(Path(__file__).parent))

from __future__ import annotations

import sys
from pathlib import Path

# The draws of options are a module beside the tests.
sys.path.insert(0, str(Path(__file__).parent))

from __future__ import annotations

import sys
from pathlib import Path

# What several tests share is in modules beside them.
sys.path.insert(0, str(Path(__file__).parent))

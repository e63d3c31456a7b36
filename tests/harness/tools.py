"""Where the programs are kept that tests build or install: once for each user, and not for each clone."""

from __future__ import annotations

import os
from pathlib import Path

TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sealgate-tests"
"""The name of each program in it contains its version, or a digest of its sources."""

"""What many pods cost: the measured cost of each call, a model that multiplies it, and the page docs/scaling.md."""

import sys

from bench.setting import ROOT

sys.path.append(str(ROOT / "tests"))  # its harness starts the key service and the store

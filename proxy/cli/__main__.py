"""`python -m proxy.cli` is `sealgate`."""

import sys

from proxy.cli import main

sys.exit(main())

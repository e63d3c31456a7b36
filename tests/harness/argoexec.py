"""Run a plugin as Argo's executor does (docs/argo-contract.md, 66 and 67): `argoexec.py DIRECTORY -- COMMAND…`.

The command runs in a process group of its own with umask 0. SIGTERM to this process is ignored. The number of a
signal in the file DIRECTORY/signal is sent to the group. The command's exit code is written to DIRECTORY/exitcode and
is that of this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(directory: Path, command: list[str]) -> int:
    os.umask(0)
    signal.signal(signal.SIGTERM, lambda *_: None)  # the command would inherit SIG_IGN
    wanted = directory / "signal"
    child = subprocess.Popen(command, process_group=0)
    while child.poll() is None:
        if wanted.exists() and (number := wanted.read_text().strip()):
            wanted.unlink()
            os.killpg(child.pid, int(number))
        time.sleep(0.02)
    (directory / "exitcode").write_text(str(child.returncode))
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[3:]))

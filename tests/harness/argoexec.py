"""Does to a plugin what Argo's own executor does: `argoexec.py DIRECTORY -- COMMAND…`.

The command runs in a process group of its own, with a umask of 0. SIGTERM to this process is ignored. A
signal's number written to DIRECTORY/signal goes to the whole group, and the command's exit code ends up
in DIRECTORY/exitcode and is this process's own.
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
    signal.signal(signal.SIGTERM, lambda *_: None)  # unlike an ignored one, the command does not inherit it
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

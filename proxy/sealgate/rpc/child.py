"""The downstream as a child of this process: started, logged, restarted, and ended with it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from sealgate.errors import Unavailable
from sealgate.rpc import guardian
from sealgate.rpc.endpoint import Endpoint

log = logging.getLogger("sealgate.downstream")

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 10.0
"""The delay before a restart, in seconds. It doubles with each restart, up to the longest."""
_STEADY = 30.0
"""After a run of this many seconds, the delay begins again at the shortest."""
_LONGEST_LINE = 8192
"""Bytes. A longer line of output is logged in several lines."""
_SIGTERM_TIMEOUT = 5.0
"""Seconds between SIGTERM and SIGKILL."""
_WITHHELD = ("SEALGATE_CONFIG", "VAULT_")
"""The beginnings of the environment variables that a downstream does not get, because they lead to the keys."""

awaited: set[int] = set()
"""The process ids of the children that a thread here waits for. As process 1, `cli.process` reaps all others."""


class ChildProcess(Endpoint):
    """The endpoint of a downstream that is a supervised child: restarted with backoff, and never left behind.

    Args:
        command: the program and its arguments. The path of the socket is appended.
        path: the socket on which the child has to serve.
        start_timeout: how long a call waits for the child to serve, in seconds.
    """

    def __init__(self, command: Sequence[str], path: Path, start_timeout: float) -> None:
        super().__init__(path, start_timeout)
        self._command = [*command, str(path)]
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._cannot_start = False
        # Stays open as long as this process lives: the guardian waits until it is closed.
        self._lifeline_read, self._lifeline = os.pipe()
        threading.Thread(target=self._supervise, name="sealgate-downstream", daemon=True).start()

    @override
    def raise_if_cannot_start(self) -> None:
        if self._cannot_start:
            raise Unavailable(
                f"the downstream's command {self._command[0]} cannot be started",
                remedy="Correct downstream.command",
            )

    @override
    def close(self) -> None:
        """End the child with SIGTERM, and its whole process group with SIGKILL after at most five seconds."""
        self._closing.set()
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            _signal(process, signal.SIGTERM)
            try:
                process.wait(_SIGTERM_TIMEOUT)
            except subprocess.TimeoutExpired:
                log.warning("the downstream did not end within %g s of SIGTERM and is killed", _SIGTERM_TIMEOUT)
        if process is not None:
            _signal(process, signal.SIGKILL)  # the rest of its process group
            process.wait()
        self.path.unlink(missing_ok=True)

    def _supervise(self) -> None:
        backoff = _FIRST_BACKOFF
        while not self._closing.is_set():
            began = time.monotonic()
            code = self._run_once()
            self.connection_lost()
            if self._closing.is_set():
                return
            lived = time.monotonic() - began
            backoff = _FIRST_BACKOFF if lived > _STEADY else backoff
            self._cannot_start = code == guardian.NOT_STARTED
            log.error("the downstream ended with code %d after %.1f s; next start in %.1f s", code, lived, backoff)
            self._closing.wait(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    def _run_once(self) -> int:
        """Start the command, wait until it has ended, and return its exit code."""
        with self._lock:
            if self._closing.is_set():
                return 0
            self.path.unlink(missing_ok=True)
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", guardian.__file__, str(self._lifeline_read), *self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[self._lifeline_read],
                    start_new_session=True,
                    env=_environment(os.environ),
                )
            except OSError as error:  # for example, the limit of processes is reached; the next start may succeed
                log.error("no process could be started: %s", os.strerror(error.errno or 0).lower())  # noqa: TRY400 - the trace adds nothing
                return guardian.NOT_STARTED
            self._process = process
            awaited.add(process.pid)
        log.info("started the downstream %s, process %d", self._command[0], process.pid)
        lines = threading.Thread(target=self._log_lines, args=(process,), name="sealgate-downstream-log", daemon=True)
        lines.start()
        code = process.wait()
        awaited.discard(process.pid)
        # Processes that the command has left behind would keep its socket and its output open.
        _signal(process, signal.SIGKILL)
        lines.join()
        return code

    def _log_lines(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker; stdout is a pipe
        with process.stdout:
            while line := process.stdout.readline(_LONGEST_LINE):
                text = line.decode(errors="replace").rstrip()
                if text:
                    log.info("%s", text)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that the child gets."""
    return {name: value for name, value in environment.items() if not name.startswith(_WITHHELD)}


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process group of `process`, if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

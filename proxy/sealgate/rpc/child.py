"""A downstream that runs as a supervised child of this process."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sealgate.errors import Unavailable
from sealgate.rpc import guardian
from sealgate.rpc.endpoint import Endpoint

log = logging.getLogger("sealgate.downstream")

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 10.0
_STEADY = 30.0
"""A child that lived so many seconds starts again without delay."""
_LONGEST_LINE = 8192
_ANSWER_TO_TERM = 5.0
_OURS = ("SEALGATE_CONFIG", "VAULT_")
"""Environment that is ours alone: a downstream has no business with our keys."""

awaited: set[int] = set()
"""Children that somebody here waits for; as process 1, everything else that ends is an orphan to bury."""


class ChildProcess(Endpoint):
    """A downstream that runs as a supervised child, restarted with backoff and never orphaned."""

    def __init__(
        self, command: Sequence[str], path: Path, start_timeout: float, redact: Callable[[str], str] = str
    ) -> None:
        super().__init__(path, start_timeout)
        self._command = [*command, str(path)]
        self._redact = redact
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._not_startable = False
        # Held for the life of this process: its end is what the guardian waits for.
        self._lifeline_read, self._lifeline = os.pipe()
        threading.Thread(target=self._supervise, name="sealgate-downstream", daemon=True).start()

    def raise_if_hopeless(self) -> None:
        """Raise if the command cannot even be started."""
        if self._not_startable:
            raise Unavailable(
                f"the downstream's command {self._command[0]} cannot be started",
                remedy="Correct downstream.command",
            )

    def close(self) -> None:
        """Ask the child to end, and make it end if it does not."""
        self._ending.set()
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            _signal(process, signal.SIGTERM)
            try:
                process.wait(_ANSWER_TO_TERM)
            except subprocess.TimeoutExpired:
                log.warning("the downstream did not end within %g s of SIGTERM and is killed", _ANSWER_TO_TERM)
        if process is not None:
            _signal(process, signal.SIGKILL)  # whatever else is left of the group
            process.wait()
        self.path.unlink(missing_ok=True)

    def _supervise(self) -> None:
        backoff = _FIRST_BACKOFF
        while not self._ending.is_set():
            began = time.monotonic()
            code = self._run_once()
            self.lost()
            if self._ending.is_set():
                return
            lived = time.monotonic() - began
            backoff = _FIRST_BACKOFF if lived > _STEADY else backoff
            self._not_startable = code == guardian.NOT_STARTED
            log.error("the downstream ended with code %d after %.1f s; next start in %.1f s", code, lived, backoff)
            self._ending.wait(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    def _run_once(self) -> int:
        with self._lock:
            if self._ending.is_set():
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
            except OSError as error:  # no process or descriptor left, for one; the next attempt may go better
                log.error("no process could be started: %s", os.strerror(error.errno or 0).lower())  # noqa: TRY400 - the reason is all there is
                return guardian.NOT_STARTED
            self._process = process
            awaited.add(process.pid)
        log.info("started the downstream %s, process %d", self._command[0], process.pid)
        lines = threading.Thread(target=self._log_lines, args=(process,), name="sealgate-downstream-log", daemon=True)
        lines.start()
        code = process.wait()
        awaited.discard(process.pid)
        # What the command has left behind holds its socket and its output.
        _signal(process, signal.SIGKILL)
        lines.join()
        return code

    def _log_lines(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        with process.stdout:
            while line := process.stdout.readline(_LONGEST_LINE):
                text = line.decode(errors="replace").rstrip()
                if text:
                    log.info("%s", self._redact(text))


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(_OURS)}


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

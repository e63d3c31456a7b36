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
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from sealgate.errors import Unavailable
from sealgate.log_event import LogEvent
from sealgate.rpc import guardian, memory
from sealgate.rpc.child_output import ChildOutput, ConcealedTexts, shown_line
from sealgate.rpc.endpoint import Endpoint

log = logging.getLogger("sealgate.downstream")

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 10.0
"""The delay before a restart, in seconds. It doubles with each restart, up to the longest."""
_STEADY = 30.0
"""After a run of this many seconds, the delay begins again at the shortest."""
_AWAITED_BACKOFF = 1.0
"""Seconds. Calls wait through a delay of at most this length if the child had served before it ended."""
_SIGTERM_TIMEOUT = 5.0
"""Seconds between SIGTERM and SIGKILL."""
_WITHHELD = ("SEALGATE_CONFIG", "VAULT_")
"""The beginnings of the environment variables that a downstream does not get, because they lead to the keys."""

awaited: set[int] = set()
"""The process ids of the children that a thread here waits for. As process 1, `cli.process` reaps all others."""


@dataclass(frozen=True, slots=True)
class _EndedRun:
    """How one run of the child ended."""

    code: int
    """The exit code, or 128 and the number of the signal that ended the child."""
    seconds: float
    in_row: int
    """How many runs have ended since the last one of at least `_STEADY` seconds."""
    served: bool
    """Whether a call has reached the child."""
    for_memory: bool
    """Whether the kernel ended it for memory."""
    last_line: str
    """The last line of its output, as an error may show it. Empty if it served: the line could repeat a request."""
    not_started: str
    """Why the command could not be started; empty if it was."""
    at: float
    """When the run ended, on the clock of `time.monotonic`."""
    backoff: float
    """Seconds until the next start."""

    def error(self, command: str) -> Unavailable:
        """Return the error of a call that finds no child of `command`."""
        if self.not_started:
            fact = f"the downstream's command {command} cannot be started: {self.not_started}"
            return Unavailable(fact, remedy="Correct downstream.command")
        if self.for_memory:
            return memory.out_of_memory()
        name, remedy = "", "Correct what its output names: its command, its settings or its environment"
        with contextlib.suppress(ValueError):
            number = signal.Signals(self.code - guardian.BY_SIGNAL)
            name, remedy = f" ({number.name})", "Report the crash to the vendor of the plugin"
            if number is signal.SIGKILL:  # not every container shows what the kernel has counted
                remedy = "If the kernel ended it for its memory, raise the memory limit of the container"
        times = f" ({self.in_row} times in a row)" if self.in_row > 1 else ""
        last_line = f'; its last line: "{self.last_line}"' if self.last_line else ""
        return Unavailable(
            f"the downstream ended with code {self.code}{name} after {self.seconds:.1f} s{times}{last_line}",
            remedy=remedy,
        )


class ChildProcess(Endpoint):
    """The endpoint of a downstream that is a supervised child: restarted with backoff, and never left behind.

    Args:
        command: the program and its arguments. The path of the socket is appended.
        path: the socket on which the child has to serve.
        start_timeout: how long a call waits for the child to serve, in seconds.
        directory: the directory of the socket, which is removed at the end; None to leave it.
    """

    def __init__(
        self, command: Sequence[str], path: Path, start_timeout: float, *, directory: Path | None = None
    ) -> None:
        super().__init__(path, start_timeout)
        self._command = [*command, str(path)]
        self._directory = directory
        self._environment = _environment(os.environ)
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._last_run: _EndedRun | None = None
        self._in_backoff = False
        self._concealed = ConcealedTexts()
        self._kills = memory.kills()
        """How many processes of the container the kernel had ended for memory when the child was started."""
        # Stays open as long as this process lives: the guardian waits until it is closed.
        self._lifeline_read, self._lifeline = os.pipe()
        threading.Thread(target=self._supervise, name="sealgate-downstream", daemon=True).start()

    @override
    def raise_if_ended(self, since: float) -> None:
        run = self._last_run
        if run is None or not (self._in_backoff or run.at >= since):
            return
        if not (run.served and run.backoff <= _AWAITED_BACKOFF):
            raise run.error(self._command[0])

    @override
    def broken(self) -> Unavailable:
        return memory.out_of_memory() if memory.kills() > self._kills else super().broken()

    @override
    def conceal(self, configuration: str) -> None:
        self._concealed.add(configuration)

    @override
    def conceal_key(self, key: str) -> None:
        self._concealed.add_key(key)

    @override
    def close(self) -> None:
        """End the child with SIGTERM, and it and all its descendants with SIGKILL after at most five seconds."""
        with self._lock:
            process = None if self._closing.is_set() else self._process
            self._closing.set()
        if process is not None:
            if process.poll() is None:
                _signal(process, signal.SIGTERM)
                if not _has_ended(process, _SIGTERM_TIMEOUT):
                    log.warning(LogEvent("the downstream ignored SIGTERM and is killed", seconds=_SIGTERM_TIMEOUT))
            os.close(self._lifeline)  # the guardian kills every descendant of the command
            _has_ended(process, guardian.END_TIMEOUT + 0.5)
            _signal(process, signal.SIGKILL)  # the guardian itself, if it did not end
            _has_ended(process, 0.5)
        self.path.unlink(missing_ok=True)
        if self._directory is not None:
            with contextlib.suppress(OSError):
                self._directory.rmdir()

    def _supervise(self) -> None:
        backoff, in_row = _FIRST_BACKOFF, 0
        while not self._closing.is_set():
            began = time.monotonic()
            code, last_line, not_started = self._run_once()
            at = time.monotonic()
            if at - began > _STEADY:
                backoff, in_row = _FIRST_BACKOFF, 0
            in_row += 1
            last_line = "" if self.served else shown_line(last_line, self._environment)
            for_memory = memory.kills() > self._kills
            run = _EndedRun(code, at - began, in_row, self.served, for_memory, last_line, not_started, at, backoff)
            self._last_run, self._in_backoff = run, True
            # A process that was left behind may still listen on this socket.
            self.path.unlink(missing_ok=True)
            self.ended()
            if self._closing.is_set():
                return
            fact = run.error(self._command[0]).fact
            log.error(LogEvent("the downstream has ended", reason=fact, next_start_seconds=round(backoff, 1)))
            self._closing.wait(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    def _run_once(self) -> tuple[int, str, str]:
        """Start the command and wait until it has ended.

        Returns:
            its exit code, the last line of its output, and why it could not be started, or an empty text if it was.
        """
        with self._lock:
            if self._closing.is_set():
                return 0, "", ""
            self.path.unlink(missing_ok=True)
            self.served = self._in_backoff = False
            self._kills = memory.kills()
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", guardian.__file__, str(self._lifeline_read), *self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[self._lifeline_read],
                    start_new_session=True,
                    env=self._environment,
                )
            except OSError as error:  # for example, the limit of processes is reached; the next start may succeed
                return guardian.NOT_STARTED, "", os.strerror(error.errno or 0).lower()
            self._process = process
            awaited.add(process.pid)
        log.info(LogEvent("the downstream was started", command=self._command[0], pid=process.pid))
        assert process.stdout is not None  # noqa: S101 - for the type checker; stdout is a pipe
        output = ChildOutput(process.stdout, self._concealed)
        code = process.wait()
        awaited.discard(process.pid)
        # The rest of the process group, if the guardian was killed and could not end it.
        _signal(process, signal.SIGKILL)
        last_line = output.end()
        cannot_start = guardian.CANNOT_START.format(self._command[0])
        if code == guardian.NOT_STARTED and last_line.startswith(cannot_start):
            return code, last_line, last_line.removeprefix(cannot_start)
        return code if code >= 0 else guardian.BY_SIGNAL - code, last_line, ""


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that the child gets."""
    return {name: value for name, value in environment.items() if not name.startswith(_WITHHELD)}


def _has_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait up to `seconds` for the end of `process`; return whether it has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process group of `process`, if it still exists and has a process that may be signalled."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

"""Starts a plugin as Argo does: with the path of its socket as the argument after its own command."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_LONGEST_PARENT = 60
"""Bytes. The path of a socket may have 107."""
_POLL = 0.01
_LONGEST_LINE = 300
_LARGEST_OUTPUT = 16 << 20
"""Bytes of the output of a process that are searched."""
_KILL_SECONDS = 5.0


class NotServing(Exception):
    """The program does not serve on its socket. The text says what it did instead."""


class Program:
    """The plugin's command.

    Args:
        command: the program and its arguments. The path of the socket is appended.
        seconds: how long a start may take.
    """

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        self._command = list(command)
        self._seconds = seconds
        parent = tempfile.gettempdir()
        short = parent if len(os.fsencode(parent)) <= _LONGEST_PARENT else "/tmp"  # noqa: S108 - mkdtemp makes its own
        self.directory = Path(tempfile.mkdtemp(prefix="sgc-", dir=short))
        self.directory.chmod(0o755)
        self._started: list[PluginProcess] = []
        self.waiting: list[PluginProcess] = []
        """Processes that the checks of the start have left for those of the end."""

    def place(self, name: str) -> Path:
        """Return the path of a socket in a directory that does not exist."""
        return self.directory / name / "socket"

    def start(self, path: Path, arguments: Sequence[str] = ()) -> PluginProcess:
        """Start the program with its socket at `path`, and wait until it accepts a connection.

        Raises:
            NotServing: it ended, or did not accept one in time.
        """
        process = PluginProcess(
            [*self._command, str(path), *arguments], path, self.directory / f"{path.parent.name}.log"
        )
        self._started.append(process)
        process.wait_until_serving(self._seconds)
        return process

    def close(self) -> None:
        """End every process, and remove the directory of the sockets."""
        for process in self._started:
            process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class PluginProcess:
    """One process of the plugin, in a process group of its own."""

    def __init__(self, command: Sequence[str], path: Path, output: Path) -> None:
        self.path = path
        self._output = output
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARGO_")}
        self.began = time.monotonic()
        self.seconds = 0.0
        """How long it took until the socket accepted a connection."""
        try:
            with output.open("wb") as file:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    process_group=0,
                )
        except OSError as error:
            raise NotServing(f"the command cannot be started: {os.strerror(error.errno or 0).lower()}") from None

    def wait_until_serving(self, seconds: float) -> None:
        """Wait until the socket accepts a connection.

        Raises:
            NotServing: the process ended, or did not accept one within `seconds`.
        """
        while not self._accepts():
            if (code := self._process.poll()) is not None:
                raise NotServing(f"the process ended with {_shown(code)} and did not serve{self._last_words()}")
            if time.monotonic() - self.began > seconds:
                raise NotServing(f"the socket did not accept a connection within {seconds:g} s{self._last_words()}")
            time.sleep(_POLL)
        self.seconds = time.monotonic() - self.began

    def terminate(self, *, group: bool) -> None:
        """Send SIGTERM to the process, or to its whole group."""
        with suppress(ProcessLookupError):
            if group:
                os.killpg(self._process.pid, signal.SIGTERM)
            else:
                self._process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds: float) -> str:
        """Wait up to `seconds` for the end; return the code as a text, or an empty one if it has not ended."""
        with suppress(subprocess.TimeoutExpired):
            return _shown(self._process.wait(seconds))
        return ""

    def output_has(self, text: str) -> bool:
        """Return whether the output contains `text`."""
        with self._output.open("rb") as file:
            return text.encode() in file.read(_LARGEST_OUTPUT)

    def kill(self) -> None:
        """End the whole process group by SIGKILL."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_SECONDS)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.path)) == 0

    def _last_words(self) -> str:
        """Return the last line of the output as the end of a sentence."""
        with self._output.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST_LINE))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return f'; its last line was "{lines[-1]}"' if lines else ""


def _shown(code: int) -> str:
    """Return an exit code as Argo's report shows it."""
    return f"exit code {code}" if code >= 0 else f"exit code {128 - code} (signal {-code})"

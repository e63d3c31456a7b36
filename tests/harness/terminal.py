"""A command on a terminal of its own, as a user starts it."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from harness.chain import eventually


class Terminal:
    """A command whose input, output and errors are one pseudo terminal, which also sends it the signal of Ctrl-C."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self._leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (24, 200))  # a shell needs a width
        self.process = subprocess.Popen(
            # A shell has its background jobs ignore SIGINT, and their children with them. With `preexec_fn`, a copy of
            # this process would run, and gRPC does not always survive that.
            ["env", "--default-signal=INT", "setsid", "--ctty", *command],
            cwd=cwd,
            env=environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        os.set_blocking(self._leader, False)
        self.text = ""
        """Everything that the terminal has shown so far."""

    def __enter__(self) -> Self:
        return self

    def shows(self, text: str) -> bool:
        """Return whether the terminal shows `text` in time."""
        eventually(lambda: text in self._read() or self.process.poll() is not None, 60)
        return text in self._read()

    def press(self, keys: str) -> None:
        """Press keys, such as "\\x03" for Ctrl-C."""
        os.write(self._leader, keys.encode())

    def terminate(self) -> None:
        """Send SIGTERM to the command."""
        self.process.terminate()

    def end(self) -> int:
        """Return the exit code of the command, once it ends."""
        assert eventually(lambda: self._read() is not None and self.process.poll() is not None, 60), self.text
        self._read()
        return self.process.returncode

    def _read(self) -> str:
        with suppress(BlockingIOError, OSError):  # nothing is there, or the command has closed its end
            while data := os.read(self._leader, 1 << 16):
                self.text += data.decode(errors="replace")
        return self.text

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._leader)

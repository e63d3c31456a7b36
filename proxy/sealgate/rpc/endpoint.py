"""The socket of the downstream, and waiting until the downstream serves on it."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sealgate.call import Call
from sealgate.errors import TimedOut, Unavailable

log = logging.getLogger("sealgate.downstream")

_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""The first bytes of an HTTP/2 client: the preface and an empty SETTINGS frame."""
_PROBE_TIMEOUT = 2.0
"""Seconds."""
_POLL = 0.02
"""Seconds between two probes of a socket that does not answer yet."""


class Endpoint:
    """The socket of a downstream that another process serves. `rpc.child.ChildProcess` starts that process too.

    Args:
        path: the socket.
        start_timeout: how long a call waits until the downstream serves, in seconds (`downstream.startTimeout`).
    """

    def __init__(self, path: Path, start_timeout: float) -> None:
        self.path = path
        self._start_timeout = start_timeout
        self._reachable = threading.Event()
        self._on_end: list[Callable[[], None]] = []
        self.served = False
        """Whether a call has found the downstream serving, so that it may have sent a request."""

    def await_ready(self, call: Call) -> None:
        """Wait until the downstream serves, at most for the start timeout and until the call's deadline.

        Raises:
            Unavailable: this user may not connect, or the child has ended and is not running again.
            TimedOut: the downstream does not serve in time.
        """
        if self._reachable.is_set():
            return
        began = time.monotonic()
        while True:
            call.check()
            self.raise_if_ended(began)
            if self._accepts():
                break
            if time.monotonic() >= began + self._start_timeout:
                raise TimedOut(
                    f"the downstream's socket {self.path} does not accept connections after {self._start_timeout:g} s",
                    remedy="Check the downstream's log lines, or raise downstream.startTimeout",
                )
            time.sleep(_POLL)
        self.served = True
        self._reachable.set()

    def connection_lost(self) -> None:
        """Note that a connection broke: the next call waits again until the downstream serves."""
        self._reachable.clear()

    def broken(self) -> Unavailable:
        """Return the error of a call whose connection broke before its answer was complete."""
        return Unavailable(
            "the connection to the downstream broke before its answer was complete",
            remedy="Check the downstream's log lines; the operation may be repeated",
        )

    def on_end(self, callback: Callable[[], None]) -> None:
        """Run `callback` each time when the downstream's process has ended, if this process supervises it."""
        self._on_end.append(callback)

    def ended(self) -> None:
        """Note that the downstream's process has ended, and that no connection to it is of use."""
        self.connection_lost()
        for callback in self._on_end:
            callback()

    def raise_if_ended(self, since: float) -> None:
        """Raise `Unavailable` if the downstream's process has ended, unless a call should wait for the next start.

        Args:
            since: when the call began to wait, on the clock of `time.monotonic`.
        """

    def conceal(self, configuration: str) -> None:
        """Keep what an author's `configuration` contains out of the log, if this process logs the downstream's output.

        It is called before each request that contains the configuration.
        """

    def conceal_key(self, key: str) -> None:
        """Keep the hidden `key` out of the log in the same way. It is called before each request that contains it."""

    def close(self) -> None:
        """Release what this endpoint holds."""

    def _accepts(self) -> bool:
        """Return whether an HTTP/2 server answers. The socket of a process that is ending still accepts connections."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_TIMEOUT)
            try:
                probe.connect(str(self.path))
                probe.sendall(_HELLO)
                return bool(probe.recv(1))
            except OSError as error:
                if error.errno in {errno.EACCES, errno.EPERM}:
                    raise Unavailable(
                        f"this user may not connect to the downstream's socket {self.path}",
                        says="file system",
                        remedy="Run both containers with the same uid",
                    ) from None
                return False

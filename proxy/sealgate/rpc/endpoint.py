"""Where the downstream is reached: a socket that somebody else serves, or a child of this process."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from pathlib import Path

from sealgate.call import Call
from sealgate.errors import TimedOut, Unavailable

log = logging.getLogger("sealgate.downstream")

_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How an HTTP/2 client begins: the preface, and settings that say nothing."""
_ANSWERS_WITHIN = 2.0
_POLL = 0.02
"""Seconds between two looks at a socket that is not there yet."""


class Endpoint:
    """A downstream's socket, and patience with one that is still coming up."""

    def __init__(self, path: Path, start_timeout: float) -> None:
        self.path = path
        self._start_timeout = start_timeout
        self._reachable = threading.Event()

    def await_ready(self, call: Call) -> None:
        """Wait until the socket accepts, at most `downstream.startTimeout` and the call's own deadline.

        Raises:
            Unavailable: it refuses connections, or the child's command cannot be started.
            TimedOut: it did not come up in time.
        """
        if self._reachable.is_set():
            return
        until = time.monotonic() + self._start_timeout
        while not self._accepts():
            call.check()
            self.raise_if_hopeless()
            if time.monotonic() >= until:
                raise TimedOut(
                    f"the downstream's socket {self.path} does not accept connections after {self._start_timeout:g} s",
                    remedy="Look at the downstream's log lines, or raise downstream.startTimeout",
                )
            time.sleep(_POLL)
        self._reachable.set()

    def lost(self) -> None:
        """A call found the connection broken: look again before the next one."""
        self._reachable.clear()

    def raise_if_hopeless(self) -> None:
        """Raise if waiting is of no use."""

    def close(self) -> None:
        """Let go of the downstream."""

    def _accepts(self) -> bool:
        """Whether an HTTP/2 server answers. To connect is not enough: a dying process's socket still takes that."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_ANSWERS_WITHIN)
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

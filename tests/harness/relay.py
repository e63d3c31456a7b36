"""A relay between a proxy and what it calls, which breaks connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path


class Relay:
    """Accepts connections at `path` and passes them on to `downstream`, and cuts them after a number of bytes.

    Args:
        path: the socket that the relay binds; port 0 is one that is free.
        downstream: the socket that it connects to.
    """

    def __init__(self, path: Path | tuple[str, int], downstream: Path | tuple[str, int]) -> None:
        self._family = socket.AF_UNIX if isinstance(path, Path) else socket.AF_INET
        self._downstream = _address(downstream)
        self._listener = socket.socket(self._family)
        self._listener.bind(_address(path))
        self._listener.listen()
        self.address = self._listener.getsockname()
        self.mode = "pass"
        """`pass`; `refuse` to close each new connection at once; `hang` to accept it and pass nothing on."""
        self.passed = 0
        """Bytes that have gone from the downstream to the proxy. A test sets it to zero."""
        self.most: int | None = None
        """After this many of these bytes, a connection is cut; None for never."""
        self._hanging: list[socket.socket] = []
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all open connections."""
        for end in (*self._ends, *self._hanging):
            _shut(end)
        self._ends.clear()
        self._hanging.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                proxy, _ = self._listener.accept()
                if self.mode == "hang":
                    self._hanging.append(proxy)
                    continue
                if self.mode == "refuse":
                    proxy.close()
                    continue
                downstream = socket.socket(self._family)
                downstream.connect(self._downstream)
                self._ends += [proxy, downstream]
                for ends in ((proxy, downstream, False), (downstream, proxy, True)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted and self.most is not None and self.passed + len(data) > self.most:
                    target.sendall(data[: self.most - self.passed])
                    break
                target.sendall(data)
                if counted:
                    self.passed += len(data)
        for end in (source, target):
            _shut(end)


def _address(place: Path | tuple[str, int]) -> str | tuple[str, int]:
    return str(place) if isinstance(place, Path) else place


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

"""One process that serves one plugin: it binds the socket, composes the stack behind it, and drains at the end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable

from sealgate.compose.starting import Composed, Starting
from sealgate.rpc.server import ArtifactServer
from sealgate.telemetry.log import configure

log = logging.getLogger("sealgate")

_END = (signal.SIGTERM, signal.SIGINT)
GRACE = 20.0
"""Seconds that calls may go on after SIGTERM: less than the 30 that Argo waits before SIGKILL."""


def run(compose: Callable[[], Composed], socket: str) -> int:
    """Bind `socket`, compose the plugin behind it, and serve until SIGTERM or SIGINT.

    Returns 0 after calls have drained, and 2 if the socket cannot be bound.
    """
    configure()
    # The system may deliver a signal on any thread, and Python's handlers run when this one wakes. So what wakes it
    # is written on the spot, by the interpreter itself.
    signals, arrived = os.pipe()
    os.set_blocking(arrived, False)
    signal.set_wakeup_fd(arrived, warn_on_full_buffer=False)
    for number in _END:
        signal.signal(number, lambda *_: None)
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, _reap)
    plugin = Starting(compose)
    server = ArtifactServer(plugin, plugin.watching)
    try:
        server.start(socket)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "the path cannot be bound"
        print(f"sealgate: cannot listen on {socket}: {reason}", file=sys.stderr)
        return 2
    plugin.start(lambda: server.set_ready(ready=True))
    while os.read(signals, 1)[0] not in _END:
        pass
    server.stop(GRACE)
    plugin.close()
    sys.stderr.flush()
    # Whatever thread still waits on somebody else must not hold up the pod.
    os._exit(0)


def _reap(*_: object) -> None:
    """As process 1, bury orphans. A child of our own is left to the thread that waits for it."""
    from sealgate.rpc.child import awaited  # noqa: PLC0415 - nobody has children before it is loaded

    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in awaited:
            return
        os.waitpid(ended.si_pid, 0)

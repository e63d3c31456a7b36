"""The process around one plugin: it binds the socket, composes the stack behind it, and drains calls at the end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable

from sealgate.cli.exit_codes import BAD_USAGE, DONE, INTERRUPTED
from sealgate.compose.starting import Composed, Starting
from sealgate.plugin import Capabilities
from sealgate.rpc.server import LONGEST_SOCKET, ArtifactServer
from sealgate.telemetry.log import configure

log = logging.getLogger("sealgate")

_END = (signal.SIGTERM, signal.SIGINT)
GRACE = 20.0
"""Seconds that running calls may take after SIGTERM. Argo sends SIGKILL after 30."""


def run(compose: Callable[[], Composed], socket: str, capabilities: Capabilities) -> int:
    """Bind `socket`, compose the plugin behind it, and serve until SIGTERM or SIGINT.

    GetCapabilities is answered with `capabilities`, also before the plugin is composed. Once calls have drained, the
    process exits from here, with 0 after SIGTERM and 130 after Ctrl-C. Returns 2 if the socket cannot be bound.
    """
    configure()
    # The system may deliver a signal to any thread, but Python runs handlers only when the main thread wakes up. The
    # interpreter writes the number of the signal to this pipe at once, and the read below wakes the main thread.
    signals, arrived = os.pipe()
    os.set_blocking(arrived, False)
    signal.set_wakeup_fd(arrived, warn_on_full_buffer=False)
    for number in _END:
        signal.signal(number, lambda *_: None)
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, _reap)
    plugin = Starting(compose, capabilities)
    server = ArtifactServer(plugin, plugin.watching)
    try:
        server.start(socket)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "the path cannot be bound"
        if (size := len(os.fsencode(socket))) > LONGEST_SOCKET:
            reason = f"the path has {size} bytes; the kernel accepts {LONGEST_SOCKET}"
        print(f"sealgate: cannot listen on {socket}: {reason}", file=sys.stderr)
        return BAD_USAGE
    plugin.start(lambda: server.set_ready(ready=True))
    while (ended_by := os.read(signals, 1)[0]) not in _END:
        pass
    server.stop(GRACE)
    plugin.close()
    sys.stderr.flush()
    # A normal exit joins every thread, and one of them may wait for a peer. The pod must not wait for that.
    os._exit(INTERRUPTED if ended_by == signal.SIGINT else DONE)


def _reap(*_: object) -> None:
    """As process 1, reap orphans. Leave a child of this program to the thread that waits for it."""
    from sealgate.rpc.child import awaited  # noqa: PLC0415 - no child exists before this module is loaded

    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in awaited:
            return
        os.waitpid(ended.si_pid, 0)

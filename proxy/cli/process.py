"""One process that serves one plugin: up first, composed behind, drained at the end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.plugin import Artifact, ArtifactPlugin, Call, Capabilities, Chunk, NotConfigured, Operation, PluginError
from proxy.rpc.server import ArtifactServer
from proxy.rpc.watched import Watch
from proxy.telemetry.log import configure

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("sealgate")

_END = (signal.SIGTERM, signal.SIGINT)
GRACE = 20.0
"""Seconds that calls may go on after SIGTERM: less than the 30 that Argo waits before SIGKILL."""


@dataclass(frozen=True, slots=True)
class Composed:
    """A plugin to serve, and what to let go of when it is not served any more."""

    plugin: ArtifactPlugin
    watch: Watch | None = None
    closing: tuple[Callable[[], None], ...] = ()


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


class Starting:
    """A plugin that is still being composed: calls wait for it, and if that fails they say why."""

    def __init__(self, compose: Callable[[], Composed]) -> None:
        self._compose = compose
        self._done = threading.Event()
        self._composed: Composed | None = None
        self._fault: PluginError = NotConfigured("the plugin did not start")

    def start(self, ready: Callable[[], None]) -> None:
        """Begin composing, and call `ready` when that has succeeded."""
        threading.Thread(target=self._run, args=(ready,), name="sealgate-compose", daemon=True).start()

    def close(self) -> None:
        """Let go of everything that the plugin holds."""
        for close in self._composed.closing if self._composed else ():
            close()

    def watching(self, operation: Operation) -> Watch | None:
        """Who is shown a call; one that needs no configuration does not wait for it."""
        if operation is not Operation.GET_CAPABILITIES:
            self._done.wait()
        return self._composed.watch if self._composed else None

    def _run(self, ready: Callable[[], None]) -> None:
        try:
            self._composed = self._compose()
            ready()
        except PluginError as fault:
            self._fault = fault
            log.error("%s (%s)", fault.fact, fault.says)  # noqa: TRY400 - a named error needs no trace
        except OSError as error:
            self._fault = NotConfigured(f"the plugin cannot start: {os.strerror(error.errno or 0).lower()}")
            log.error("%s", self._fault.fact)  # noqa: TRY400 - a named error needs no trace
        except Exception as error:
            # A foreign exception's text can carry anything: the log has its type and where it was raised.
            self._fault = PluginError(
                f"an unexpected {type(error).__name__} stopped the start", remedy="Report it with the lines of the log"
            )
            log.exception("the plugin cannot start: a defect")
        finally:
            self._done.set()

    def _ready(self) -> ArtifactPlugin:
        self._done.wait()
        if self._composed is None:
            fault = self._fault
            raise type(fault)(fault.fact, says=fault.says, remedy=fault.remedy)
        return self._composed.plugin

    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.load`."""
        self._ready().load(call, artifact, path)

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """See `ArtifactPlugin.open_stream`."""
        return self._ready().open_stream(call, artifact)

    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.save`."""
        self._ready().save(call, artifact, path)

    def delete(self, call: Call, artifact: Artifact) -> None:
        """See `ArtifactPlugin.delete`."""
        self._ready().delete(call, artifact)

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """See `ArtifactPlugin.list_objects`."""
        return self._ready().list_objects(call, artifact)

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """See `ArtifactPlugin.is_directory`."""
        return self._ready().is_directory(call, artifact)

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """See `ArtifactPlugin.save_stream`."""
        self._ready().save_stream(call, artifact, chunks)

    def get_capabilities(self, call: Call) -> Capabilities:  # noqa: ARG002 - the same for every caller
        """Answered without a configuration: both plugins that are served here take streams."""
        return Capabilities(save_stream=True)


def _reap(*_: object) -> None:
    """As process 1, bury orphans. A child of our own is left to the thread that waits for it."""
    from proxy.rpc.endpoint import awaited  # noqa: PLC0415 - nobody has children before it is loaded

    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in awaited:
            return
        os.waitpid(ended.si_pid, 0)

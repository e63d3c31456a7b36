"""Stands in for a stack that is still being composed: the socket is bound first, and calls wait for the stack.

Argo looks for the socket once a second, and composing loads most of the program. A configuration that does not load
does not end the process: every call then answers with that error.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from sealgate.call import Call, Operation
from sealgate.errors import NotConfigured, PluginError
from sealgate.log_event import LogEvent
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.rpc.observer import CallObserver

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("sealgate")


@dataclass(frozen=True, slots=True)
class Composed:
    """A composed plugin, what observes its calls, and what to close at the end."""

    plugin: ArtifactPlugin
    watch: CallObserver | None = None
    """Observes every call; None without telemetry."""
    closing: tuple[Callable[[], None], ...] = ()
    """Called in this order after the last call."""


class Starting(ArtifactPlugin):
    """Forwards calls to the composed plugin. Calls wait until it is composed; if that failed, they raise the error.

    Args:
        compose: composes the plugin.
        capabilities: what the composed plugin will offer.
    """

    def __init__(self, compose: Callable[[], Composed], capabilities: Capabilities) -> None:
        self._compose = compose
        self._capabilities = capabilities
        self._done = threading.Event()
        self._composed: Composed | None = None
        self._fault: PluginError = NotConfigured("the plugin did not start")

    def start(self, ready: Callable[[], None]) -> None:
        """Begin to compose on a separate thread, and call `ready` when that has succeeded."""
        threading.Thread(target=self._run, args=(ready,), name="sealgate-compose", daemon=True).start()

    def close(self) -> None:
        """Close everything that the composed plugin holds."""
        for close in self._composed.closing if self._composed else ():
            close()

    def watching(self, operation: Operation) -> CallObserver | None:
        """Return what observes a call of this operation, once that is known; GetCapabilities does not wait for it."""
        if operation is not Operation.GET_CAPABILITIES:
            self._done.wait()
        return self._composed.watch if self._composed else None

    def _run(self, ready: Callable[[], None]) -> None:
        try:
            self._composed = self._compose()
            ready()
        except PluginError as fault:
            self._fault = fault
            log.error(LogEvent("the plugin cannot start", reason=fault.fact, component=fault.says))  # noqa: TRY400 - a named error needs no trace
        except OSError as error:
            self._fault = NotConfigured(f"the plugin cannot start: {os.strerror(error.errno or 0).lower()}")
            log.error(LogEvent("the plugin cannot start", reason=self._fault.fact))  # noqa: TRY400 - a named error needs no trace
        except Exception as error:
            # The text of an unexpected exception can contain a secret; the log gets its type and where it was raised.
            self._fault = PluginError(
                f"an unexpected {type(error).__name__} stopped the start", remedy="Report it with the lines of the log"
            )
            log.exception(LogEvent("the plugin cannot start", reason="a defect"))
        finally:
            self._done.set()

    def _ready(self) -> ArtifactPlugin:
        self._done.wait()
        if self._composed is None:
            fault = self._fault
            raise type(fault)(fault.fact, says=fault.says, remedy=fault.remedy)
        return self._composed.plugin

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        self._ready().load(call, artifact, path)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        return self._ready().open_stream(call, artifact)

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        self._ready().save(call, artifact, path)

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        self._ready().delete(call, artifact)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        return self._ready().list_objects(call, artifact)

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        return self._ready().is_directory(call, artifact)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        self._ready().save_stream(call, artifact, chunks)

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """Answer without waiting for the composed plugin."""
        return self._capabilities

"""The outermost layer: each access is recorded, before its effects and after them (docs/audit.md)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from proxy.plugin import Artifact, ArtifactPlugin, AuditBlocked, Call, Capabilities, Chunk, DeadlineExceeded
from proxy.telemetry.audit import AuditLog


class Audited:
    """Records every access. What cannot be recorded does not happen, unless the trail was set up to fail open.

    Args:
        discard: removes what a Load has created, when that could not be recorded.
        answered: raises where a caller cannot be given the listing, so that the record says what he got.
    """

    def __init__(
        self,
        inner: ArtifactPlugin,
        audit_log: AuditLog,
        *,
        discard: Callable[[Path], None],
        answered: Callable[[list[str]], object],
    ) -> None:
        self._inner = inner
        self._audit_log = audit_log
        self._discard = discard
        self._answered = answered

    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.load`. What is not recorded does not stay."""
        loaded = False
        try:
            with self._recorded(call, artifact):
                self._inner.load(call, artifact, path)
                loaded = True
        except AuditBlocked:
            if loaded:
                self._discard(path)
            raise

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """See `ArtifactPlugin.open_stream`."""
        with self._recorded(call, artifact), closing(self._inner.open_stream(call, artifact)) as chunks:
            yield from chunks

    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.save`."""
        with self._recorded(call, artifact):
            self._inner.save(call, artifact, path)

    def delete(self, call: Call, artifact: Artifact) -> None:
        """See `ArtifactPlugin.delete`."""
        with self._recorded(call, artifact):
            self._inner.delete(call, artifact)

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """See `ArtifactPlugin.list_objects`. The answer waits for the one record of it."""
        with self._recorded(call, artifact, effects=False) as listed:
            objects = self._inner.list_objects(call, artifact)
            self._answered(objects)
            listed.append(len(objects))
        return objects

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """See `ArtifactPlugin.is_directory`. The answer waits for the one record of it."""
        with self._recorded(call, artifact, effects=False):
            return self._inner.is_directory(call, artifact)

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """See `ArtifactPlugin.save_stream`."""
        with self._recorded(call, artifact):
            self._inner.save_stream(call, artifact, chunks)

    def get_capabilities(self, call: Call) -> Capabilities:
        """See `ArtifactPlugin.get_capabilities`. It touches no artifact, and is not recorded."""
        return self._inner.get_capabilities(call)

    @contextmanager
    def _recorded(self, call: Call, artifact: Artifact, *, effects: bool = True) -> Iterator[list[int]]:
        """One access, with its attempt once it is decided and its outcome at the end."""
        access = self._audit_log.access(call, artifact)
        if effects and self._audit_log.records_attempts:
            call.before_effects = lambda: self._audit_log.attempt(access)
        listed: list[int] = []
        try:
            yield listed
        except AuditBlocked:
            raise  # nothing has happened, and nothing can be recorded
        except GeneratorExit as gone:
            late = DeadlineExceeded("the caller's deadline passed") if call.remaining() == 0 else gone
            with suppress(AuditBlocked):  # there is nobody left to be told
                self._audit_log.outcome(access, late)
            raise
        except Exception as error:
            self._audit_log.outcome(access, error)
            raise
        self._audit_log.outcome(access, None, sum(listed))

"""The outermost layer: each access is recorded, before its effects and after them (docs/audit.md)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from typing_extensions import override

from sealgate.audit.audit_log import AuditLog
from sealgate.call import Call
from sealgate.errors import AuditBlocked, DeadlineExceeded
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk


class Audited(ArtifactPlugin):
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

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """What is not recorded does not stay."""
        loaded = False
        try:
            with self._recorded(call, artifact):
                self._inner.load(call, artifact, path)
                loaded = True
        except AuditBlocked:
            if loaded:
                self._discard(path)
            raise

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        with self._recorded(call, artifact), closing(self._inner.open_stream(call, artifact)) as chunks:
            yield from chunks

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        with self._recorded(call, artifact):
            self._inner.save(call, artifact, path)

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        with self._recorded(call, artifact):
            self._inner.delete(call, artifact)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """The answer waits for the one record of it."""
        with self._recorded(call, artifact, effects=False) as listed:
            objects = self._inner.list_objects(call, artifact)
            self._answered(objects)
            listed.append(len(objects))
        return objects

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """The answer waits for the one record of it."""
        with self._recorded(call, artifact, effects=False):
            return self._inner.is_directory(call, artifact)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        with self._recorded(call, artifact):
            self._inner.save_stream(call, artifact, chunks)

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """It touches no artifact, and is not recorded."""
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

"""The outermost layer: it records each access before its effects and after them (docs/audit.md)."""

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
    """Records every access. An access that cannot be recorded does not happen, unless `audit.mode` is fail-open.

    Args:
        inner: the plugin whose accesses are recorded.
        audit_log: the audit trail of this process.
        discard: removes the local path that a Load has created, if its outcome could not be recorded.
        check_listing: raises if the answer to ListObjects cannot be sent. It runs before the outcome is recorded, so
            that the record states what the caller received.
    """

    def __init__(
        self,
        inner: ArtifactPlugin,
        audit_log: AuditLog,
        *,
        discard: Callable[[Path], None],
        check_listing: Callable[[list[str]], object],
    ) -> None:
        self._inner = inner
        self._audit_log = audit_log
        self._discard = discard
        self._check_listing = check_listing

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Load, and remove what was loaded if the outcome cannot be recorded."""
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
        """List, and return only once the single record of the listing has been written."""
        with self._recorded(call, artifact, has_effects=False) as listed:
            objects = self._inner.list_objects(call, artifact)
            self._check_listing(objects)
            listed.append(len(objects))
        return objects

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """Answer only once the single record of the question has been written."""
        with self._recorded(call, artifact, has_effects=False):
            return self._inner.is_directory(call, artifact)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        with self._recorded(call, artifact):
            self._inner.save_stream(call, artifact, chunks)

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """Forward without a record: this concerns no artifact."""
        return self._inner.get_capabilities(call)

    @contextmanager
    def _recorded(self, call: Call, artifact: Artifact, *, has_effects: bool = True) -> Iterator[list[int]]:
        """Record one access: its attempt once it is decided, and its outcome when the body ends.

        The body may append the length of a listing to the list that this yields. Without `has_effects` there is no
        attempt.
        """
        access = self._audit_log.access(call, artifact)
        if has_effects and self._audit_log.records_attempts:
            call.before_effects = lambda: self._audit_log.attempt(access)
        listed: list[int] = []
        try:
            yield listed
        except AuditBlocked:
            raise  # the attempt could not be recorded, so nothing has happened that an outcome could describe
        except GeneratorExit as closed:
            late = DeadlineExceeded("the caller's deadline passed") if call.remaining() == 0 else None
            reason = call.ended_by or late or closed
            with suppress(AuditBlocked):  # the caller has gone away and cannot receive the error
                self._audit_log.outcome(access, reason)
            raise
        except Exception as error:
            self._audit_log.outcome(access, error)
            raise
        self._audit_log.outcome(access, None, sum(listed))

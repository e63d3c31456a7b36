"""The layer next to the downstream: it records the SHA-256 of what is stored, for the audit record.

It sees ciphertext only, except for objects that a policy stores or reads unsealed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from pathlib import Path

from typing_extensions import override

from sealgate.call import Call
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.storage.local_paths import local_errors, read_chunks


class Digested(ArtifactPlugin):
    """Records the SHA-256 of the one file that a call stores or reads. For several files it records no digest."""

    def __init__(self, inner: ArtifactPlugin) -> None:
        self._inner = inner
        self._recording = threading.Lock()

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        self._inner.load(call, artifact, path)
        self._record_file(call, path)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        digest = hashlib.sha256()
        with closing(self._inner.open_stream(call, artifact)) as chunks:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk
        self._record(call, digest.hexdigest())

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        self._record_file(call, path)
        self._inner.save(call, artifact, path)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        digest = hashlib.sha256()

        def hashed() -> Generator[Chunk]:
            try:
                for chunk in chunks:
                    digest.update(chunk)
                    yield chunk
            finally:
                if isinstance(chunks, Generator):
                    chunks.close()

        self._inner.save_stream(call, artifact, hashed())
        self._record(call, digest.hexdigest())

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        self._inner.delete(call, artifact)

    @override
    def is_local(self) -> bool:
        return self._inner.is_local()

    @override
    def delete_objects(self, call: Call, artifact: Artifact, keys: Collection[str]) -> bool:
        return self._inner.delete_objects(call, artifact, keys)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        return self._inner.list_objects(call, artifact)

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        return self._inner.is_directory(call, artifact)

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        return self._inner.get_capabilities(call)

    def _record(self, call: Call, digest: str) -> None:
        with self._recording:  # several small files of a directory may be on their way at once
            facts = call.stored
            facts.files += 1
            facts.sha256 = digest if facts.files == 1 else ""

    def _record_file(self, call: Call, path: Path) -> None:
        """Record the digest of the regular file at `path`; nothing for a directory, a link or a missing file.

        The layers around this one report such a path.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return
            digest = hashlib.sha256()
            with local_errors("the spool"):
                for chunk in read_chunks(fd, call.check):
                    digest.update(chunk)
            self._record(call, digest.hexdigest())
        finally:
            os.close(fd)

"""The bundled backend: files and directories as objects in S3, Google Cloud Storage, Azure or a directory.

A file is one object under the artifact's key. A directory is an object for each file, under the key, a slash
and the file's path; an empty directory in it is kept by a marker (`sealgate.backend.keys.MARKER`).
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from typing_extensions import override

from sealgate.backend import keys, local
from sealgate.backend.bucket import Bucket
from sealgate.backend.connect import Buckets
from sealgate.backend.errors import SAYS, Missing
from sealgate.backend.replace import keys_of, replacing
from sealgate.backend.settings import place
from sealgate.backend.trees import load_tree, save_file, save_tree
from sealgate.call import Call
from sealgate.errors import Refused
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk

_CHUNK = 1 << 20
_DELETED_AT_ONCE = 10_000


class ObjectStoreBackend(ArtifactPlugin):
    """An `ArtifactPlugin` on an object store.

    The store is what the artifact's configuration says, or the environment: see `sealgate.backend.settings`.

    Args:
        environment: where `SEALGATE_BACKEND_URL` and `SEALGATE_BACKEND_CONFIG` are looked up. A platform's
            own variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`) are read by the store library, from the process's.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._buckets = Buckets()

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Create the file or directory at `path`, whole or not at all."""
        bucket, key = self._find(artifact)
        with local.replacing(local.absolute(path)) as temporary:
            try:
                with closing(bucket.read(call, key)) as parts:
                    local.create(temporary, parts)
            except Missing:
                local.remove(temporary)
                load_tree(bucket, call, key, temporary)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield a file's bytes, in chunks of at most 1 MiB."""
        bucket, key = self._find(artifact)
        try:
            with closing(bucket.read(call, key)) as parts:
                for part in parts:
                    view = memoryview(part)
                    for offset in range(0, len(view), _CHUNK):
                        call.check()
                        yield view[offset : offset + _CHUNK]
        except Missing:
            if self.is_directory(call, artifact):
                raise Refused("the artifact is a directory, and only a file can be streamed", says=SAYS) from None
            raise

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Store the file or directory at `path`; afterwards nothing else lies at the key."""
        bucket, key = self._find(artifact)
        with closing(local.opened(local.absolute(path))) as source:
            if source.is_directory:
                save_tree(bucket, call, key, source)
                return
            with replacing(bucket, call, key, {key}):
                save_file(bucket, call, key, source)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Store what `chunks` yields, once it has ended normally; if it raises, store nothing."""
        bucket, key = self._find(artifact)
        with replacing(bucket, call, key, {key}):
            bucket.write(key, chunks)

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        """Remove the object at the key and all beneath it. An absent one is no error."""
        bucket, key = self._find(artifact)
        doomed: list[str] = []
        for stored in bucket.beneath(call, key):
            doomed.append(stored.key)
            if len(doomed) == _DELETED_AT_ONCE:
                bucket.delete(doomed)
                doomed.clear()
        bucket.delete(doomed)
        bucket.delete([key])

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """Name every object beneath the artifact's key, by full key, sorted."""
        bucket, key = self._find(artifact)
        return sorted(found for found in keys_of(bucket, call, key) if not keys.is_marker(found))

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """Tell whether anything lies beneath the artifact's key."""
        bucket, key = self._find(artifact)
        with closing(bucket.beneath(call, key)) as beneath:
            return next(beneath, None) is not None

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """Streams are stored as they are."""
        return Capabilities(save_stream=True)

    def _find(self, artifact: Artifact) -> tuple[Bucket, str]:
        key = keys.checked(artifact.key)
        return self._buckets.at(place(artifact.configuration, self._environment)), key

"""The bundled backend: files and directories as objects in S3, Google Cloud Storage, Azure or a directory.

A file is one object under the artifact's key. A directory is one object for each file, whose key is the artifact's
key, a slash and the file's path. Object stores have no empty directories, so a directory with one is refused.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from typing_extensions import override

from sealgate.backend import local
from sealgate.backend.beneath import Beneath
from sealgate.backend.bucket import Bucket
from sealgate.backend.connect import Buckets
from sealgate.backend.create import create_file, create_tree
from sealgate.backend.errors import SAYS, Missing
from sealgate.backend.in_flight import run
from sealgate.backend.keys import checked
from sealgate.backend.replace import is_vacant, replacing
from sealgate.backend.settings import store_location
from sealgate.backend.spare import MOST, SpareMemory
from sealgate.backend.trees import load_tree, save_tree
from sealgate.call import Call
from sealgate.errors import PluginError, Refused
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.storage.local_paths import read_chunks

_CHUNK = 1 << 20


class ObjectStoreBackend(ArtifactPlugin):
    """An `ArtifactPlugin` on an object store.

    The environment or the artifact's configuration names the store (`sealgate.backend.settings`).

    Args:
        environment: where `SEALGATE_BACKEND_URL` and `SEALGATE_BACKEND_CONFIG` are read. The store library reads a
            platform's own variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`) from the environment of the process.
        spare: bytes of memory that its transfers share, beside 4 MiB for each OpenStream and 16 MiB for each upload;
            None where memory is not limited.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, spare: int | None = None) -> None:
        self._environment = dict(environment)  # a copy is read faster than the variables of the process
        self._buckets = Buckets(SpareMemory(MOST if spare is None else spare))

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        bucket, key = self._find(artifact)
        with local.destination(path) as destination:
            try:
                run(call, bucket.load(call, key, lambda: destination.new_file(local.FILE_MODE)))
            except Missing:
                load_tree(bucket, call, key, destination)

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
        """Store the file or directory at `path`. Nothing else is stored beneath the key afterwards."""
        bucket, key = self._find(artifact)
        with local.source(path) as source:
            if call.only_new and bucket.creates(call, key):
                if source.is_directory:
                    create_tree(bucket, call, key, source.fd)
                else:
                    create_file(bucket, call, key, read_chunks(source.fd, call.check), source.size)
                return
            if source.is_directory:
                save_tree(bucket, call, key, source.fd)
                return
            with replacing(bucket, call, key, {key}):
                bucket.put(call, key, read_chunks(source.fd, call.check), size=source.size)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        bucket, key = self._find(artifact)
        if call.only_new and bucket.creates(call, key):
            create_file(bucket, call, key, chunks)
        elif is_vacant(call, key):
            bucket.put(call, key, chunks)
        else:
            with replacing(bucket, call, key, {key}):
                bucket.put(call, key, chunks)

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        bucket, key = self._find(artifact)
        Beneath(bucket, call, key).delete_all()
        bucket.delete(call, [key])

    @override
    def delete_objects(self, call: Call, artifact: Artifact, keys: Collection[str]) -> bool:
        """Remove exactly the objects `keys`, in bulk and without a listing. Always return True.

        Raises:
            BadRequest: one of the keys cannot be stored. Nothing was removed.
        """
        bucket, _ = self._find(artifact)
        bucket.delete_while_awaited(call, [checked(key) for key in keys])
        return True

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """Return the full key of every object beneath the artifact's key whose key can be a path, sorted.

        An empty key lists the whole store.
        """
        bucket, key = self._find(artifact, or_all=True)
        beneath = Beneath(bucket, call, key)
        contents = beneath.contents()
        if 0 in contents.sizes.values():  # an empty object may be a folder of a console
            contents = beneath.exact_contents() or contents
        beneath.warn_of(contents.left_out)
        return sorted(contents.sizes)

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        bucket, key = self._find(artifact)
        return Beneath(bucket, call, key).is_any()

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        return Capabilities(save_stream=True, replaces_whole=True, creates=True)

    @override
    def is_local(self) -> bool:
        """Return whether the administrator names a directory. No author may."""
        with suppress(PluginError):
            return store_location("", self._environment).scheme == "file"
        return False

    def _find(self, artifact: Artifact, *, or_all: bool = False) -> tuple[Bucket, str]:
        """Return the bucket of the artifact, and its key. With `or_all`, the key may be empty.

        Raises:
            BadRequest: the key cannot be stored.
        """
        key = checked(artifact.key) if artifact.key or not or_all else ""
        return self._buckets.at(store_location(artifact.configuration, self._environment)), key

"""The layer that seals: plaintext above it, ciphertext below it.

A Save surveys the local files, creates one data key, and seals either into the spool (by file) or into the
downstream's SaveStream (by stream). A Load opens what the downstream put into the spool, or the downstream's stream.
Plaintext reaches a disk only as the file or directory that a Load requested, and gets its final name only after its
last segment has been verified. `sealing` does the work of the first, `opening` that of the second.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

from typing_extensions import override

from sealgate.call import Call
from sealgate.keys import KeyProvider
from sealgate.layers.author_block import split_author_block, without_author_block
from sealgate.layers.beside import SmallTransfers
from sealgate.layers.directories import require_unreserved
from sealgate.layers.opening import Opener
from sealgate.layers.sealing import Sealer
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.storage.absence import Absence
from sealgate.storage.deletion import Deleter
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects, Transfer


class Sealed(ArtifactPlugin):
    """Seals on Save and SaveStream, opens on Load and OpenStream, and forwards the rest.

    Args:
        downstream: the plugin that stores the ciphertext.
        keys: creates and unwraps data keys.
        roots: the directories beneath which local paths must be.
        spool: where ciphertext waits for a downstream that works by path.
        transfer: how ciphertext travels.
        absence: recognizes the answers by which the downstream says that nothing is stored.
        allows_unbound: whether objects are opened that were sealed without an artifact key.
    """

    def __init__(
        self,
        downstream: ArtifactPlugin,
        keys: KeyProvider,
        *,
        roots: Roots,
        spool: Spool,
        transfer: Transfer = Transfer.AUTO,
        absence: Absence = Absence(),  # noqa: B008 - it has no state that changes
        allows_unbound: bool = False,
    ) -> None:
        self.stored = StoredObjects(downstream, spool, transfer, absence)
        """The stored objects, still sealed, one at a time."""
        self._roots = roots
        self._deleter = Deleter(self.stored)
        beside = SmallTransfers()
        self._sealer = Sealer(self.stored, keys, self._deleter, beside)
        self._opener = Opener(self.stored, keys, beside, allows_unbound=allows_unbound)

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Seal the file or directory at `path` under one data key, and store it."""
        with self._roots.source(path) as source:
            call.instructions.meter.resolved_path(source.path)
            artifact, key_name = split_author_block(artifact, call.instructions.author_keys)
            require_unreserved(artifact.key)
            self._sealer.save(call, artifact, source, key_name)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Seal what `chunks` yields: forwarded segment by segment, or spooled as ciphertext and saved."""
        artifact, key_name = split_author_block(artifact, call.instructions.author_keys)
        require_unreserved(artifact.key)
        self._sealer.save_stream(call, artifact, chunks, key_name)

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Open the stored file or directory to `path`: whole and verified, or not at all."""
        artifact = without_author_block(artifact)
        require_unreserved(artifact.key)
        with self._roots.destination(path) as destination:
            call.instructions.meter.resolved_path(destination.path)
            self._opener.load(call, artifact, destination)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the plaintext, each segment only once it has been verified."""
        artifact = without_author_block(artifact)
        require_unreserved(artifact.key)
        yield from self._opener.open_stream(call, artifact)

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        """Delete the artifact, and fail if the downstream has left something of it."""
        artifact = without_author_block(artifact)
        require_unreserved(artifact.key)
        self._deleter.delete_artifact(call, artifact)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        return self.stored.list_objects(call, without_author_block(artifact))

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        return self.stored.is_directory(call, without_author_block(artifact))

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """Always offer SaveStream: where the downstream has none, the ciphertext is spooled."""
        return Capabilities(save_stream=True)

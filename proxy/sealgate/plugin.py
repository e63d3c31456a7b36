"""The one interface under everything: the eight operations on an artifact, in plain Python types.

Two kinds of classes implement `ArtifactPlugin`. A *source* reaches storage: `rpc.client.Downstream`,
`rpc.in_process.InProcess`, `backend.ObjectStoreBackend`. A *layer* wraps another plugin and adds one concern:
`layers.Audited`, `Governed`, `Sealed`, `Digested`. `compose.starting.Starting` stands in for a stack that is still
being composed. `rpc.server` turns any plugin into Argo's gRPC service. Nothing in this file knows gRPC.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path  # takes 10 ms to import, and serve does not need it before the socket is bound

    from sealgate.call import Call

Chunk = bytes | bytearray | memoryview
"""A run of an artifact's bytes. It is valid only until the next one is taken, because its buffer may be reused."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a request says about an artifact. Every field comes from a workflow's author and is not trusted."""

    key: str
    """The artifact key: where the artifact is stored, as segments separated by `/`."""
    name: str = ""
    plugin: str = ""
    """The name by which Argo knows the plugin."""
    configuration: str = field(default="", repr=False)
    """The author's free text for the plugin. It may contain credentials: never log it or put it into an error."""
    path: str = ""
    mode: int = 0
    source: str = ""
    """Argo's field `from`."""
    optional: bool = False
    sub_path: str = ""
    """Already part of the key when a request arrives; it is not applied again."""
    recurse_mode: bool = False
    from_expression: str = ""
    deleted: bool = False
    connection_timeout_seconds: int = 0
    """Argo's own bound on connecting. It is not a deadline for a call."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Which optional operations a plugin has, and how it stores."""

    save_stream: bool
    replaces_whole: bool = False
    """Whether Save and SaveStream replace the whole artifact: everything that was stored at its key and beneath it.

    A Delete by such a plugin is not verified."""
    creates: bool = False
    """Whether Save and SaveStream obey `Call.only_new`, as far as the store behind the plugin can."""


class ArtifactPlugin(Protocol):
    """Eight operations on an artifact. A failure is a `PluginError`; any other exception is a defect.

    `delete_objects` and `is_local` are not among Argo's operations. Only a source in this process has them, and
    `Digested` passes them on.
    """

    @abstractmethod
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Create the artifact's file or directory at `path`, complete or not at all."""

    @abstractmethod
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the artifact's bytes. It ends normally only after the last of them; closing it stops the work."""

    @abstractmethod
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Store the file or directory at `path` and replace what was stored before, unless `call.only_new` is set."""

    @abstractmethod
    def delete(self, call: Call, artifact: Artifact) -> None:
        """Remove the artifact and, if it is a directory, all objects beneath it. An absent artifact is not an error."""

    @abstractmethod
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """Return the full key of every object beneath the artifact's key."""

    @abstractmethod
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """Return whether objects are stored beneath the artifact's key. An absent artifact is not a directory."""

    @abstractmethod
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Store what `chunks` yields once it has ended normally, as `save` does; if it raises, store nothing."""

    @abstractmethod
    def get_capabilities(self, call: Call) -> Capabilities:
        """Return what the plugin offers. This needs no configuration and no other service."""

    def is_local(self) -> bool:
        """Return whether the objects are files in a directory. It answers at once, unless it is on another machine."""
        return False

    def delete_objects(self, call: Call, artifact: Artifact, keys: Collection[str]) -> bool:  # noqa: ARG002 - for others
        """Remove exactly the objects `keys`, and nothing beneath them. An absent object is not an error.

        Return False if the plugin has no such operation. Nothing was removed then. After a failure, some of the objects
        may be removed.

        Args:
            call: the call.
            artifact: has the configuration for the store. What is stored at its key is not removed.
            keys: full keys, as `list_objects` returns them.
        """
        return False

"""A plugin in memory, as the downstream of a layer: it stores what it receives, by path or by stream."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from pathlib import Path

from sealgate.call import Call
from sealgate.errors import DownstreamStatus, Refused
from sealgate.plugin import Artifact, Capabilities, Chunk
from sealgate.storage.stored_objects import Transfer

WAYS = {
    "auto": (Transfer.AUTO, True),
    "auto-no-streams": (Transfer.AUTO, False),
    "file": (Transfer.FILE, True),
    "stream": (Transfer.STREAM, True),
}
"""The ways of transfer, each with whether the plugin has streams."""


class MemoryPlugin:
    """Keeps bytes by artifact key. `calls` lists its operations in order.

    Args:
        streams: without it, the plugin works by path only.
        whole: a write replaces everything that was stored at the key and beneath it before. Without it, a file and a
            directory of the same key are stored beside each other, as in most object stores, and the file is read.
    """

    def __init__(self, *, streams: bool = True, whole: bool = False) -> None:
        self.objects: dict[str, bytes] = {}
        self.artifacts: list[Artifact] = []
        self.calls: list[str] = []
        self.streams = streams
        self.whole = whole

    def _note(self, operation: str, artifact: Artifact) -> None:
        self.calls.append(operation)
        self.artifacts.append(artifact)

    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        self._note("load", artifact)
        if artifact.key in self.objects:
            path.write_bytes(self.objects[artifact.key])
            return
        for key in self._beneath(artifact):
            name = key.removeprefix(f"{artifact.key}/")
            if {"", ".", ".."} & set(name.split("/")):
                raise Refused(f"a key that is no path is stored: {name}")
            file = path / name
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.objects[key])
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise Refused("one path is stored as a file and as a directory") from None
        if not path.exists():
            raise Refused("not found")

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        self._note("open_stream", artifact)
        if not self.streams:
            raise DownstreamStatus("UNIMPLEMENTED", "no streams here")
        if artifact.key not in self.objects:
            raise Refused("not found")
        data = self.objects[artifact.key]
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        self._note("save", artifact)
        self._remove_whole(artifact)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in files:
            relative = file.relative_to(path).as_posix()
            key = artifact.key if relative == "." else f"{artifact.key}/{relative}"
            self.objects[key] = file.read_bytes()

    def delete(self, call: Call, artifact: Artifact) -> None:
        self._note("delete", artifact)
        for key in [artifact.key, *self._beneath(artifact)]:
            self.objects.pop(key, None)

    def is_local(self) -> bool:
        return False

    def delete_objects(self, call: Call, artifact: Artifact, keys: Collection[str]) -> bool:
        """Delete nothing: this plugin deletes one artifact after the other, as every plugin behind a socket does."""
        return False

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        self._note("list_objects", artifact)
        return self._beneath(artifact)

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        self._note("is_directory", artifact)
        return bool(self._beneath(artifact))

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        self._note("save_stream", artifact)
        if not self.streams:
            raise DownstreamStatus("UNIMPLEMENTED", "no streams here")
        data = b"".join(bytes(chunk) for chunk in chunks)
        self._remove_whole(artifact)
        self.objects[artifact.key] = data

    def get_capabilities(self, call: Call) -> Capabilities:
        return Capabilities(save_stream=self.streams, replaces_whole=self.whole)

    def _remove_whole(self, artifact: Artifact) -> None:
        for key in [artifact.key, *self._beneath(artifact)] if self.whole else ():
            self.objects.pop(key, None)

    def _beneath(self, artifact: Artifact) -> list[str]:
        start = f"{artifact.key}/" if artifact.key else ""
        return sorted(key for key in self.objects if key.startswith(start))

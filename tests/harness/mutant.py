"""A small plugin in memory that keeps Argo's contract, and can be given one defect: `MUTANT=defect mutant.py SOCKET`.

`sealgate conformance` must name each defect by the right check. It shares nothing with the product but the messages.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc

from sealgate.rpc import artifact_pb2 as pb

FRAME = 64 * 1024
LONGEST_KEY = 1024
OUTSIDE = "/proc/self/status"
SLOW = 0.02  # seconds for each frame of a plugin that is slow


class Refuses(Exception):
    """The text of a refusal in the answer."""


class Mutant:
    def __init__(self, defect: str = "") -> None:
        self.defect = defect
        self.stored: dict[str, bytes | dict[str, bytes | None]] = {}
        self._deleted: set[str] = set()
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._abandoned = itertools.count()
        self._loads, self._last = 0, b""

    def has(self, defect: str) -> bool:
        return self.defect == defect

    def _key(self, artifact: pb.Artifact) -> str:
        if not artifact.HasField("plugin"):
            raise Refuses("the request has no artifact with a plugin")
        key = artifact.plugin.key
        if self.has("outside-key") and key.endswith(OUTSIDE):
            return OUTSIDE
        key = f"/{key}" if key == OUTSIDE else key  # a name in the storage, like any other
        climbs = ".." in key.split("/") and not self.has("climbing-key")
        if len(key) > LONGEST_KEY or "\0" in key or climbs:
            raise Refuses("the key is not allowed")
        key = os.path.normpath(key) if self.has("climbing-key") else key
        if self.has("repeats-configuration") and artifact.plugin.configuration != "{}":
            raise Refuses(f"cannot parse {artifact.plugin.configuration}")
        if self.has("prints-configuration"):
            print(artifact.plugin.configuration, flush=True)  # noqa: T201 - the defect
        return key

    def _find(self, key: str) -> bytes | dict[str, bytes | None] | None:
        if key == OUTSIDE:
            return Path(OUTSIDE).read_bytes()
        found = self.stored.get(key)
        if found is not None:
            return found
        for top, stored in self.stored.items():
            name = key.removeprefix(f"{top}/")
            if isinstance(stored, dict) and name != key and stored.get(name) is not None:
                return None if self.has("no-children") else stored[name]
        return None

    def _replace(self, key: str, content: bytes | dict[str, bytes | None]) -> None:
        with self._lock:
            old = self.stored.get(key)
            if self.has("keeps-old") and isinstance(old, bytes) and isinstance(content, bytes):
                return
            if self.has("merges") and isinstance(old, dict) and isinstance(content, dict):
                content = {**old, **content}
            if self.has("file-wins") and isinstance(old, bytes) and isinstance(content, dict):
                return
            if self.has("directory-wins") and isinstance(old, dict) and isinstance(content, bytes):
                self.stored[f"{key}/."] = content  # neither
                return
            if self.has("keeps-children") and isinstance(old, dict) and isinstance(content, bytes):
                self.stored.update({f"{key}/{name}": data for name, data in old.items() if data is not None})
            self.stored[key] = content
            self._deleted.discard(key)

    def save(self, request: pb.SaveArtifactRequest, _: grpc.ServicerContext) -> None:
        key, path = self._key(request.output_artifact), Path(request.path)
        key = key.rstrip("/") if self.has("cleans-keys") else key
        if self.has("saves-nothing") and not path.exists():
            return
        if path.is_symlink() and not self.has("follows-link"):
            raise Refuses("the path is a symbolic link")
        if not path.exists():
            raise Refuses("" if self.has("save-without-text") else "there is nothing at the path")
        self._replace(key, self._tree(path) if path.is_dir() else self._bytes(path))
        if self.has("eats-source") and path.is_file():
            path.unlink()
        if self.has("changes-source") and path.is_file():
            path.chmod(0o600)

    def _bytes(self, path: Path) -> bytes:
        data = path.read_bytes()
        if self.has("refuses-empty") and not data:
            raise Refuses("the file is empty")
        return data[:FRAME] if self.has("cuts-save") else data

    def _tree(self, path: Path) -> dict[str, bytes | None]:
        tree: dict[str, bytes | None] = {}
        for found in sorted(path.rglob("*")):
            name = str(found.relative_to(path))
            if found.is_symlink() and not self.has("follows-links"):
                raise Refuses("the directory contains a symbolic link")
            if found.is_dir():
                if not any(found.iterdir()) and not self.has("loses-empty"):
                    tree[name] = None
            elif not (self.has("flat") and "/" in name) and not (self.has("loses-hidden") and name.startswith(".")):
                tree[name] = found.read_bytes()
        if self.has("cuts-directory"):
            tree = dict(list(tree.items())[:30])
        return tree

    def load(self, request: pb.LoadArtifactRequest, context: grpc.ServicerContext) -> None:
        if self.has("unknown-field") and b"\xfa\x7f" in request.SerializeToString():
            raise Refuses("the message has an unknown field")
        target, key = Path(request.path), self._key(request.input_artifact)
        found = self._find(key)
        if found is None:
            self._absent(target, context)
            return
        if isinstance(found, dict):
            self._load_tree(found, target)
            return
        data = found[:-1] if self.has("cuts-load") and len(found) > FRAME else found
        if self.has("mixes-calls"):
            data = self._mixed(data)
        if self.has("empties-load") and not data:
            return
        if self.has("leaves-temporary"):
            (target.parent / ".loaded.tmp").write_bytes(data)
        if self.has("writes-through"):
            target.write_bytes(data)
        elif self.has("slow-in-place"):
            self._slowly(data, target, context)
        else:
            descriptor, name = tempfile.mkstemp(dir=target.parent)
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(name, target)
        target.chmod(0o600 if self.has("private-file") else 0o644)

    def _absent(self, target: Path, context: grpc.ServicerContext) -> None:
        if self.has("absent-succeeds"):
            return
        if self.has("absent-is-empty"):
            target.touch()
            return
        if self.has("absent-leaves"):
            (target.parent / "part").touch()
        if self.has("absent-is-status"):
            context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        if self.has("absent-without-text"):
            raise Refuses("")
        if self.has("absent-long-text"):
            raise Refuses("not found " * 1000)
        if self.has("absent-retried"):
            raise Refuses("not found: connection reset by peer")
        raise Refuses("not found")

    def _load_tree(self, tree: dict[str, bytes | None], target: Path) -> None:
        target.mkdir()
        for name, data in tree.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if data is None:
                path.mkdir()
            else:
                path.write_bytes(data)
        for path in (target, *target.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if self.has("private-directory"):
            target.chmod(0o700)
        if self.has("leaves-list"):
            (target.parent / "list").touch()

    def _mixed(self, data: bytes) -> bytes:
        """Return the bytes of another call, if there is one at this time."""
        self._loads += 1
        mine, self._last = data, data
        time.sleep(SLOW)
        data = self._last if self._loads > 1 else mine
        self._loads -= 1
        return data

    def _slowly(self, data: bytes, target: Path, context: grpc.ServicerContext) -> None:
        target.unlink(missing_ok=True)
        with target.open("xb", buffering=0) as file:
            for start in range(0, len(data), FRAME // 8):
                file.write(data[start : start + FRAME // 8])
                time.sleep(SLOW if FRAME < len(data) < 2 * FRAME else 0)
                if not context.is_active():
                    return

    def open_stream(self, request: pb.OpenStreamRequest, context: grpc.ServicerContext):
        if self.has("empty-request") and not request.artifact.HasField("plugin"):
            return
        try:
            key = self._key(request.artifact)
        except Refuses as refusal:
            yield pb.OpenStreamResponse(error=str(refusal))
            return
        data = self._find(key)
        if not isinstance(data, bytes):
            if not self.has("absent-stream"):
                yield pb.OpenStreamResponse(error="not found")
            return
        if self.has("leaks-streams") and next(self._abandoned) > 60:  # as if no stream was ever freed
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no thread is free")
        with self._reading if self.has("one-reader") else contextlib.nullcontext():
            yield from self._frames(key, data)

    def _frames(self, key: str, data: bytes):
        if self.has("no-empty-stream") and not data:
            yield pb.OpenStreamResponse(error="nothing to send")
            return
        if self.has("large-message"):
            yield pb.OpenStreamResponse(data=data)
            return
        if self.has("end-with-data") and len(data) <= FRAME:
            yield pb.OpenStreamResponse(data=data, is_end=True)
            return
        for start in range(0, len(data), FRAME):
            if self.has("reads-again") or self.has("ends-on-delete"):
                data = self._again(key, data)
            yield pb.OpenStreamResponse(data=data[start : start + FRAME])
            if self.has("false-end") and len(data) > FRAME:
                break
        if self.has("more-data") and len(data) > FRAME:
            yield pb.OpenStreamResponse(data=b"more")
        yield pb.OpenStreamResponse(is_end=True)

    def _again(self, key: str, data: bytes) -> bytes:
        found = self.stored.get(key, b"" if self.has("ends-on-delete") else data)
        return found if isinstance(found, bytes) and (self.has("reads-again") or not found) else data

    def save_stream(self, requests, context: grpc.ServicerContext) -> pb.SaveArtifactResponse:
        gone = threading.Event()
        context.add_callback(gone.set)
        chunks: list[bytes] = []
        try:
            first = next(requests)
            if self.has("late-refusal"):
                chunks = [frame.chunk for frame in requests]
            key = self._key(first.output_artifact)
            seconds = first.output_artifact.plugin.connection_timeout_seconds
            began = time.monotonic()
            if self.has("deletes-first"):
                self.stored.pop(key, None)
            with contextlib.suppress(grpc.RpcError, Exception) if self.has("stores-cut") else contextlib.nullcontext():
                for frame in requests:
                    chunks.append(frame.chunk)
        except Refuses as refusal:
            return pb.SaveArtifactResponse(error=str(refusal))
        if self.has("timeout-is-deadline") and seconds and time.monotonic() - began > seconds:
            return pb.SaveArtifactResponse(error="the time is over")
        # grpcio reports a cancelled stream as ended first, and as cancelled a moment later.
        if not self.has("stores-cut") and gone.wait(0.1):
            return pb.SaveArtifactResponse(error="cancelled")
        if self.has("no-empty-upload") and not chunks:
            return pb.SaveArtifactResponse(error="no data")
        if self.has("last-chunk-alone"):
            chunks = chunks[-1:] if len(chunks) > 10 else chunks
        data = b"".join(chunks)
        self._replace(key, data[:500] if self.has("cuts-upload") else data)
        return pb.SaveArtifactResponse(success=True)

    def get_capabilities(self, _: pb.GetCapabilitiesRequest, context: grpc.ServicerContext):
        if self.has("no-capabilities"):
            context.abort(grpc.StatusCode.INTERNAL, "not configured")
        return pb.GetCapabilitiesResponse(supports_save_stream=True)

    def delete(self, request: pb.DeleteArtifactRequest, _: grpc.ServicerContext) -> None:
        key = self._key(request.artifact)
        with self._lock:
            if self.has("delete-absent") and key not in self.stored:
                raise Refuses("not found")
            if self.has("delete-once") and key in self._deleted:
                raise Refuses("already deleted")
            if self.has("forgets-delete"):
                return
            if self.has("leaves-children") and isinstance(found := self.stored.get(key), dict):
                self.stored[key] = dict(list(found.items())[1:])
                return
            for other in list(self.stored):
                if other == key or other.startswith(key if self.has("deletes-beside") else f"{key}/"):
                    self._deleted.add(other)
                    del self.stored[other]

    def list_objects(self, request: pb.ListObjectsRequest, _: grpc.ServicerContext) -> pb.ListObjectsResponse:
        key = self._key(request.artifact)
        names: list[str] = []
        for top, stored in list(self.stored.items()):
            names += (
                [f"{top}/{name}" for name, data in stored.items() if data is not None]
                if isinstance(stored, dict)
                else [top]
            )
        objects = sorted(name for name in names if name.startswith(key if self.has("lists-beside") else f"{key}/"))
        if self.has("lists-nothing") and not objects:
            return pb.ListObjectsResponse(error="not found")
        if self.has("relative-names"):
            objects = [name.removeprefix(f"{key}/") for name in objects]
        if self.has("lists-one-level"):
            objects = [name for name in objects if "/" not in name.removeprefix(f"{key}/")]
        return pb.ListObjectsResponse(objects=objects)

    def is_directory(self, request: pb.IsDirectoryRequest, _: grpc.ServicerContext) -> pb.IsDirectoryResponse:
        key = self._key(request.artifact)
        if self.has("is-directory-absent") and key not in self.stored:
            return pb.IsDirectoryResponse(error="not found")
        if self.has("file-is-directory"):
            return pb.IsDirectoryResponse(
                is_directory=any(name.startswith(key) and name != key for name in self.stored)
            )
        return pb.IsDirectoryResponse(is_directory=isinstance(self.stored.get(key), dict))


def _answers(behave, answer):
    """Return a handler that turns a refusal into an answer."""

    def handle(request, context: grpc.ServicerContext):
        try:
            given = behave(request, context)
        except Refuses as refusal:
            return answer(error=str(refusal))
        return answer(success=True) if given is None else given

    return handle


def server_of(mutant: Mutant, socket: Path | str) -> grpc.Server:
    """Serve `mutant` on `socket`."""
    unary = {
        "Load": (_answers(mutant.load, pb.LoadArtifactResponse), pb.LoadArtifactRequest),
        "Save": (_answers(mutant.save, pb.SaveArtifactResponse), pb.SaveArtifactRequest),
        "Delete": (_answers(mutant.delete, pb.DeleteArtifactResponse), pb.DeleteArtifactRequest),
        "ListObjects": (_answers(mutant.list_objects, pb.ListObjectsResponse), pb.ListObjectsRequest),
        "IsDirectory": (_answers(mutant.is_directory, pb.IsDirectoryResponse), pb.IsDirectoryRequest),
        "GetCapabilities": (mutant.get_capabilities, pb.GetCapabilitiesRequest),
    }
    serialize = {"response_serializer": lambda answer: answer.SerializeToString()}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(behave, request_deserializer=request.FromString, **serialize)
        for name, (behave, request) in unary.items()
    }
    handlers["OpenStream"] = grpc.unary_stream_rpc_method_handler(
        mutant.open_stream, request_deserializer=pb.OpenStreamRequest.FromString, **serialize
    )
    handlers["SaveStream"] = grpc.stream_unary_rpc_method_handler(
        mutant.save_stream, request_deserializer=pb.SaveStreamArtifactRequest.FromString, **serialize
    )
    server = grpc.server(
        futures.ThreadPoolExecutor(32),
        handlers=[grpc.method_handlers_generic_handler("artifact.ArtifactService", handlers)],
        options=[("grpc.max_receive_message_length", 4 << 20), ("grpc.max_send_message_length", -1)],
    )
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server


def main(arguments: list[str]) -> None:
    mutant = Mutant(os.environ.get("MUTANT", ""))
    if mutant.has("no-arguments") and len(arguments) > 1:
        sys.exit("usage: mutant SOCKET")
    socket = Path(arguments[0])
    if not mutant.has("no-directory"):
        socket.parent.mkdir(parents=True, exist_ok=True)
    if mutant.has("stale-socket") and socket.exists():
        sys.exit("address already in use")
    socket.unlink(missing_ok=True)
    server = server_of(mutant, socket)
    socket.chmod(0o700 if mutant.has("private-socket") else 0o777)
    end = threading.Event()
    if not mutant.has("dies"):
        signal.signal(signal.SIGTERM, lambda *_: end.set())
    end.wait()
    server.stop(None if mutant.has("cuts-calls") else 20).wait()
    shutil.rmtree(socket.parent, ignore_errors=True)
    os._exit(3 if mutant.has("exit-code") else 0)


if __name__ == "__main__":
    main(sys.argv[1:])

"""A second vendor's plugin, with the habits of the plugin for S3 that is published: `python second_vendor.py SOCKET`.

VENDOR_ROOT is the directory of its bucket, VENDOR_STREAMS=1 adds SaveStream and GetCapabilities, and VENDOR_WITHOUT
names habits that it does not have, separated by commas:

absent-text: an absent key is an error, in the words of S3 or of Argo's own driver. Else a listing is empty, and a read
    says "object not found".
delete-one: a Delete removes the object at exactly the key, unless the key ends in a slash. Else also what is beneath.
keep-old: a Save leaves what was stored at the key and beneath it. Else it replaces all of it.
temporary-name: a Load leaves a file with another name beside the path.
end-after-error: a stream ends with `is_end` after a read that failed. Else it ends with a status.
print-request: every request is printed with the author's configuration.

A listing and a read of an absent key use the words in VENDOR_ABSENT, if that is set. A read fails in the middle if the
artifact's configuration has the line `read: fails`, and nothing is deleted if it has the line `delete: nothing`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.flat_bucket import FlatBucket
from harness.vendor import serve

from sealgate.rpc import artifact_pb2 as pb

HABITS = frozenset(
    {"absent-text", "delete-one", "keep-old", "temporary-name", "end-after-error", "print-request"}
) - set(filter(None, os.environ.get("VENDOR_WITHOUT", "").split(",")))
NO_KEY = "The specified key does not exist."
ABSENT = os.environ.get("VENDOR_ABSENT") or (NO_KEY if "absent-text" in HABITS else "")
NO_STREAM = "Directory Stream capability currently unimplemented for S3"
FRAME = 1 << 20


class SecondVendor:
    def __init__(self, bucket: FlatBucket) -> None:
        self._bucket = bucket

    def load(self, request: pb.LoadArtifactRequest, context: grpc.ServicerContext) -> pb.LoadArtifactResponse:
        key, words = self._begin(request, request.input_artifact)
        target, stored = Path(request.path), self._bucket.file(key)
        beneath = self._listed(key)
        if stored is None and not beneath:
            return pb.LoadArtifactResponse(error=ABSENT or "object not found")
        for name in [key] if stored is not None else beneath:
            path = target if name == key else target / name.removeprefix(f"{key}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            # As a client that continues broken downloads does.
            partial = path.with_name(f"{hashlib.sha256(name.encode()).hexdigest()}.part.vendor")
            shutil.copyfile(self._bucket.file(name) or "/dev/null", partial)
            if words.get("read") == "fails":
                return pb.LoadArtifactResponse(error="failed to get file: connection reset")
            shutil.copyfile(partial, path)
            if "temporary-name" not in HABITS or path != target:
                partial.unlink()
        return pb.LoadArtifactResponse(success=True)

    def save(self, request: pb.SaveArtifactRequest, context: grpc.ServicerContext) -> pb.SaveArtifactResponse:
        key, _ = self._begin(request, request.output_artifact)
        source = Path(request.path)
        if "keep-old" not in HABITS:
            self._delete_all(key)
        if not source.is_dir():
            self._bucket.put(key, source)
        for path in source.rglob("*"):  # neither links nor empty directories
            if path.is_file() and not path.is_symlink():
                self._bucket.put(f"{key}/{path.relative_to(source).as_posix()}", path)
        return pb.SaveArtifactResponse(success=True)

    def delete(self, request: pb.DeleteArtifactRequest, context: grpc.ServicerContext) -> pb.DeleteArtifactResponse:
        key, words = self._begin(request, request.artifact)
        if words.get("delete") == "nothing":
            return pb.DeleteArtifactResponse(success=True)
        if key.endswith("/"):
            for name in self._listed(key.rstrip("/")):
                self._bucket.delete(name)
        elif "delete-one" in HABITS:
            self._bucket.delete(key)
        else:
            self._delete_all(key)
        return pb.DeleteArtifactResponse(success=True)

    def list_objects(self, request: pb.ListObjectsRequest, context: grpc.ServicerContext) -> pb.ListObjectsResponse:
        key, _ = self._begin(request, request.artifact)
        listed = self._listed(key)
        if not listed and self._bucket.file(key) is None and ABSENT:
            return pb.ListObjectsResponse(error=f"no key found of name {key}" if ABSENT == NO_KEY else ABSENT)
        return pb.ListObjectsResponse(objects=listed)

    def is_directory(self, request: pb.IsDirectoryRequest, context: grpc.ServicerContext) -> pb.IsDirectoryResponse:
        key, _ = self._begin(request, request.artifact)
        return pb.IsDirectoryResponse(is_directory=bool(self._listed(key)))

    def open_stream(self, request: pb.OpenStreamRequest, context: grpc.ServicerContext):
        key, words = self._begin(request, request.artifact)
        stored = self._bucket.file(key)
        if stored is None and self._listed(key):
            context.abort(grpc.StatusCode.INTERNAL, NO_STREAM)
        if stored is None and ABSENT:
            context.abort(grpc.StatusCode.INTERNAL, ABSENT)
        if stored is None:
            yield pb.OpenStreamResponse(error="object not found")
            return
        data = stored.read_bytes()
        if words.get("read") == "fails":
            data = data[: len(data) * 2 // 3]
        for start in range(0, len(data), FRAME):
            yield pb.OpenStreamResponse(data=data[start : start + FRAME])
        if words.get("read") == "fails" and "end-after-error" not in HABITS:
            context.abort(grpc.StatusCode.INTERNAL, "the read failed")
        yield pb.OpenStreamResponse(is_end=True)

    def save_stream(self, requests, context: grpc.ServicerContext) -> pb.SaveArtifactResponse:
        gone = threading.Event()
        context.add_callback(gone.set)
        first = next(requests)
        key, _ = self._begin(first, first.output_artifact)
        with tempfile.NamedTemporaryFile() as file:
            for frame in requests:
                file.write(frame.chunk)
            file.flush()
            # grpcio reports a cancelled stream as ended first, and as cancelled a moment later.
            if gone.wait(0.2):
                return pb.SaveArtifactResponse(error="cancelled")
            if "keep-old" not in HABITS:
                self._delete_all(key)
            self._bucket.put(key, Path(file.name))
        return pb.SaveArtifactResponse(success=True)

    def _begin(self, request, artifact: pb.Artifact) -> tuple[str, dict[str, str]]:
        configuration = artifact.plugin.configuration
        if "print-request" in HABITS:
            printed = {"level": "INFO", "msg": type(request).__name__, "request": str(artifact)}
            print(json.dumps(printed), flush=True)  # noqa: T201 - the vendor's log
        words = (line.partition(": ")[::2] for line in configuration.splitlines())
        return artifact.plugin.key, dict(words)

    def _listed(self, key: str) -> list[str]:
        return self._bucket.keys(f"{key}/")

    def _delete_all(self, key: str) -> None:
        for name in (key, *self._listed(key)):
            self._bucket.delete(name)


if __name__ == "__main__":
    serve(SecondVendor(FlatBucket(Path(os.environ["VENDOR_ROOT"]))), sys.argv[1])

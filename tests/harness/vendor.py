"""A vendor's plugin: files in a directory, the six RPCs of Argo v4.0, and faults on request.

`python vendor.py SOCKET`; VENDOR_ROOT is where it stores, VENDOR_STREAMS=1 adds SaveStream. It shares no
code with the proxy but the messages. A test asks for a fault by the artifact's configuration, which the
proxy passes on byte for byte: `fault: early-end` and so on. Without one it behaves as a decent plugin
does, which the tests of the bundled backend check it against.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc

from proxy.rpc import artifact_pb2 as pb

ROOT = Path(os.environ["VENDOR_ROOT"])
STREAMS = os.environ.get("VENDOR_STREAMS") == "1"
FRAME = 256 * 1024


class Vendor:
    def load(self, request: pb.LoadArtifactRequest, context: grpc.ServicerContext) -> pb.LoadArtifactResponse:
        fault, stored, path = self._begin("Load", request.input_artifact, context)
        path = Path(request.path)
        if not stored.exists():
            return pb.LoadArtifactResponse(error="object not found")
        if fault == "nothing":
            return pb.LoadArtifactResponse(success=True)
        if stored.is_dir():
            shutil.copytree(stored, path)
        else:
            shutil.copyfile(stored, path)
        if fault == "short":
            os.truncate(path, path.stat().st_size // 2)
        if fault == "link":
            path.unlink()
            path.symlink_to("/etc/passwd")
        return pb.LoadArtifactResponse(success=True)

    def save(self, request: pb.SaveArtifactRequest, context: grpc.ServicerContext) -> pb.SaveArtifactResponse:
        fault, stored, _ = self._begin("Save", request.output_artifact, context)
        if fault == "refuse":
            return pb.SaveArtifactResponse(error="quota of the vendor exceeded")
        stored.parent.mkdir(parents=True, exist_ok=True)
        source = Path(request.path)
        if source.is_dir():
            shutil.rmtree(stored, ignore_errors=True)
            shutil.copytree(source, stored)
        else:
            partial = stored.with_name(f".{stored.name}.{threading.get_ident()}")
            shutil.copyfile(source, partial)
            partial.replace(stored)
        return pb.SaveArtifactResponse(success=True)

    def delete(self, request: pb.DeleteArtifactRequest, context: grpc.ServicerContext) -> pb.DeleteArtifactResponse:
        _, stored, _ = self._begin("Delete", request.artifact, context)
        shutil.rmtree(stored, ignore_errors=True)
        stored.unlink(missing_ok=True)
        return pb.DeleteArtifactResponse(success=True)

    def list_objects(self, request: pb.ListObjectsRequest, context: grpc.ServicerContext) -> pb.ListObjectsResponse:
        fault, stored, key = self._begin("ListObjects", request.artifact, context)
        if fault == "outside":
            return pb.ListObjectsResponse(objects=["somebody/else"])
        if fault == "climb":
            return pb.ListObjectsResponse(objects=[f"{key}/../escaped"])
        if fault == "huge":
            return pb.ListObjectsResponse(objects=[f"{key}/{number:060d}" for number in range(90_000)])
        found = sorted(path for path in stored.rglob("*") if path.is_file())
        return pb.ListObjectsResponse(objects=[f"{key}/{path.relative_to(stored)}" for path in found])

    def is_directory(self, request: pb.IsDirectoryRequest, context: grpc.ServicerContext) -> pb.IsDirectoryResponse:
        fault, stored, _ = self._begin("IsDirectory", request.artifact, context)
        if fault == "unimplemented":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such thing here")
        return pb.IsDirectoryResponse(is_directory=stored.is_dir())

    def open_stream(self, request: pb.OpenStreamRequest, context: grpc.ServicerContext):
        fault, stored, _ = self._begin("OpenStream", request.artifact, context)
        if fault == "unimplemented":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such thing here")
        if not stored.is_file():
            yield pb.OpenStreamResponse(error="object not found")
            return
        data = stored.read_bytes()
        if fault == "data-in-end":
            yield pb.OpenStreamResponse(data=data[:-7])
            yield pb.OpenStreamResponse(data=data[-7:], is_end=True)
            return
        if fault in {"early-end", "early-close", "error-midway", "abort-midway"}:
            data = data[: len(data) * 2 // 3]
        for start in range(0, len(data), FRAME):
            yield pb.OpenStreamResponse(data=data[start : start + FRAME])
            if fault == "empty-frames":
                yield pb.OpenStreamResponse()
            if fault == "hang-midway":
                time.sleep(3600)
        if fault == "error-midway":
            yield pb.OpenStreamResponse(data=b"not to be used", error="the vendor's disk broke")
        elif fault == "abort-midway":
            context.abort(grpc.StatusCode.ABORTED, "the vendor gave up")
        elif fault != "early-close":
            yield pb.OpenStreamResponse(is_end=True)

    def save_stream(self, requests, context: grpc.ServicerContext) -> pb.SaveArtifactResponse:
        first = next(requests)
        fault, stored, _ = self._begin("SaveStream", first.output_artifact, context)
        if fault == "confirm-early":
            return pb.SaveArtifactResponse(success=True)
        if fault == "refuse-early":
            return pb.SaveArtifactResponse(error="quota of the vendor exceeded")
        stored.parent.mkdir(parents=True, exist_ok=True)
        partial = stored.with_name(f".{stored.name}.{threading.get_ident()}")
        try:
            with partial.open("wb") as file:
                for frame in requests:
                    file.write(frame.chunk)
                    if fault == "abort-midway":
                        context.abort(grpc.StatusCode.ABORTED, "the vendor gave up")
            partial.replace(stored)
        finally:
            partial.unlink(missing_ok=True)
        return pb.SaveArtifactResponse(success=True)

    def _begin(self, method: str, artifact: pb.Artifact, context: grpc.ServicerContext):
        key, fault = artifact.plugin.key, ""
        for line in artifact.plugin.configuration.splitlines():
            if line.startswith("fault: "):
                fault, _, only = line.removeprefix("fault: ").partition(" on ")
                fault = fault if only in {"", method} else ""
        if fault == "record":
            facts = {
                "method": method,
                "name": artifact.plugin.name,
                "configuration": artifact.plugin.configuration,
                "metadata": {k: str(v) for k, v in context.invocation_metadata()},
                "remaining": context.time_remaining(),
                "artifact": artifact.name,
            }
            (ROOT / "record.json").write_text(json.dumps(facts))
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            while context.is_active():
                time.sleep(0.01)
            (ROOT / "hang-ended").touch()
        if fault == "status":
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "the vendor's own words")
        return fault, ROOT / key, key


def main(socket: str) -> None:
    if os.environ.get("VENDOR_DELAY"):
        time.sleep(float(os.environ["VENDOR_DELAY"]))
    vendor = Vendor()
    unary = {
        "Load": (vendor.load, pb.LoadArtifactRequest),
        "Save": (vendor.save, pb.SaveArtifactRequest),
        "Delete": (vendor.delete, pb.DeleteArtifactRequest),
        "ListObjects": (vendor.list_objects, pb.ListObjectsRequest),
        "IsDirectory": (vendor.is_directory, pb.IsDirectoryRequest),
    }
    serialize = {"response_serializer": lambda answer: answer.SerializeToString()}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(behave, request_deserializer=request.FromString, **serialize)
        for name, (behave, request) in unary.items()
    }
    handlers["OpenStream"] = grpc.unary_stream_rpc_method_handler(
        vendor.open_stream, request_deserializer=pb.OpenStreamRequest.FromString, **serialize
    )
    if STREAMS:
        handlers["SaveStream"] = grpc.stream_unary_rpc_method_handler(
            vendor.save_stream, request_deserializer=pb.SaveStreamArtifactRequest.FromString, **serialize
        )
        handlers["GetCapabilities"] = grpc.unary_unary_rpc_method_handler(
            lambda _request, _context: pb.GetCapabilitiesResponse(supports_save_stream=True),
            request_deserializer=pb.GetCapabilitiesRequest.FromString,
            **serialize,
        )
    server = grpc.server(
        futures.ThreadPoolExecutor(64),
        handlers=[grpc.method_handlers_generic_handler("artifact.ArtifactService", handlers)],
        options=[("grpc.max_receive_message_length", 4 << 20), ("grpc.max_send_message_length", -1)],
    )
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    print("vendor plugin is listening", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])

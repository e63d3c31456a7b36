"""A vendor's plugin with the six RPCs of Argo v4.0, which stores files in a directory: `python vendor.py SOCKET`.

VENDOR_ROOT is the directory, VENDOR_STREAMS=1 adds SaveStream and GetCapabilities, and VENDOR_REPLACES is sent as the
metadata `sealgate-replaces`. It shares nothing with the proxy but the messages. A test requests a fault in the
artifact's configuration, which the proxy passes on byte for byte: `fault: early-end`, or `fault: hang on Save` for one
operation. Without a fault it behaves correctly, and the tests of the bundled backend compare it with that.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from sealgate.rpc import artifact_pb2 as pb

ROOT = Path(os.environ["VENDOR_ROOT"])
STREAMS = os.environ.get("VENDOR_STREAMS") == "1"
FRAME = 256 * 1024
REPLACES = os.environ.get("VENDOR_REPLACES", "")
"""The value of the metadata `sealgate-replaces` with which GetCapabilities is answered; empty for none."""
HALF = 5
"""Files that are stored of a directory by the fault `half`."""
REFUSAL = "quota of the vendor exceeded"
BROKEN = "the vendor's disk broke"
MIDWAY = {"hang-midway", "pause-midway", "error-midway"}
"""Faults that show once half of the data has gone."""
HUGE = 9 << 20
"""Bytes of a huge refusal, and of a huge message."""


def refusal(fault: str) -> str:
    """Return the text with which the vendor refuses, or an empty one."""
    return {"refuse": REFUSAL, "refuse-huge": "h" * HUGE}.get(fault, "")


class Vendor:
    def __init__(self) -> None:
        self._streams = itertools.count()
        """The number of the next SaveStream with the fault `half`."""
        self._whole = itertools.count(1)
        """How many of them are stored once the next one is."""
        self._half_is_stored = threading.Event()

    def load(self, request: pb.LoadArtifactRequest, context: grpc.ServicerContext) -> pb.LoadArtifactResponse:
        try:
            return self._load(request, context)
        except OSError as error:  # the disk is full
            return pb.LoadArtifactResponse(error=os.strerror(error.errno).lower())

    def _load(self, request: pb.LoadArtifactRequest, context: grpc.ServicerContext) -> pb.LoadArtifactResponse:  # noqa: C901 - one line for each fault
        fault, stored, path = self._begin("Load", request.input_artifact, context)
        if text := refusal(fault):
            return pb.LoadArtifactResponse(error=text)
        path = Path(request.path)
        if not stored.exists():
            return pb.LoadArtifactResponse(error="object not found")
        if fault == "nothing":
            return pb.LoadArtifactResponse(success=True)
        if stored.is_dir():
            shutil.copytree(stored, path)
        elif fault in MIDWAY:
            data = stored.read_bytes()
            path.write_bytes(data[: len(data) // 2])
            if self._stop_midway(fault, "Load", request.input_artifact.plugin.key, context):
                return pb.LoadArtifactResponse(error=BROKEN)
            path.write_bytes(data)
        else:
            shutil.copyfile(stored, path)
        if fault == "wrong":
            path.write_bytes(damaged(path.read_bytes()))
        if fault == "short":
            os.truncate(path, path.stat().st_size // 2)
        if fault == "read-only":
            for file in [path] if path.is_file() else path.rglob("*"):
                file.chmod(0o444)
        if fault == "link":
            path.unlink()
            path.symlink_to("/etc/passwd")
        return pb.LoadArtifactResponse(success=True)

    def save(self, request: pb.SaveArtifactRequest, context: grpc.ServicerContext) -> pb.SaveArtifactResponse:
        fault, stored, _ = self._begin("Save", request.output_artifact, context)
        if fault == "eat":  # more memory than its container has
            b"x" * (1 << 29)
        if text := refusal(fault):
            return pb.SaveArtifactResponse(error=text)
        if fault == "repeat":
            print(request.output_artifact.plugin.configuration, flush=True)  # noqa: T201 - some vendors print requests
            return pb.SaveArtifactResponse(error=f"no bucket for {request.output_artifact.plugin.configuration}")
        if fault == "forget":
            return pb.SaveArtifactResponse(success=True)
        stored.parent.mkdir(parents=True, exist_ok=True)
        source = Path(request.path)
        shutil.rmtree(stored, ignore_errors=True)
        if source.is_dir():
            stored.unlink(missing_ok=True)
            shutil.copytree(source, stored)
            if fault == "half":
                files = sorted(path for path in stored.rglob("*") if path.is_file())
                for file in files[HALF:]:
                    file.unlink()
                self._hang(context)
        else:
            partial = stored.with_name(f".{stored.name}.{threading.get_ident()}")
            if fault in MIDWAY:
                partial.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
                if self._stop_midway(fault, "Save", request.output_artifact.plugin.key, context):
                    partial.unlink()
                    return pb.SaveArtifactResponse(error=BROKEN)
            shutil.copyfile(source, partial)
            partial.replace(stored)
        return pb.SaveArtifactResponse(success=True)

    def delete(self, request: pb.DeleteArtifactRequest, context: grpc.ServicerContext) -> pb.DeleteArtifactResponse:
        fault, stored, _ = self._begin("Delete", request.artifact, context)
        if text := refusal(fault):
            return pb.DeleteArtifactResponse(error=text)
        if fault == "forget":
            return pb.DeleteArtifactResponse(success=True)
        shutil.rmtree(stored, ignore_errors=True)
        stored.unlink(missing_ok=True)
        return pb.DeleteArtifactResponse(success=True)

    def list_objects(self, request: pb.ListObjectsRequest, context: grpc.ServicerContext) -> pb.ListObjectsResponse:
        fault, stored, key = self._begin("ListObjects", request.artifact, context)
        if text := refusal(fault):
            return pb.ListObjectsResponse(error=text)
        if fault == "outside":
            return pb.ListObjectsResponse(objects=["another/directory"])
        if fault == "climb":
            return pb.ListObjectsResponse(objects=[f"{key}/../escaped"])
        if fault == "huge-keys":
            return pb.ListObjectsResponse(objects=[f"{key}/{number:01000d}" for number in range(HUGE // 1000)])
        if fault == "huge":
            return pb.ListObjectsResponse(objects=[f"{key}/{number:060d}" for number in range(90_000)])
        found = sorted(path for path in stored.rglob("*") if path.is_file())
        found = found[:-1] if fault == "fewer" else found
        return pb.ListObjectsResponse(objects=[f"{key}/{path.relative_to(stored)}" for path in found])

    def is_directory(self, request: pb.IsDirectoryRequest, context: grpc.ServicerContext) -> pb.IsDirectoryResponse:
        fault, stored, _ = self._begin("IsDirectory", request.artifact, context)
        if text := refusal(fault):
            return pb.IsDirectoryResponse(error=text)
        if fault == "unimplemented":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such thing here")
        return pb.IsDirectoryResponse(is_directory=stored.is_dir())

    def open_stream(self, request: pb.OpenStreamRequest, context: grpc.ServicerContext):  # noqa: C901, PLR0912 - one line for each fault
        fault, stored, key = self._begin("OpenStream", request.artifact, context)
        if fault == "unimplemented":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such thing here")
        if text := refusal(fault):
            yield pb.OpenStreamResponse(error=text)
            return
        if not stored.is_file():
            yield pb.OpenStreamResponse(error="object not found")
            return
        left = 0 if fault == "empty" else stored.stat().st_size
        if fault in {"early-end", "early-close", "error-midway", "abort-midway"}:
            left = left * 2 // 3
        with stored.open("rb") as file:
            while left:
                data = file.read(min(FRAME, left))
                left -= len(data)
                if fault == "wrong" and not left:
                    data = damaged(data)
                if fault == "data-in-end" and not left:
                    yield pb.OpenStreamResponse(data=data, is_end=True)
                    return
                yield pb.OpenStreamResponse(data=data)
                if fault == "huge":
                    yield pb.OpenStreamResponse(data=bytes(HUGE))
                if fault == "empty-frames":
                    yield pb.OpenStreamResponse()
                while fault == "stall" and context.is_active():
                    time.sleep(0.01)
                if fault in {"hang-midway", "pause-midway"}:
                    self._stop_midway(fault, "OpenStream", key, context)
        if fault == "more":
            yield from [pb.OpenStreamResponse(data=bytes(FRAME))] * 400
        if fault == "error-midway":
            yield pb.OpenStreamResponse(data=b"not to be used", error=BROKEN)
        elif fault == "abort-midway":
            context.abort(grpc.StatusCode.ABORTED, "the vendor gave up")
        elif fault not in {"early-close", "no-end"}:
            yield pb.OpenStreamResponse(is_end=True)

    def save_stream(self, requests, context: grpc.ServicerContext) -> pb.SaveArtifactResponse:  # noqa: C901 - one line for each fault
        gone = threading.Event()
        context.add_callback(gone.set)
        first = next(requests)
        fault, stored, key = self._begin("SaveStream", first.output_artifact, context)
        if fault == "confirm-early":
            return pb.SaveArtifactResponse(success=True)
        if fault in {"refuse-early", "refuse-huge"}:
            return pb.SaveArtifactResponse(error=refusal(fault) or REFUSAL)
        if fault == "half" and next(self._streams) >= HALF:
            self._half_is_stored.wait(60)  # the first ones are on their way at the same time
            self._hang(context)
        stored.parent.mkdir(parents=True, exist_ok=True)
        partial = stored.with_name(f".{stored.name}.{threading.get_ident()}")
        try:
            with partial.open("wb") as file:
                for frame in requests:
                    file.write(frame.chunk)
                    if fault == "grow":  # as a workload that still writes while its file is saved
                        with (ROOT.parent / "work" / "growing").open("ab") as source:
                            source.write(frame.chunk)
                    if fault == "abort-midway":
                        context.abort(grpc.StatusCode.ABORTED, "the vendor gave up")
                    if fault in MIDWAY and self._stop_midway(fault, "SaveStream", key, context):
                        return pb.SaveArtifactResponse(error=BROKEN)
            # grpcio reports a cancelled stream as ended first, and as cancelled a moment later.
            if gone.wait(0.2):
                return pb.SaveArtifactResponse(error="cancelled")
            if fault == "forget":
                return pb.SaveArtifactResponse(success=True)
            shutil.rmtree(stored, ignore_errors=True)
            partial.replace(stored)
            if fault == "half" and next(self._whole) == HALF:
                self._half_is_stored.set()
            if fault == "swap":  # as a workload that exchanges a file for a link
                exchanged = ROOT.parent / "work" / "tree" / "b"
                exchanged.unlink(missing_ok=True)
                exchanged.symlink_to("/etc/passwd")
        finally:
            partial.unlink(missing_ok=True)
        return pb.SaveArtifactResponse(success=True)

    def _begin(self, method: str, artifact: pb.Artifact, context: grpc.ServicerContext):
        key, fault = artifact.plugin.key, ""
        for line in artifact.plugin.configuration.splitlines():
            if line.startswith("fault: "):
                fault, _, only = line.removeprefix("fault: ").partition(" on ")
                fault = fault if only in {"", method} else ""
        if fault:
            print(f"{fault} on {method} of {key}\n", end="", flush=True)  # noqa: T201 - tests wait for this line in the log
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
        if fault == "lacking":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such thing here")
        if fault == "pause":
            self._stop_midway(fault, method, key, context)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            self._hang(context)
        statuses = {
            "status": (grpc.StatusCode.ALREADY_EXISTS, "the vendor's own words"),
            "repeat-key": (grpc.StatusCode.ABORTED, f'no object "{key}" of {artifact.name}'),
        }
        if fault in statuses:
            context.abort(*statuses[fault])
        return fault, ROOT / key, key

    @staticmethod
    def _stop_midway(fault: str, method: str, key: str, context: grpc.ServicerContext) -> bool:
        """Wait at a place that the log names: until the caller has gone, or a `pause` until the file `go-on` exists.

        Returns:
            whether the operation has to end with an error now.
        """
        print(f"stopped in {method} of {key}\n", end="", flush=True)  # noqa: T201 - tests wait for this line in the log
        while fault != "error-midway" and context.is_active():
            if fault.startswith("pause") and (ROOT / "go-on").exists():
                break
            time.sleep(0.01)
        return fault == "error-midway" or not context.is_active()

    @staticmethod
    def _hang(context: grpc.ServicerContext) -> None:
        (ROOT / "hang-began").touch()
        while context.is_active():
            time.sleep(0.01)
        (ROOT / "hang-ended").touch()
        context.abort(grpc.StatusCode.CANCELLED, "the caller has gone")


def damaged(data: bytes) -> bytes:
    """Return `data` with its last byte changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


def capabilities(_: pb.GetCapabilitiesRequest, context: grpc.ServicerContext) -> pb.GetCapabilitiesResponse:
    if REPLACES:
        context.set_trailing_metadata((("sealgate-replaces", REPLACES),))
    return pb.GetCapabilitiesResponse(supports_save_stream=True)


def serve(vendor: Any, socket: str) -> None:
    """Serve a vendor on a socket until SIGTERM."""
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
            capabilities,
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
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.wait_for_termination()


if __name__ == "__main__":
    if os.environ.get("VENDOR_DELAY"):
        time.sleep(float(os.environ["VENDOR_DELAY"]))
    print("vendor plugin is starting\n", end="", flush=True)  # noqa: T201 - vendors' plugins print such lines
    serve(Vendor(), sys.argv[1])

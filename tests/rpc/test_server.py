"""The server: health and reflection, defects without their texts, and what is forwarded to the downstream."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from harness.argo import Argo
from harness.chain import VENDOR, Proxy, eventually
from harness.outcome import Outcome, outcome

from sealgate.argo import SERVICE
from sealgate.call import Call, Operation
from sealgate.errors import Refused
from sealgate.plugin import Artifact, Capabilities
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc.child import ChildProcess
from sealgate.rpc.client import Downstream
from sealgate.rpc.server import ArtifactServer

pytestmark = pytest.mark.process

SECRET = "hunter2-in-an-exception"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def health(proxy: Proxy, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(proxy.argo().channel())
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status


def test_health_is_serving_once_the_plugin_is_composed(proxy):
    assert health(proxy, "") == SERVING
    assert eventually(lambda: health(proxy, SERVICE) == SERVING)


def test_without_a_configuration_only_the_process_is_healthy(start):
    proxy = start(environment={"SEALGATE_CONFIG_YAML": ""})
    assert health(proxy, "") == SERVING
    assert health(proxy, SERVICE) == NOT_SERVING


def test_health_of_an_unknown_service_is_not_found(proxy):
    assert outcome(lambda: health(proxy, "other.Service")).code == "NOT_FOUND"


def test_reflection_names_the_services_and_describes_ours(proxy):
    stub = reflection_pb2_grpc.ServerReflectionStub(proxy.argo().channel())
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, described = stub.ServerReflectionInfo(iter(requests), timeout=30)
    names = {service.name for service in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    assert b"ArtifactService" in described.file_descriptor_response.file_descriptor_proto[0]


def test_an_unknown_method_is_unimplemented(proxy):
    assert outcome(lambda: proxy.argo().raw("Nonsense", b"")).code == "UNIMPLEMENTED"


# --- defects ---------------------------------------------------------------------------------------------


class Broken:
    """A plugin that raises an exception other than a `PluginError` in every operation."""

    def __init__(self, fault: type[Exception]) -> None:
        self._fault = fault

    def _raise(self, *_: object):
        raise self._fault(SECRET)

    load = save = delete = list_objects = is_directory = save_stream = _raise

    def open_stream(self, *_: object):
        yield b"some plaintext"
        self._raise()

    def get_capabilities(self, call: Call) -> Capabilities:
        return Capabilities(save_stream=True)


OPERATIONS = {
    "Load": lambda argo: argo.load("a/b", Path("/tmp/x")),
    "Save": lambda argo: argo.save("a/b", Path("/tmp/x")),
    "Delete": lambda argo: argo.delete("a/b"),
    "ListObjects": lambda argo: argo.list_objects("a/b"),
    "IsDirectory": lambda argo: argo.is_directory("a/b"),
    "OpenStream": lambda argo: argo.open_stream("a/b"),
    "SaveStream": lambda argo: argo.save_stream("a/b", b"some plaintext"),
}


class Odd(Exception):
    """An exception of a class that no code knows."""


@pytest.mark.parametrize("fault", [ValueError, KeyError, OSError, MemoryError, StopIteration, Odd, grpc.RpcError])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_defect_is_reported_without_its_text(tmp_path_factory, caplog, capfd, operation, fault):
    caplog.set_level(logging.DEBUG)
    server = ArtifactServer(Broken(fault))
    socket = tmp_path_factory.mktemp("s") / "socket"
    server.start(socket)
    argo = Argo(socket)
    found = outcome(lambda: OPERATIONS[operation](argo))
    argo.close()
    server.stop(0)
    assert found.code == "INTERNAL", found
    assert found.text.startswith(f'{operation} "a/b": an unexpected ')
    assert "[d=" in found.text
    decision = found.text.rpartition("[d=")[2].rstrip("]")
    assert any(decision in record.getMessage() and record.levelno == logging.ERROR for record in caplog.records)
    printed = capfd.readouterr()
    for text in (found.text, caplog.text, printed.out, printed.err):
        assert SECRET not in text


# --- what is forwarded to the downstream -----------------------------------------------------------------


def recorded(proxy: Proxy, key: str, configuration: str = "fault: record\n", **terms) -> dict:
    argo = proxy.argo(configuration)
    request = pb.IsDirectoryRequest(artifact=argo.artifact(key))
    argo.unary("IsDirectory", request, pb.IsDirectoryResponse, **terms)
    return json.loads((proxy.storage / "record.json").read_text())


def test_metadata_is_forwarded_to_the_downstream(proxy):
    metadata = (("x-tenant", "blue"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
    found = recorded(proxy, "a/b", metadata=metadata)["metadata"]
    assert dict(metadata).items() <= found.items()


def test_the_chunks_of_a_refused_upload_are_closed_with_the_call(tmp_path, monkeypatch):
    monkeypatch.setenv("VENDOR_STREAMS", "1")
    monkeypatch.setenv("VENDOR_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "proxy"))
    begun, closed, late = [], [], 0

    def chunks():
        begun.append(True)
        try:
            while True:
                yield bytes(1000)
        finally:
            closed.append(True)

    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        downstream = Downstream(ChildProcess(VENDOR, Path(short) / "socket", 60))
        try:
            for _ in range(40):
                artifact = Artifact("ns/a", configuration="fault: refuse-early")
                with pytest.raises(Refused):
                    downstream.save_stream(Call(Operation.SAVE_STREAM), artifact, chunks())
                late += len(closed) < len(begun)
        finally:
            downstream.close()
    assert begun
    assert late <= 4, "gRPC may be taking a chunk at that moment, but rarely is"
    assert eventually(lambda: len(closed) == len(begun))


def test_a_deadline_is_forwarded_to_the_downstream(proxy):
    assert 0 < recorded(proxy, "a/b", timeout=45)["remaining"] < 60


def test_the_downstream_gets_the_plugin_name_that_is_configured(start):
    proxy = start(downstream={"command": VENDOR, "pluginName": "vendor-s3"})
    assert recorded(proxy, "a/b")["name"] == "vendor-s3"


def test_the_authors_block_is_removed_from_the_configuration(proxy):
    rest = "endpoint: e  # c\n%sfault: record\nnames: [b, a]\ncommit: 61e9540\nphone: +49\nversion: 1.10\n"
    assert recorded(proxy, "a/b", rest % "sealgate: {}\n")["configuration"] == rest % ""


def test_the_authors_block_is_removed_from_json_and_the_rest_stays_json(proxy):
    rest = '{"a": "\u2028fault: record\u2028", %s"note": "\\ud83d\\ude00 \x7f", "' + "n" * 1100 + '": "%%b"}'
    assert recorded(proxy, "a/b", rest % '"sealgate": {}, ')["configuration"] == rest % ""


@pytest.mark.parametrize("value", ["@x", "%b", "`x`", "a\x7fb", '"\\ud83d\\ude00"', "a: b"])
def test_a_block_in_a_text_that_is_neither_yaml_nor_json_is_refused_and_not_ignored(proxy, value):
    found = outcome(lambda: proxy.argo(f"fault: record\nsealgate: {{}}\nother: {value}\n").is_directory("a/b"))
    assert found.code == "INVALID_ARGUMENT"
    assert "mentions sealgate and cannot be read: it is neither plain YAML nor JSON" in found.text


@pytest.mark.parametrize("downstreams", ["fault: record\n", "fault: record\nbucket: b\n# kept\n"])
def test_the_key_downstream_beside_the_authors_block_is_forwarded_alone(proxy, downstreams):
    document = json.dumps({"sealgate": {}, "downstream": downstreams, "other": "dropped"})
    assert recorded(proxy, "a/b", document)["configuration"] == downstreams


def test_an_unknown_key_in_the_authors_block_is_refused_by_name(proxy):
    found = outcome(lambda: proxy.argo("sealgate: {passthrough: true}\n").is_directory("a/b"))
    assert found.code == "INVALID_ARGUMENT"
    assert "passthrough" in found.text


def test_the_word_sealgate_in_another_format_is_not_an_authors_block(proxy):
    written = "# sealgate: {}\nfault: record\n[not YAML: sealgate"
    assert recorded(proxy, "a/b", written)["configuration"] == written


def test_a_status_of_the_downstream_keeps_its_text(proxy):
    found = outcome(lambda: proxy.argo("fault: status\n").is_directory("a/b"))
    assert found == Outcome("ALREADY_EXISTS", "the vendor's own words")

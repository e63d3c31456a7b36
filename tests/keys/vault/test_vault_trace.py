"""One trace: from the client that calls, through the proxy, to the key service and to the storage plugin."""

from __future__ import annotations

import json

import pytest
from harness.chain import SEALGATE, Proxy, eventually
from harness.otlp import Collector
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import client_interceptor, grpcext
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from proxy.rpc import artifact_pb2 as pb


@pytest.mark.parametrize("operation", ["Save", "Load"])
def test_a_call_is_one_trace_span_by_span_and_parent_by_parent(openbao, own_transit, tmp_path, operation):
    openbao.api("PUT", "sys/config/auditing/request-headers/traceparent", {"hmac": False})
    vault = {"mount": own_transit.mount, "auth": {"method": "token"}}
    with Collector() as collector:
        environment = {
            **collector.environment(),
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "VAULT_ADDR": openbao.address,
            "VAULT_TOKEN": openbao.root,
        }
        settings = {
            "keys": {"provider": "vault", "vault": vault, "cache": {"ttl": "0s"}},
            "spool": {"transfer": "file"},
        }
        proxy = Proxy(tmp_path, downstream=[*SEALGATE, "backend"], settings=settings, environment=environment).start()
        (proxy.work / "in").write_bytes(b"some bytes")
        proxy.argo().save("ns/a", proxy.work / "in")
        called(proxy, collector, operation)
        assert proxy.stop() == 0
        (client,) = [span for span in collector.spans() if span.resource["service.name"] == "the caller"]
        spans = {
            (span.resource["service.name"], span.kind, span.name): span
            for span in collector.spans()
            if span.trace_id == client.trace_id
        }
    asked = "decrypt" if operation == "Load" else "datakey/plaintext"
    method, step = f"/artifact.ArtifactService/{operation}", "open" if operation == "Load" else "seal"
    root = spans["sealgate", "SERVER", method]
    onward = spans["sealgate", "CLIENT", method]
    behind = spans["sealgate-backend", "SERVER", method]
    parts = [spans["sealgate", "INTERNAL", name] for name in ("policy", f"vault {own_transit.mount}/{asked}", step)]
    assert root.parent_id == client.span_id
    assert {span.parent_id for span in (onward, *parts)} == {root.span_id}
    assert behind.parent_id == onward.span_id
    own = {("sealgate-backend", "INTERNAL", "policy")}
    assert set(spans) - own == {
        ("the caller", "CLIENT", method),
        *(("sealgate", span.kind, span.name) for span in (root, onward, *parts)),
        ("sealgate-backend", "SERVER", method),
    }
    lines = map(json.loads, (openbao.home / "audit.log").read_text().splitlines())
    headers = [line["request"].get("headers", {}).get("traceparent") for line in lines if line["type"] == "request"]
    assert f"00-{client.trace_id}-{parts[1].span_id}" in {text[:-3] for texts in headers for text in texts or ()}


def called(proxy: Proxy, collector: Collector, operation: str) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "the caller"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(collector.endpoint, insecure=True)))
    argo = proxy.argo()
    channel = grpcext.intercept_channel(argo.channel(), client_interceptor(provider))
    kind, answer = getattr(pb, f"{operation}ArtifactRequest"), getattr(pb, f"{operation}ArtifactResponse")
    field = "input_artifact" if operation == "Load" else "output_artifact"
    request = kind(**{field: argo.artifact("ns/a")}, path=str(proxy.work / ("out" if operation == "Load" else "in")))
    stub = channel.unary_unary(
        f"/artifact.ArtifactService/{operation}",
        request_serializer=kind.SerializeToString,
        response_deserializer=answer.FromString,
    )
    assert stub(request, timeout=60).success
    provider.shutdown()
    assert eventually(lambda: [s for s in collector.spans() if s.resource["service.name"] == "sealgate-backend"])

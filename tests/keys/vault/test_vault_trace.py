"""One trace leads from the calling client through the proxy to the key service and to the storage plugin."""

from __future__ import annotations

import pytest
from harness.chain import SEALGATE, Proxy, eventually
from harness.otlp import Collector
from harness.trails import read
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import client_interceptor, grpcext
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from sealgate.rpc import artifact_pb2 as pb
from sealgate.telemetry import names


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
    lines = [line["request"] for line in openbao.audit("calls") if line["type"] == "request"]
    headers = [line.get("headers", {}).get("traceparent") for line in lines]
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


def test_requests_to_the_key_service_and_hits_of_the_cache_are_counted(openbao, own_transit, tmp_path):
    own_transit.create_key("audit", type="ed25519")
    vault = {"mount": own_transit.mount, "auth": {"method": "token"}}
    with Collector() as collector:
        environment = {**collector.environment(), "VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.root}
        keys = {"provider": "vault", "vault": vault}
        settings = {"keys": keys, "audit": {"signingKey": "audit"}, "telemetry": {"metrics": "otlp"}}
        proxy = Proxy(tmp_path, settings=settings, environment=environment).start()
        proxy.argo().save_stream("ns/a", b"some bytes")
        for _ in range(3):
            proxy.argo().open_stream("ns/a")
        assert proxy.stop() == 0
        found = {metric.name: metric for metric in collector.metrics()}
    counted = {point.attributes[0].value.string_value: point.as_int for point in found[names.DATA_KEYS].sum.data_points}
    assert counted == {"key service": 2, "cache": 2}
    assert sum(point.count for point in found[names.VAULT_DURATION].histogram.data_points) == 2
    records = [record for record in read(proxy.trail) if record["unmapped"]["phase"] == "outcome"]
    assert [record["unmapped"]["vault"].get("requests", 0) for record in records] == [1, 1, 0, 0]
    paths = {
        line["request"]["id"]: line["request"]["path"] for line in openbao.audit("calls") if line["type"] == "request"
    }
    asked = paths[records[0]["unmapped"]["vault"]["request_id"]]
    assert asked == f"{own_transit.mount}/datakey/plaintext/artifacts", "not the request that signed the certificate"

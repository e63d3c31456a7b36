"""An OpenTelemetry collector on a real port, which tests can stop, let hang and start again."""

from __future__ import annotations

import socket
import threading
from concurrent import futures
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import grpc
from harness.chain import eventually
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

_METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": traces,
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": metrics,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": logs,
}
_PATHS = {"/v1/traces": traces, "/v1/metrics": metrics, "/v1/logs": logs}
_MESSAGES = {
    traces: (traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
    metrics: (metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
    logs: (logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
}
_STATUS = {0: "UNSET", 1: "OK", 2: "ERROR"}
_KIND = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT"}


def value_of(value):
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


@dataclass(frozen=True)
class Received:
    """A span as the collector received it."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    status: str
    message: str
    attributes: dict
    events: list
    links: list
    resource: dict
    scope: str


class Collector:
    """Keeps its port from the beginning, and answers there while it is started."""

    def __init__(self, *, http: bool = False, host: str = "127.0.0.1") -> None:
        # Bound and not listening: the port stays reserved, and connections to it are refused.
        self._kept = socket.socket()
        self._host = host
        self._kept.bind((host, 0))
        self.port = self._kept.getsockname()[1]
        self._http = http
        self._server = None
        self.messages: list = []
        self.hanging = threading.Event()
        self._released = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://{self._host}:{self.port}"

    def environment(self) -> dict[str, str]:
        protocol = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"} if self._http else {}
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, **protocol}

    def start(self) -> Self:
        self._kept.close()
        self._server = self._http_server() if self._http else self._grpc_server()
        return self

    def come_back(self) -> None:
        """Answer again, also requests that hang. Start, if it was never started."""
        self.hanging.clear()
        self._released.set()
        if self._server is None:
            self.start()

    def stop(self) -> None:
        self._released.set()
        if self._server is not None:
            if self._http:
                self._server.shutdown()
                self._server.server_close()
            else:
                self._server.stop(0).wait()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _take(self, kind, text: bytes) -> bytes:
        if self.hanging.is_set():
            self._released.wait(120)
        request, answer = _MESSAGES[kind]
        self.messages.append(request.FromString(text))
        return answer().SerializeToString()

    def _grpc_server(self):
        collector = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                kind = _METHODS.get(details.method)
                if kind is None:
                    return None
                return grpc.unary_unary_rpc_method_handler(lambda text, _: collector._take(kind, text))

        server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Handler()], options=[("grpc.so_reuseport", 0)])
        assert eventually(lambda: server.add_insecure_port(f"{self._host}:{self.port}"))
        server.start()
        return server

    def _http_server(self):
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding"):
                    raise AssertionError
                answer = collector._take(_PATHS[self.path], text)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer((self._host, self.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def spans(self) -> list[Received]:
        return [
            Received(
                name=span.name,
                kind=_KIND[span.kind],
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                status=_STATUS[span.status.code],
                message=span.status.message,
                attributes={item.key: value_of(item.value) for item in span.attributes},
                events=[event.name for event in span.events],
                links=[link.trace_id.hex() for link in span.links],
                resource={item.key: value_of(item.value) for item in group.resource.attributes},
                scope=scope.scope.name,
            )
            for message in list(self.messages)
            if isinstance(message, traces.ExportTraceServiceRequest)
            for group in message.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def resources(self) -> dict[str, dict]:
        """Return the resource attributes by kind of message."""
        return {
            type(message).__name__.removeprefix("Export").removesuffix("ServiceRequest"): {
                item.key: value_of(item.value) for item in group.resource.attributes
            }
            for message in list(self.messages)
            for field in ("resource_spans", "resource_metrics", "resource_logs")
            for group in getattr(message, field, ())
        }

    def metrics(self) -> list:
        return [
            metric
            for message in list(self.messages)
            if isinstance(message, metrics.ExportMetricsServiceRequest)
            for group in message.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
        ]

    def records(self) -> list:
        return [
            record
            for message in list(self.messages)
            if isinstance(message, logs.ExportLogsServiceRequest)
            for group in message.resource_logs
            for scope in group.scope_logs
            for record in scope.log_records
        ]

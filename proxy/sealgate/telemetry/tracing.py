"""Which spans there are, and how they end: one for each RPC, and below it one for each step of the work.

OpenTelemetry's gRPC instrumentation makes the spans of RPCs. This module loads OpenTelemetry and is therefore imported
only if traces are configured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.grpc import client_interceptor, grpcext, server_interceptor
from opentelemetry.propagators import textmap
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

from sealgate import program_version
from sealgate.call import Call, downstream_ending
from sealgate.identity import Identity
from sealgate.telemetry import names
from sealgate.telemetry.environment import Signal, over_http, timeout
from sealgate.telemetry.resource import resource

_PARENT_SECONDS = 3600.0
"""How long after the start the trace context of the environment is a parent. Later it becomes a link."""
_EXPORT_EVERY_MS = 1000
_SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The statuses that count as an error of the server, by OpenTelemetry's conventions."""
_STATUSES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""The names of the gRPC statuses, by number. For a client, all but the first count as errors."""


class Tracing:
    """Makes and exports the spans of this process.

    Args:
        service: the name of the service, unless an `OTEL_*` variable gives another.
        identity: describes this process.
        environment: holds the `OTEL_*` variables, `TRACEPARENT` and `TRACESTATE`.
        clock: the time in seconds.
    """

    def __init__(
        self,
        service: str,
        identity: Identity,
        environment: Mapping[str, str] = os.environ,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = TracerProvider(resource=_resource(service, identity), shutdown_on_exit=False)
        every = None if environment.get("OTEL_BSP_SCHEDULE_DELAY") else _EXPORT_EVERY_MS
        self._provider.add_span_processor(_CorrectingProcessor(_exporter(environment), schedule_delay_millis=every))
        self._tracer = self._provider.get_tracer("sealgate", program_version())
        self._clock = clock
        self._started = clock()
        self._propagator = _Propagator(environment.get("TRACEPARENT", ""), environment.get("TRACESTATE", ""))
        propagate.set_global_textmap(self._propagator)
        self._server: Any = server_interceptor(self._provider)  # type: ignore[no-untyped-call]  # the library has no types
        self._client: Any = client_interceptor(self._provider)  # type: ignore[no-untyped-call]  # the library has no types

    # --- RPCs ---------------------------------------------------------------------------------------------

    def serving(self, handler: Any, details: Any) -> Any:
        """Return a gRPC handler that runs `handler` inside a span of the instrumentation."""
        self._propagator.is_parent = self._clock() - self._started < _PARENT_SECONDS
        return self._server.intercept_service(lambda _: handler, details)

    def calling(self, channel: Any) -> Any:
        """Return a gRPC channel that makes a span of the instrumentation for each RPC on `channel`."""
        return grpcext.intercept_channel(channel, self._client)  # type: ignore[no-untyped-call]  # the library has no types

    # --- calls --------------------------------------------------------------------------------------------

    def began(self, call: Call) -> None:
        """Attach `call` to the current span, which is that of its RPC. Steps of the call become its children."""
        span = trace.get_current_span()
        context = span.get_span_context()
        if not context.is_valid:
            return
        if not self._propagator.is_parent and self._propagator.context is not None:
            span.add_link(self._propagator.context)
        facts = call.trace
        facts.span = span
        facts.trace_id, facts.span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
        facts.step = self._steps_below(trace.set_span_in_context(span, Context()))

    def ended(self, call: Call, outcome: str, kind: str) -> None:
        """Write to the span of the RPC how `call` ended and what it moved."""
        span = call.trace.span
        if not isinstance(span, Span):
            return
        sealed, decision, key = call.sealed, call.decision, call.sealed.key
        facts: dict[str, str | int | bool] = {
            names.OPERATION: call.operation.value,
            names.CALL_ID: call.id,
            names.STATUS_CODE: outcome,
            names.ERROR_TYPE: kind,
            names.DECISION: decision.effective,
            names.PROPOSED: decision.proposed,
            names.CODE: decision.code,
            names.POLICY: decision.policy,
            names.RULE: decision.rule,
            names.KEY_NAME: key.key_name if key else "",
            names.KEY_VERSION: key.key_version if key else 0,
            names.AUDIT_CHAIN: call.audit.chain,
            names.VAULT_REQUEST_ID: call.keys.request_id,
        }
        if call.audit.chain:
            facts[names.AUDIT_SEQUENCE] = call.audit.sequence
        if sealed.files:
            facts |= {
                names.FILES: sealed.files,
                names.PLAINTEXT_BYTES: sealed.plaintext_bytes,
                names.STORED_BYTES: sealed.stored_bytes,
            }
        span.set_attributes({name: value for name, value in facts.items() if value != ""})

    def _steps_below(self, parent: Context) -> Callable[[str], Any]:
        @contextmanager
        def step(name: str) -> Iterator[str]:
            # It does not become the current span, because a step of a stream may start and end on different threads.
            span = self._tracer.start_span(name, parent, SpanKind.INTERNAL)
            try:
                yield _traceparent(span)
            except Exception as error:
                span.set_attribute(names.ERROR_TYPE, type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise
            finally:
                span.end()

        return step

    # --- export -------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Export all spans that have ended."""
        self._provider.force_flush()

    def close(self) -> None:
        """Export all spans that have ended, and stop."""
        self._provider.shutdown()


def _resource(service: str, identity: Identity) -> Resource:
    """Return the attributes that describe this process in every span."""
    facts = {
        names.NAMESPACE: identity.namespace,
        names.WORKFLOW_NAME: identity.workflow,
        names.WORKFLOW_UID: identity.workflow_uid,
        names.NODE_ID: identity.node,
        names.POD_NAME: identity.pod,
        names.POD_UID: identity.pod_uid,
        names.COMPONENT: identity.component,
    }
    return resource(service, facts)


def _exporter(environment: Mapping[str, str]) -> SpanExporter:
    seconds = timeout(Signal.TRACES, environment)
    if over_http(Signal.TRACES, environment):
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415 - one of the two

        return http.OTLPSpanExporter(timeout=seconds)
    from opentelemetry.exporter.otlp.proto.grpc import trace_exporter  # noqa: PLC0415 - one of the two

    return trace_exporter.OTLPSpanExporter(timeout=seconds)


def _traceparent(span: Span) -> str:
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get("traceparent", "")


class _Propagator(textmap.TextMapPropagator):
    """Reads and writes W3C trace context. If a caller sends none, the context of the environment is the parent."""

    def __init__(self, traceparent: str, tracestate: str) -> None:
        self._w3c = TraceContextTextMapPropagator()
        self._parent = self._w3c.extract({"traceparent": traceparent, "tracestate": tracestate}, Context())
        context = trace.get_current_span(self._parent).get_span_context()
        self.context = context if context.is_valid else None
        self.is_parent = True

    @override
    def extract(
        self, carrier: Any, context: Context | None = None, getter: textmap.Getter[Any] = textmap.default_getter
    ) -> Context:
        extracted = self._w3c.extract(carrier, context or Context(), getter)
        if self.is_parent and not trace.get_current_span(extracted).get_span_context().is_valid:
            return self._parent
        return extracted

    @override
    def inject(
        self, carrier: Any, context: Context | None = None, setter: textmap.Setter[Any] = textmap.default_setter
    ) -> None:
        self._w3c.inject(carrier, context, setter)

    @override
    @property
    def fields(self) -> set[str]:
        return self._w3c.fields


class _CorrectingProcessor(BatchSpanProcessor):
    """Exports spans in batches, after `_corrected`."""

    @override
    def on_end(self, span: ReadableSpan) -> None:
        super().on_end(_corrected(span))


def _corrected(span: ReadableSpan) -> ReadableSpan:
    """Return `span` with the correct status, if the instrumentation made it; else `span` itself.

    The instrumentation does not mark a refusal in an answer as an error, nor a caller that went away. It also adds
    texts and traces of exceptions, which may name artifacts; they are removed. The status comes from the first of these
    that is known: the attributes `STATUS_CODE` and `ERROR_TYPE`, which `Tracing.ended` writes; the field
    `call.downstream_ending`, for an RPC to the downstream; the gRPC status that the instrumentation saw.
    """
    scope = span.instrumentation_scope
    if scope is None or not scope.name.startswith("opentelemetry.instrumentation.grpc"):
        return span
    attributes = dict(span.attributes or {})
    number = attributes.pop(names.OLD_STATUS_CODE, None)
    ending = downstream_ending.get() if span.kind is SpanKind.CLIENT else ("", "")
    outcome = attributes.get(names.STATUS_CODE) or ending[0] or _status_of(number)
    failed = attributes.get(names.ERROR_TYPE) or ending[1] or ("" if outcome == "OK" else outcome)
    attributes |= {names.STATUS_CODE: outcome} | ({names.ERROR_TYPE: failed} if failed else {})
    errors = _SERVER_ERRORS if span.kind is SpanKind.SERVER else _STATUSES[1:]
    status = Status(StatusCode.ERROR if outcome in errors or failed == "artifact_error" else StatusCode.UNSET)
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=[event for event in span.events if event.name != "exception"],
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=scope,
    )


def _status_of(number: object) -> str:
    return _STATUSES[number] if isinstance(number, int) and 0 <= number < len(_STATUSES) else "UNKNOWN"

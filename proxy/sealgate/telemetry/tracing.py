"""Spans: one an RPC by OpenTelemetry's own instrumentation, and below it one for each part of the work.

This module loads OpenTelemetry, and so is itself loaded only when there is somewhere to send spans.
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
from sealgate.call import Call, current_call
from sealgate.identity import Identity
from sealgate.telemetry import names
from sealgate.telemetry.environment import Signal, over_http, timeout
from sealgate.telemetry.resource import resource

_PARENT_IS_FRESH_FOR = 3600.0
"""Seconds after which the environment's context is a link, and no parent any more."""
_EXPORT_EVERY_MS = 1000
_ENDINGS_OF_SERVERS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""The statuses that are an error of the server, by OpenTelemetry's conventions; the rest is the caller's."""
_STATUSES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""By their numbers. For a client all but the first are errors."""


class Tracing:
    """Makes and exports the spans of this process."""

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
        self._provider.add_span_processor(_Mending(_exporter(environment), schedule_delay_millis=every))
        self._tracer = self._provider.get_tracer("sealgate", program_version())
        self._clock = clock
        self._started = clock()
        self._propagator = _FromEnvironment(environment.get("TRACEPARENT", ""), environment.get("TRACESTATE", ""))
        propagate.set_global_textmap(self._propagator)
        self._server: Any = server_interceptor(self._provider)  # type: ignore[no-untyped-call]  # it has no types
        self._client: Any = client_interceptor(self._provider)  # type: ignore[no-untyped-call]  # it has no types

    # --- RPCs ---------------------------------------------------------------------------------------------

    def serving(self, handler: Any, details: Any) -> Any:
        """A handler of the gRPC library inside the instrumentation's span."""
        self._propagator.is_parent = self._clock() - self._started < _PARENT_IS_FRESH_FOR
        return self._server.intercept_service(lambda _: handler, details)

    def calling(self, channel: Any) -> Any:
        """A channel whose calls are spans of the instrumentation."""
        return grpcext.intercept_channel(channel, self._client)  # type: ignore[no-untyped-call]  # it has no types

    # --- calls --------------------------------------------------------------------------------------------

    def began(self, call: Call) -> None:
        """Have the parts of this call be children of the RPC's span."""
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
        """Note on the RPC's span how the call ended and what it moved."""
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
            # Never made the current span: a stream's steps begin in one thread's hands and end in another's.
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
        """Export the spans that have ended."""
        self._provider.force_flush()

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def _resource(service: str, identity: Identity) -> Resource:
    """What every span of this process says of it."""
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


class _FromEnvironment(textmap.TextMapPropagator):
    """W3C trace context; where a caller sends none, the environment's is the parent."""

    def __init__(self, traceparent: str, tracestate: str) -> None:
        self._w3c = TraceContextTextMapPropagator()
        self._parent = self._w3c.extract({"traceparent": traceparent, "tracestate": tracestate}, Context())
        found = trace.get_current_span(self._parent).get_span_context()
        self.context = found if found.is_valid else None
        self.is_parent = True

    @override
    def extract(
        self, carrier: Any, context: Context | None = None, getter: textmap.Getter[Any] = textmap.default_getter
    ) -> Context:
        found = self._w3c.extract(carrier, context or Context(), getter)
        if self.is_parent and not trace.get_current_span(found).get_span_context().is_valid:
            return self._parent
        return found

    @override
    def inject(
        self, carrier: Any, context: Context | None = None, setter: textmap.Setter[Any] = textmap.default_setter
    ) -> None:
        self._w3c.inject(carrier, context, setter)

    @override
    @property
    def fields(self) -> set[str]:
        return self._w3c.fields


class _Mending(BatchSpanProcessor):
    """Exports spans, those of the instrumentation with the ending that they should have."""

    @override
    def on_end(self, span: ReadableSpan) -> None:
        super().on_end(mended(span))


def mended(span: ReadableSpan) -> ReadableSpan:
    """The one place that puts right how the instrumentation ends a span.

    It leaves a refusal in an answer and a caller that went away unmarked, and adds texts and traces of exceptions,
    which can name artifacts. What the call itself said of its end, on `STATUS_CODE` and `ERROR_TYPE`, is right; so is
    what the client says of an RPC while it tells of its end. A stream that ends by itself has its status alone.
    """
    scope = span.instrumentation_scope
    if scope is None or not scope.name.startswith("opentelemetry.instrumentation.grpc"):
        return span
    attributes = dict(span.attributes or {})
    number, call = attributes.pop(names.OLD_STATUS_CODE, None), current_call.get()
    told = call.trace.downstream_ending if call and span.kind is SpanKind.CLIENT else ("", "")
    outcome = attributes.get(names.STATUS_CODE) or told[0] or _status_of(number)
    failed = attributes.get(names.ERROR_TYPE) or told[1] or ("" if outcome == "OK" else outcome)
    attributes |= {names.STATUS_CODE: outcome} | ({names.ERROR_TYPE: failed} if failed else {})
    errors = _ENDINGS_OF_SERVERS if span.kind is SpanKind.SERVER else _STATUSES[1:]
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

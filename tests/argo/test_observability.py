"""The records, spans and metrics of each operation, for each way in which it can end."""

from __future__ import annotations

from collections import Counter

import pytest
from harness.chain import Proxy, eventually
from harness.content import blob
from harness.otlp import Collector, value_of
from harness.stand import LARGE, OPERATIONS, Stand, filled
from harness.trails import read

from sealgate.telemetry import names

EFFECTS = {"Load", "OpenStream", "Save", "SaveStream", "Delete"}
CLOSED = ("CLIENT", "OpenStream", "ERROR", "CANCELLED", "CANCELLED")
STARTED = "the downstream was started"
WRITES, READS = {"Save", "SaveStream"}, {"Load", "OpenStream"}
ENDINGS = {
    "success": ("OK", "OK", ""),
    "refusal": ("REFUSED", "OK", "artifact_error"),
    "denial": ("BAD_KEY", "INVALID_ARGUMENT", "BadRequest"),
    "fault": ("UNAVAILABLE", "UNAVAILABLE", "Unavailable"),
}
"""The record's status code, the gRPC status, and the kind of error."""


@pytest.fixture(scope="module", params=["file", "stream"])
def observed(request, tmp_path_factory, collector):
    environment = {
        **collector.environment(),
        "VENDOR_STREAMS": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_METRIC_EXPORT_INTERVAL": "50",
    }
    settings = {"spool": {"transfer": request.param}, "telemetry": {"metrics": "otlp"}}
    proxy = Proxy(tmp_path_factory.mktemp("observed"), settings=settings, environment=environment).start()
    first = filled(proxy, "first")  # asks once whether the downstream replaces whole artifacts
    assert first.attempt("Delete").code == "OK"  # finds out how the downstream lists
    yield proxy
    assert proxy.stop() == 0


@pytest.fixture(scope="module")
def unobserved(observed):
    """A proxy with the same storage and keys that exports nothing, to store artifacts that are not counted."""
    proxy = Proxy(observed.home, environment={"VENDOR_STREAMS": "1"})
    proxy.trail, proxy.log = proxy.home / "unobserved.jsonl", proxy.home / "unobserved.log"
    yield proxy.start()
    assert proxy.stop() == 0


def options(stand: Stand, operation: str, outcome: str) -> dict[str, object]:
    """Return the options of `Stand.attempt` that make a call end with this outcome."""
    on = stand.downstream_operation(operation)
    fault = {"refusal": "refuse-early" if on == "SaveStream" else "refuse", "fault": "die"}.get(outcome)
    return {"configuration": f"fault: {fault} on {on}"} if fault else {}


def records(operation: str, outcome: str) -> list[tuple[str, str]]:
    code, _, _ = ENDINGS[outcome]
    attempt = [("attempt", "")] if operation in EFFECTS and outcome != "denial" else []
    return [*attempt, ("outcome", code)]


def spans(stand: Stand, operation: str, outcome: str) -> Counter:
    """Return the expected spans: kind, name, status, status code and kind of error."""
    _, code, kind = ENDINGS[outcome]
    server = "ERROR" if outcome in {"refusal", "fault"} else "UNSET"
    found = Counter({("SERVER", operation, server, code, kind): 1})
    if outcome == "denial":
        return found + Counter({("INTERNAL", "policy", "ERROR", "", kind): 1})
    on, by_stream = stand.downstream_operation(operation), stand.proxy.settings["spool"]["transfer"] == "stream"
    found["INTERNAL", "policy", "UNSET", "", ""] += 1
    # A stream that breaks has a status code and no kind of error.
    onward = code if outcome == "fault" and on == "OpenStream" else kind
    found["CLIENT", on, "UNSET" if outcome == "success" else "ERROR", code, onward] += 1
    if operation in WRITES and by_stream:
        found["CLIENT", "GetCapabilities", "UNSET", "OK", ""] += 1
    if operation in WRITES and (outcome == "success" or not by_stream):
        found["INTERNAL", "seal", "UNSET", "", ""] += 1
    if operation in READS and outcome == "success":
        found["INTERNAL", "open", "UNSET", "", ""] += 1
    elif operation == "OpenStream" or (operation == "Load" and by_stream):
        found["INTERNAL", "open", "ERROR", "", "Refused" if outcome == "refusal" else kind] += 1
    if operation in WRITES and outcome == "success":
        # Whether the downstream keeps objects that the Save replaces.
        found["CLIENT", "IsDirectory", "UNSET", "OK", ""] += 1
    if operation == "Delete":
        # What is stored beneath the key.
        found["CLIENT", "ListObjects", "UNSET", "OK", ""] += 1
        if outcome == "success":
            # Whether anything is left, which the listing of a file cannot show.
            found["CLIENT", "IsDirectory", "UNSET", "OK", ""] += 1
            found["CLIENT", "OpenStream", "ERROR", "OK", "artifact_error"] += 1
    if (operation, outcome, by_stream) == ("Load", "refusal", True):
        # A directory, which OpenStream cannot load, would be refused alike: its manifest is requested next.
        found["CLIENT", "OpenStream", "ERROR", code, onward] += 1
    return found


def metrics(operation: str, outcome: str) -> Counter:
    _, code, kind = ENDINGS[outcome]
    decided = ("deny", "BAD_KEY") if outcome == "denial" else ("allow", "OK")
    found = Counter({(names.AUDIT_RECORDS, phase): 1 for phase, _ in records(operation, outcome)})
    found[names.CALL_DURATION, operation, code, kind] += 1
    found[(names.DECISIONS, operation, *decided, "enforce")] += 1
    if operation in WRITES | READS and outcome == "success":
        found[names.ARTIFACT_SIZE, operation, "write" if operation in WRITES else "read"] += 1
    return found


def received_spans(collector: Collector) -> Counter:
    return Counter(
        (
            span.kind,
            span.name.rpartition("/")[2],
            span.status,
            span.attributes.get(names.STATUS_CODE, ""),
            span.attributes.get(names.ERROR_TYPE, ""),
        )
        for span in collector.spans()
    )


def received_metrics(collector: Collector) -> Counter:
    """Return each metric with its attributes, without those that are the same everywhere."""
    order = {
        names.AUDIT_RECORDS: (names.PHASE,),
        names.CALL_DURATION: (names.RPC_METHOD, names.STATUS_CODE, names.ERROR_TYPE),
        names.DECISIONS: (names.OPERATION, names.DECISION, names.CODE, names.MODE),
        names.ARTIFACT_SIZE: (names.OPERATION, names.DIRECTION),
    }
    found: Counter = Counter()
    for metric in collector.metrics():
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            attributes = {item.key: value_of(item.value) for item in point.attributes}
            assert set(attributes) - {names.RPC_SYSTEM} <= set(order[metric.name]), metric
            facts = (attributes.get(name, "").rpartition("/")[2] for name in order[metric.name])
            found[(metric.name, *facts)] += point.count if hasattr(point, "count") else point.as_int
    return found


@pytest.mark.parametrize("outcome", ENDINGS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_leaves_exactly_the_expected_records_spans_and_metrics(
    observed, unobserved, collector, key, operation, outcome
):
    stand = Stand(observed, f"denied/../{key}" if outcome == "denial" else key)
    if outcome != "denial":
        unobserved.argo().save_stream(stand.stored, blob(LARGE))
    collector.messages.clear()  # the test before this one has waited for all of its own
    before, starts = len(read(observed.trail)), observed.output().count(STARTED)
    stand.attempt(operation, **options(stand, operation, outcome))
    # A refusal may come before sealing has begun, or cancel it at any step.
    cancelled = [("INTERNAL", "seal", "UNSET", "", ""), ("INTERNAL", "seal", "ERROR", "", "Cancelled")]
    expected = spans(stand, operation, outcome)

    def received():
        found = received_spans(collector)
        if not any(seal in expected for seal in cancelled) and sum(found[seal] for seal in cancelled) == 1:
            for seal in cancelled:
                del found[seal]
        if outcome == "fault" and found[CLOSED] and CLOSED not in expected:
            # The end of the downstream may be noticed first by what supervises it, which closes the connection.
            del found[CLOSED]
            found["CLIENT", "OpenStream", "ERROR", "UNAVAILABLE", "UNAVAILABLE"] += 1
        return found, received_metrics(collector)

    assert eventually(lambda: received() == (expected, metrics(operation, outcome))), received()
    found = [
        (r["unmapped"]["phase"], r.get("status_code", ""))
        for r in read(observed.trail)[before:]
        if r["unmapped"]["phase"] != "session.start"
    ]
    assert found == records(operation, outcome)
    if outcome == "fault":
        # A downstream that has ended several times is started again later each time, and calls do not wait for that.
        assert eventually(lambda: observed.output().count(STARTED) > starts)

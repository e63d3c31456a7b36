"""Decide the calls of an audit trail by other policies, and count the outcomes that would change.

A trail has one JSON record per line. Only operation, key, actor, amounts, times, decision and outcome of a record are
used (docs/policy-reference.md, "policy replay").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sealgate.policy.decision import OPERATIONS, Decision, Measures, Request, Verdict
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import PolicySet
from sealgate.policy.rules import Process

_LONGEST_LINE = 1 << 16
"""Bytes."""
_EXAMPLES = 20
_PENDING = frozenset({"exists", "age"})
_OF_A_DIRECTORY = _PENDING | {"object"}
_NOT_REPLAYABLE = frozenset(
    {"LIMIT_BYTES", "LIMIT_TOTAL", "LIMIT_FILES", "LIMIT_LISTING", "EXTENSION", "PLAINTEXT", "CONTEXT", "OTHER_KEY"}
)
"""Codes of refusals that depend on bytes or stored objects. The record of a refused call does not contain those."""
_ACTOR = {
    "namespace": "namespace",
    "service_account": "serviceAccount",
    "workflow": "workflow",
    "workflow_uid": "workflowUid",
    "pod": "pod",
    "pod_uid": "podUid",
    "node": "node",
    "component": "component",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A recorded call whose outcome would change."""

    line: int
    operation: str
    key: str
    namespace: str
    was: str
    verdict: Verdict


@dataclass(slots=True)
class Replay:
    """The result of replaying a trail."""

    calls: int = 0
    unusable: int = 0
    """Lines that are not a record of a call, or that do not contain the whole key."""
    now_denied: int = 0
    now_allowed: int = 0
    now_kept: int = 0
    """Deletes that removed something and would now be skipped."""
    now_removed: int = 0
    """Deletes that were skipped and would now remove something."""
    undetermined: int = 0
    """Calls that were refused or skipped because of something that no trail contains, such as an age or a refused size.

    The new policies may refuse them for the same reason.
    """
    by_rule: dict[str, int] = field(default_factory=dict)
    """For each rule, the number of calls that it would now deny."""
    examples: list[Change] = field(default_factory=list)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a trail. A line that is too long is cut, so that it does not count as a record."""
    while line := file.readline(_LONGEST_LINE + 1):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(_LONGEST_LINE)


def replayed(lines: Iterable[str | bytes], policies: PolicySet) -> Replay:
    """Decide each call in `lines` by `policies`."""
    prepared: dict[tuple[object, ...], ProcessPolicy] = {}
    result = Replay()
    for number, line in enumerate(lines, start=1):
        record = _record(line)
        if record is None:
            if line.strip():
                result.unusable += 1
            continue
        if _value_at(record, "unmapped", "phase") in {"attempt", "session.start", "session.end"}:
            continue
        inputs = _inputs_of(record)
        if inputs is None:
            result.unusable += 1
            continue
        request, measures, process = inputs
        identity = (*sorted(process.identity.items()), process.attested)
        if identity not in prepared:
            prepared[identity] = ProcessPolicy(policies, process)
        result.calls += 1
        _compare(result, number, record, request, prepared[identity].decide(request, measures), process)
    return result


def _compare(
    result: Replay, number: int, record: Mapping[str, Any], request: Request, decision: Decision, process: Process
) -> None:
    verdict = decision.effective
    skipped = _value_at(record, "unmapped", "decision", "effective") == "skip"
    was = "deny" if record.get("action") == "Denied" else "skip" if skipped else "allow"
    if was == verdict.outcome:
        return
    ended_by = record.get("status_code") if was == "deny" else ""
    if was != "allow" and verdict.allows and (decision.needs or ended_by in _NOT_REPLAYABLE):
        result.undetermined += 1
        return
    if verdict.outcome == "deny":
        result.now_denied += 1
        rule = f"{verdict.policy}/{verdict.rule}".lstrip("/") + f" {verdict.code}"
        result.by_rule[rule] = result.by_rule.get(rule, 0) + 1
    elif was == "deny":
        result.now_allowed += 1
    elif verdict.outcome == "skip":
        result.now_kept += 1
    else:
        result.now_removed += 1
    if len(result.examples) < _EXAMPLES:
        namespace = process.identity.get("namespace", "")
        result.examples.append(Change(number, request.operation, request.key, namespace, was, verdict))


def _record(line: str | bytes) -> dict[str, Any] | None:
    if len(line) > _LONGEST_LINE:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _inputs_of(record: Mapping[str, Any]) -> tuple[Request, Measures, Process] | None:
    operation, key = _value_at(record, "api", "operation"), _value_at(record, "resource", "uid")
    if not isinstance(operation, str) or not isinstance(key, str) or operation not in OPERATIONS:
        return None
    if key == "withheld" or key.startswith("hmac-sha256:") or _value_at(record, "unmapped", "key_sha256"):
        return None
    files, total = _number(record, "files"), _number(record, "plaintext_bytes")
    listed, unsealed = _number(record, "listed"), _number(record, "unsealed_files")
    measures = Measures(
        bytes=total if files == 1 else None,
        total=total,
        files=files,
        listing=listed,
        sealed=False if unsealed else None,
        # The names of the files in a directory are not recorded.
        pending=_OF_A_DIRECTORY if operation == "Save" and files != 1 else _PENDING,
    )
    actor = record.get("actor")
    actor = actor if isinstance(actor, dict) else {}
    identity = {name: actor[field] for field, name in _ACTOR.items() if isinstance(actor.get(field), str)}
    plugin, artifact = _value_at(record, "databucket", "name"), _value_at(record, "resource", "name")
    request = Request(operation, key, str(plugin or ""), str(artifact or ""), time=_began(record))
    return request, measures, Process(identity, attested=actor.get("attested") is True)


def _began(record: Mapping[str, Any]) -> int | None:
    """Return when the call of `record` began, in Unix seconds; None if the record does not say."""
    ended, duration = _count(record.get("time")), _count(record.get("duration"))
    return None if ended is None else max(0, ended - (duration or 0)) // 1000


def _number(record: Mapping[str, Any], name: str) -> int | None:
    return _count(_value_at(record, "unmapped", "io", name))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _value_at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value

"""The results of `sealgate policy` as text for people, JSON for programs, and annotations or JUnit for CI."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict

from sealgate.cli.counting import counted
from sealgate.documents.validate import printable
from sealgate.policy.cases import Result
from sealgate.policy.replay import Replay

_PLACED = re.compile(r"(.+?):([0-9]+):([0-9]+): (.*)", re.DOTALL)


def faults(lines: Sequence[str], kind: str) -> str:
    """Return the faults of invalid documents. `kind` is `text`, `json` or `github`, as everywhere here."""
    if kind == "json":
        return json.dumps({"valid": False, "faults": list(lines)}, indent=2)
    if kind == "github":
        return "\n".join(_annotation("error", line) for line in lines)
    return "\n".join([*map(printable, lines), f"not valid: {counted(len(lines), 'fault')}"])


def checked(documents: int, rules: int, doubts: Sequence[str], kind: str) -> str:
    """Return the counts of valid documents and their rules, and the warnings about them."""
    if kind == "json":
        facts = {"valid": True, "documents": documents, "rules": rules, "warnings": list(doubts)}
        return json.dumps(facts, indent=2)
    lines = [_annotation("warning", line) if kind == "github" else f"WARN {line}" for line in doubts]
    counts = (documents, "document"), (rules, "rule"), (len(doubts), "warning")
    return "\n".join([*map(printable, lines), f"valid: {', '.join(counted(*each) for each in counts)}"])


def tested(results: Sequence[Result], missing: Sequence[str], covered: tuple[int, int] | None, kind: str) -> str:
    """Return the results of test cases.

    Args:
        results: the results, in order.
        missing: warnings about rules that no case covers.
        covered: how many rules are covered, and of how many; None if coverage was not asked for.
        kind: `text`, `json`, `junit` or `github`.
    """
    failed = [result for result in results if result.faults]
    if kind == "json":
        facts = {"cases": [asdict(result) for result in results], "uncovered": list(missing)}
        return json.dumps(facts, indent=2)
    if kind == "junit":
        return _junit(results, len(failed))
    lines = []
    for result in failed:
        text = "; ".join(result.faults)
        line = f"{result.place}: {result.name}: {text}"
        lines.append(_annotation("error", line) if kind == "github" else f"FAIL {line}")
    lines += [f"WARN {line}" for line in missing]
    summary = f"{counted(len(results), 'case')}, {len(results) - len(failed)} passed, {len(failed)} failed"
    if covered:
        summary += f"; {covered[0]} of {covered[1]} rules covered"
    return "\n".join([*map(printable, lines), summary if results else "no test case was found"])


def replay(result: Replay, kind: str) -> str:
    """Return what would change for recorded calls."""
    if kind == "json":
        return json.dumps(asdict(result), indent=2)
    lines = [
        f"{change.operation} {json.dumps(change.key)} (namespace {change.namespace or '?'}, line {change.line}): "
        f"{change.was} -> {change.verdict.outcome} {change.verdict.says}"
        for change in result.examples
    ]
    lines += [f"  {count} by {rule}" for rule, count in sorted(result.by_rule.items(), key=lambda item: -item[1])]
    lines.append(
        f"{result.now_denied} of {result.calls} calls would now be denied, {result.now_allowed} would now be allowed"
        + (f", {result.now_kept} deletes would now remove nothing" if result.now_kept else "")
        + (f", {result.now_removed} deletes that removed nothing would remove objects" if result.now_removed else "")
        + (f", and {result.undetermined} cannot be decided from the trail" if result.undetermined else "")
        + (f"; {result.unusable} lines could not be used" if result.unusable else "")
    )
    return "\n".join(map(printable, lines))


def _annotation(level: str, line: str) -> str:
    """Return `file:line:column: text` as a workflow command of GitHub."""
    placed = _PLACED.fullmatch(line)
    file, number, column, text = placed.groups() if placed else (line.partition(": ")[0], "", "", line)
    where = f"file={_escaped(file, ':,')}" + (f",line={number},col={column}" if placed else "")
    return printable(f"::{level} {where}::{_escaped(text)}")


def _escaped(text: str, more: str = "") -> str:
    """Escape the characters that end a workflow command, and those in `more`, which end a property of it."""
    return "".join(f"%{ord(c):02X}" if c in "%\r\n" or c in more else c for c in text)


def _junit(results: Sequence[Result], failed: int) -> str:
    from xml.sax.saxutils import escape, quoteattr  # noqa: PLC0415 - needed for this output alone

    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines.append(f'<testsuite name="sealgate policy test" tests="{len(results)}" failures="{failed}">')
    for result in results:
        # XML cannot contain control characters.
        place, name = printable(result.place.rsplit(":", 2)[0]), printable(result.name)
        attributes = f"classname={quoteattr(place)} name={quoteattr(name)}"
        attributes += f' time="{result.seconds:.6f}"'
        if result.faults:
            text = printable("; ".join(result.faults))
            lines.append(
                f"  <testcase {attributes}><failure message={quoteattr(text)}>{escape(text)}</failure></testcase>"
            )
        else:
            lines.append(f"  <testcase {attributes}/>")
    return "\n".join([*lines, "</testsuite>"])

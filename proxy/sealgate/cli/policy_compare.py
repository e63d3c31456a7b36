"""`sealgate policy diff` and `sealgate policy prove`: compare policies over all requests (docs/policy-reference.md)."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sealgate.cli.exit_codes import BAD_USAGE, DONE, NOT_SO
from sealgate.cli.shared_options import add_output_option
from sealgate.documents.validate import printable
from sealgate.policy import claims, load, readable
from sealgate.policy.compare import Comparison, Difference, differences, violations
from sealgate.policy.decision import Decision

DIFF_SUMMARY = "report what a new policy allows, denies or encrypts otherwise than an old one"
PROVE_SUMMARY = "show that a policy never allows certain requests, or find one that it allows"
_HEADINGS = {
    "allowed": "now allowed",
    "denied": "now denied",
    "encryption": "under other encryption settings",
    "claim": "allowed",
}
_KINDS = ("allowed", "denied", "encryption")
"""What two policies may do differently."""
_EXPLAINED = frozenset(
    (
        "op",
        "key",
        "namespace",
        "service-account",
        "workflow",
        "component",
        "plugin",
        "artifact",
        "path",
        "size",
        "total",
    )
) | {"files", "listing", "time"}
"""The options of `sealgate policy explain` with a value. It knows no pod, no node and no unique names."""


def add_diff_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate policy diff` to `parser`."""
    parser.description = (
        "Exit codes: 0 no difference, 1 a difference, 2 it cannot be decided, or a document is not valid."
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="a file or a directory")
    parser.add_argument("new", type=Path, metavar="NEW", help="a file or a directory")
    add_output_option(parser, "text", "json")


def add_prove_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate policy prove` to `parser`."""
    parser.description = (
        "Exit codes: 0 the claim holds, 1 it does not, 2 it cannot be decided, or a document is not valid."
    )
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE|DIR", help="the policies that decide")
    parser.add_argument(
        "--never",
        required=True,
        metavar="CLAIM",
        help="requests that must never be allowed, such as 'op=read keys=pci/** unless namespace=payments'",
    )
    add_output_option(parser, "text", "json")


def diff(options: argparse.Namespace) -> int:
    """Compare two policies, print the differences, and return the exit code."""
    old, new = (load.loaded(load.sources_at(path)) for path in (options.old, options.new))
    result = differences(old, new, int(time.time()))
    counts = ((_HEADINGS[kind], sum(found.kind == kind for found in result.differences)) for kind in _KINDS)
    found = ", ".join(f"{count} {heading}" for heading, count in counts if count)
    nothing = "no difference: the policies allow and deny the same requests, under the same encryption settings"
    return _reported(result, {"old": options.old, "new": options.new}, options.output, found, nothing)


def prove(options: argparse.Namespace) -> int:
    """Search for a request that a claim excludes, print what was found, and return the exit code."""
    policy = load.loaded(load.sources_at(options.policy))
    result = violations(policy, claims.parsed(options.never), int(time.time()))
    found, nothing = "does not hold: the policy allows such requests", "holds: no such request is allowed"
    return _reported(result, {"policy": options.policy}, options.output, found, nothing)


def _reported(result: Comparison, paths: dict[str, Path], output: str, found: str, nothing: str) -> int:
    """Print a result and return the exit code. The last line is `found`, or `nothing` if all is decided."""
    if output == "json":
        print(_json(result, paths))
        return _exit_code(result)
    for difference in result.differences:
        print("\n".join(map(printable, _lines(difference, paths))))
    _print_unclear(result)
    if result.differences:
        print(found)
    elif not result.unclear:
        print(nothing)
    return _exit_code(result)


def _exit_code(result: Comparison) -> int:
    if result.differences:
        return NOT_SO
    return BAD_USAGE if result.unclear else DONE


def _print_unclear(result: Comparison) -> None:
    for kind, reason in result.unclear:
        what = f"whether more requests are {_HEADINGS[kind]}" if kind else "all requests"
        print(printable(f"cannot tell {what}: {reason}"))


def _lines(difference: Difference, paths: dict[str, Path]) -> Iterator[str]:
    facts = _facts(difference)
    heading = _HEADINGS[difference.kind]
    shown = " ".join(f"{name}={_word(value)}" for name, value in facts.items() if name not in {"op", "key"})
    yield f"{heading}: {facts['op']} {json.dumps(facts['key'], ensure_ascii=False)} {shown}".rstrip()
    for name, decision in zip(paths, difference.decisions, strict=False):
        yield f"  {name}: {_verdict(decision)}"
    for path in paths.values():
        yield f"  $ {shlex.join(_explain(facts, path))}"


def _verdict(decision: Decision) -> str:
    verdict = decision.effective
    return f"{verdict.outcome}, {verdict.fact or verdict.code} ({verdict.says})"


def _word(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _facts(difference: Difference) -> dict[str, Any]:
    """Return what is known of the example: the request, the identity and the measures that matter."""
    request, measures = difference.request, difference.measures
    facts: dict[str, Any] = {"op": request.operation, "key": request.key}
    facts |= {name: value for name, value in difference.process.identity.items() if value}
    facts |= {name: getattr(request, name) for name in ("plugin", "artifact", "path") if getattr(request, name)}
    if difference.process.attested:
        facts["attested"] = True
    if request.time is not None:
        facts["time"] = readable.time(request.time)
    facts |= {
        name: value
        for name in ("bytes", "total", "files", "listing", "age")
        if (value := getattr(measures, name)) is not None
    }
    if measures.exists:
        facts["exists"] = True
    if measures.sealed is False:
        facts["plaintext"] = True
    return facts


def _explain(facts: dict[str, Any], path: Path) -> list[str]:
    """Return the command that explains the example."""
    command = ["sealgate", "policy", "explain", "--policy", str(path)]
    if "component" not in facts:
        command.append("--component=")
    for name, value in facts.items():
        option = {"serviceAccount": "service-account", "bytes": "size"}.get(name, name)
        if value is True:
            command.append(f"--{option}")
        elif name == "age":
            command.append(f"--age={value}s")
        elif option in _EXPLAINED:
            command.append(f"--{option}={value}")
    return command


def _json(result: Comparison, paths: dict[str, Path]) -> str:
    rows = [
        {
            "kind": found.kind,
            "example": _facts(found),
            **{
                name: {
                    "decision": decision.effective.outcome,
                    "code": decision.effective.code,
                    "policy": decision.effective.policy,
                    "rule": decision.effective.rule,
                }
                for name, decision in zip(paths, found.decisions, strict=False)
            },
        }
        for found in result.differences
    ]
    unclear = [{"kind": kind, "reason": reason} for kind, reason in result.unclear]
    return json.dumps({"differences": rows, "unclear": unclear}, indent=2, ensure_ascii=False)

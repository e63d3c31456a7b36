"""Writes docs/refusals.md: each refusal as its author reads it. `make refusals` runs it, a test compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.library import rows, without_id
from harness.policy import document, policy

from policies.facts import Measures, Request
from proxy.layers.authors import split
from proxy.layers.ruling import refusal
from proxy.plugin import Artifact, BadRequest, Call, Operation, PolicyInvalid

PAGE = Path(__file__).parents[2] / "docs" / "refusals.md"
HEAD = """# Refusals

What the author of a workflow reads when a policy says no: in the node's message in Argo's user interface, after
`rpc error: code = PermissionDenied desc = `. Each is one line of at most 400 bytes: what was tried, the fact, who says
so, what to do, and a decision id that the log and the audit trail repeat. The code is also in the answer's metadata, as
`sealgate-code`.

This page is written by `make refusals`, from the decisions themselves; a test compares it with them, and another one
with what comes through the socket.

"""
ALLOW = {"effect": "allow"}
FURTHER = [
    (
        "A stored directory holds more files than a grant allows",
        {**ALLOW, "limits": {"maxFiles": 2}},
        "Load",
        {"files": 3},
    ),
    ("A file is too small", {**ALLOW, "limits": {"minBytes": 1}}, "Save", {"bytes": 0, "complete": True}),
    ("A key has too many segments", {**ALLOW, "limits": {"maxDepth": 1}}, "Save", {}),
    ("A key is too long", {**ALLOW, "limits": {"maxKeyBytes": 4}}, "Save", {}),
    (
        "An object is too young to be deleted, and the rule denies instead of skipping",
        {"effect": "require", "require": {"minAge": "30d"}},
        "Delete",
        {"age": 86_400},
    ),
    (
        "Nothing tells whether an object would be replaced",
        {"effect": "require", "require": {"overwrite": "deny"}},
        "Save",
        {},
    ),
]


def page() -> str:
    return HEAD + "".join(f"**{title}**\n\n    {text}\n\n" for title, text in refusals()).rstrip("\n") + "\n"


def refusals() -> Iterator[tuple[str, str]]:
    for row in rows():
        if text := row.refusal():
            yield f"{row.policy}: {row.name.partition(' ')[2]}", text
    for title, rule, operation, measures in FURTHER:
        yield title, _text(policy(document([rule])), operation, **measures)
    no_key = policy(document([ALLOW], encryption=[{"match": {"keys": ["sealed/**"]}}]))
    yield "No encryption rule covers the key", _text(no_key, "Save")
    mixed = policy(document([ALLOW], encryption=[{"match": {"keys": ["team-a/x/secret/**"]}, "key": "one"}, {}]))
    yield "A file of a directory has an encryption rule of its own", _apart(mixed)
    yield "A listing is too long, and there is no policy", _text(policy(), "ListObjects", listing=10_001)
    yield "An author asks for a key that is not listed", _chosen()
    fault = PolicyInvalid(
        "/etc/sealgate/policies/payments.yaml:9:15: Invalid enum value 'alow'; did you mean `allow`?",
        says="policy",
        remedy="Mend it; `sealgate policy check` shows every fault",
    )
    yield "The policies do not load", without_id(fault.line(Call(Operation.LOAD), "team-a/x"))


def _text(made, operation: str, **measures) -> str:
    verdict = made.decide(Request(operation, "team-a/x"), Measures(**measures)).effective
    return without_id(refusal(verdict).line(Call(Operation(operation)), "team-a/x"))


def _apart(made) -> str:
    request, whole = Request("Save", "team-a/x"), made.encryption(Request("Save", "team-a/x"))
    key = "team-a/x/secret/y"
    verdict = replace(made.match(replace(request, key=key)), whole=whole).judge().effective
    return without_id(refusal(verdict, key).line(Call(Operation.SAVE), request.key))


def _chosen() -> str:
    try:
        split(Artifact("team-a/x", configuration="sealgate: {key: other}"))
    except BadRequest as error:
        return without_id(error.line(Call(Operation.SAVE), "team-a/x"))
    raise AssertionError


if __name__ == "__main__":
    PAGE.write_text(page())

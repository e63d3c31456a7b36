"""Claims about policies, such as `op=read keys=pci/** unless namespace=payments`.

A claim names requests that must never be allowed. It becomes a document with deny rules, so its fields and patterns
mean what they mean in a policy: one rule `never` for the requests, and one `unless-N` for each exception.
"""

from __future__ import annotations

import json

from sealgate.documents.reader import Unreadable, read
from sealgate.documents.validate import did_you_mean
from sealgate.policy.load import DocumentSource, Invalid, PolicySet, loaded
from sealgate.policy.schema import API_VERSION

_SOURCE = "--never"
_FIELDS = {
    "op": ("operations",),
    "keys": ("keys",),
    "exceptKeys": ("exceptKeys",),
    "localPaths": ("localPaths",),
    "artifactNames": ("artifactNames",),
    "plugins": ("plugins",),
    "namespace": ("identity", "namespaces"),
    "serviceAccount": ("identity", "serviceAccounts"),
    "workflow": ("identity", "workflows"),
    "component": ("identity", "components"),
}
"""The fields of a claim, each with its place in the `match` of a rule."""


def parsed(text: str) -> PolicySet:
    """Return the document of a claim.

    Args:
        text: words `FIELD=VALUE`, with several values separated by commas, and before each exception the word `unless`.

    Raises:
        Invalid: the claim has another form, or a value is not valid.
    """
    clauses: list[list[str]] = [[]]
    for word in text.split():
        if word == "unless":
            clauses.append([])
        else:
            clauses[-1].append(word)
    if not all(clauses):
        raise Invalid(
            [f"{_SOURCE}: expected FIELD=VALUE at the begin, and after each `unless`, such as op=read keys=pci/**"]
        )
    names = ["never", *(f"unless-{number}" for number in range(1, len(clauses)))]
    rules = [
        {"name": name, "effect": "deny", "match": _match(clause)} for name, clause in zip(names, clauses, strict=True)
    ]
    document = {
        "apiVersion": API_VERSION,
        "kind": "ArtifactPolicy",
        "metadata": {"name": "claim"},
        "spec": {"rules": rules},
    }
    try:
        return loaded([DocumentSource(_SOURCE, read(json.dumps(document)))])
    except Unreadable as fault:
        raise Invalid([f"{_SOURCE}: {fault.fact}"]) from None
    except Invalid as invalid:
        # The place is one in the document, not in the claim.
        raise Invalid([f"{_SOURCE}: {fault.split(': ', 1)[1]}" for fault in invalid.faults]) from None


def _match(words: list[str]) -> dict[str, object]:
    match: dict[str, object] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if name not in _FIELDS or not equals:
            known = ", ".join(_FIELDS)
            raise Invalid(
                [f"{_SOURCE}: expected FIELD=VALUE, got {word!r}{did_you_mean(name, list(_FIELDS))}; fields: {known}"]
            )
        *outer, last = _FIELDS[name]
        place = match
        for part in outer:
            place = place.setdefault(part, {})  # type: ignore[assignment]  # a part of a match is a mapping again
        if last in place:
            raise Invalid([f"{_SOURCE}: {name} is given twice: separate values by commas"])
        place[last] = values.split(",")
    return match

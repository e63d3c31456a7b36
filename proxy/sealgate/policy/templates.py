"""Variables in policies: `${identity.NAME}` from the process, `${params.NAME}` from the document.

A value must be one plain segment, also in its normal form, so that it cannot change the meaning of a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sealgate.documents.validate import did_you_mean
from sealgate.policy.canonical_keys import has_escape, normal_form

IDENTITY = ("namespace", "serviceAccount", "workflow", "workflowUid", "pod", "podUid", "node", "component")
"""The fields of the identity of a process, by the names that policies use."""
_VARIABLE = re.compile(r"\$\{([^{}]*)\}?")
_NOT_IN_A_WORD = re.compile(r"[/*?\\]")


class NotKnown(Exception):
    """A variable has no value, or a value that is not one plain segment. The text names it."""


def faults_of(text: str, params: Mapping[str, str]) -> Iterator[str]:
    """Yield every fault of the variables in `text` that does not depend on the process."""
    for found in _VARIABLE.finditer(text):
        source, _, name = found[1].partition(".")
        if not found[0].endswith("}"):
            yield f"`{found[0][:40]}` is not closed: write ${{identity.NAME}} or ${{params.NAME}}"
        elif source == "identity" and name in IDENTITY:
            continue
        elif source != "params" or name not in params:
            known = [*(f"identity.{known}" for known in IDENTITY), *(f"params.{known}" for known in params)]
            instead = did_you_mean(found[1], known) or "; known variables: " + ", ".join(known)
            yield f"`{found[0][:60]}` is not a variable{instead}"


def uses_identity(text: str) -> bool:
    """Return whether `text` depends on the identity of the process."""
    return "${identity." in text


def any_identity(pattern: str) -> str:
    """Return `pattern` with a `*` for each variable of the identity: it matches for every process."""
    return _VARIABLE.sub(lambda found: "*" if found[1].startswith("identity.") else found[0], pattern)


def filled(text: str, identity: Mapping[str, str], params: Mapping[str, str]) -> str:
    """Return `text` with each variable replaced by its value.

    Raises:
        NotKnown: a variable has no value, or a value that is not one plain segment.
    """
    return _VARIABLE.sub(lambda found: _value(found[1], identity, params), text) if "${" in text else text


def _value(variable: str, identity: Mapping[str, str], params: Mapping[str, str]) -> str:
    source, _, name = variable.partition(".")
    value = (identity if source == "identity" else params).get(name, "")
    if not value:
        raise NotKnown(f"{variable} is not known")
    if fault := word_fault(value):
        raise NotKnown(f"{variable} {fault}")
    return value


def word_fault(value: str) -> str:
    """Say why `value` is not one plain segment; empty if it is."""
    plain = normal_form(value)
    if plain in {"", ".", ".."} or _NOT_IN_A_WORD.search(plain) or has_escape(plain) or not value.isprintable():
        return "is not a plain word: it must not contain / * ? or \\, also not encoded"
    return ""

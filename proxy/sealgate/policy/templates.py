"""`${identity.namespace}`, `${params.tier}`: the words that a policy leaves to the process and the document.

A value that could change what a pattern means is refused: it must be one plain segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sealgate.documents.validate import meant

IDENTITY = ("namespace", "serviceAccount", "workflow", "workflowUid", "pod", "podUid", "node", "component")
"""What is known of a process, by the names that policies use."""
_VARIABLE = re.compile(r"\$\{([^{}]*)\}?")
_NOT_IN_A_WORD = re.compile(r"[/*?\\]")


class NotKnown(Exception):
    """A variable has no value here, or one that is no plain segment. It says which."""


def faults_of(text: str, params: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the variables of `text`, whatever the process."""
    for found in _VARIABLE.finditer(text):
        source, _, name = found[1].partition(".")
        if not found[0].endswith("}"):
            yield f"`{found[0][:40]}` has no end: write ${{identity.NAME}} or ${{params.NAME}}"
        elif source == "identity" and name in IDENTITY:
            continue
        elif source != "params" or name not in params:
            known = [*(f"identity.{known}" for known in IDENTITY), *(f"params.{known}" for known in params)]
            instead = meant(found[1], known) or "; there are " + ", ".join(known)
            yield f"`{found[0][:60]}` is no variable{instead}"


def uses_identity(text: str) -> bool:
    """Whether the text depends on whose process it is."""
    return "${identity." in text


def filled(text: str, identity: Mapping[str, str], params: Mapping[str, str]) -> str:
    """The text with each variable's value in its place.

    Raises:
        NotKnown: there is none, or it is no plain segment.
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
    """Why a value is no plain segment, or the empty string."""
    if _NOT_IN_A_WORD.search(value) or value in {".", ".."} or not value.isprintable():
        return "is no plain word: it may hold no / * ? or \\"
    return ""

"""What an artifact's author wrote and a store can repeat in an answer: in which form, and where an answer has it."""

from __future__ import annotations

import binascii
import re
import sys
from base64 import b64decode
from dataclasses import asdict
from urllib.parse import quote, unquote

from sealgate.plugin import Artifact
from sealgate.policy.canonical_keys import normal_form

WORD = re.compile(r"[^\W_]+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|x([0-9a-f]{2})|U([0-9a-f]{8})|(\r\n|[\s\S]))", re.IGNORECASE)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_MOST_DECODINGS = 8
"""How often a value may be encoded."""
_SPELLS_WORDS = ("\\", "%", "!")
"""Characters of a configuration with which its decoded form can have other words than the text."""
_PATH_ENDS = frozenset(" \t\r\n<>\"'`()[]{}=,;|:")
"""Characters that end a path or an address in an answer, in addition to the text's own start."""


class AuthorWords:
    """The words that an artifact's author wrote.

    Args:
        artifact: with the configuration for the downstream.
        common: words of answers that mean that nothing is stored. One of them alone, as a segment of a key or as a
            name, is no repetition: a key such as `why/not/x` is common.
    """

    def __init__(self, artifact: Artifact, common: frozenset[str]) -> None:
        fields = {name: value for name, value in asdict(artifact).items() if isinstance(value, str)}
        configuration = fields.pop("configuration")
        decoded = _decoded(configuration)
        self.is_known = decoded is not None
        """Whether every word is known. It is not if the configuration has escapes, and is neither YAML nor JSON."""
        values, names = decoded or (set(), set())
        written = {form for value in (*fields.values(), *values, *names) for form in _forms(value)} | {configuration}
        self.words = frozenset(word for value in written for word in WORD.findall(value.casefold()))
        self.spelled = frozenset(
            "".join(WORD.findall(part)) for value in written for part in (value.casefold(), _ascii(value.casefold()))
        )
        """Each text without what is between its words, also as a store repeats it that drops foreign letters."""
        parts = {part for value in (*fields.values(), normal_form(artifact.key)) for part in (value, *value.split("/"))}
        parts = {part for part in parts | names if part.casefold() not in common}
        repeated = {artifact.key, *values, *parts}
        self._repeated = {_one_line(form) for value in repeated for form in _forms(value)}

    def remaining(self, fact: str) -> list[str]:
        """Return `fact` in pieces: without each repetition of an author's text, and of a path that leads to it."""
        fact = _one_line(fact)
        folded = fact.casefold()
        present = [value for value in self._repeated if WORD.search(value) and value.casefold() in folded]
        if not present:
            return [fact]
        pattern = "|".join(map(_bounded, sorted(present, key=len, reverse=True)))
        pieces, at = [], 0
        for repeated in re.finditer(pattern, fact, re.IGNORECASE):
            start = repeated.start()
            if fact[start - 1 : start] == "/":
                while start > at and fact[start - 1] not in _PATH_ENDS:
                    start -= 1
            pieces.append(fact[at : max(at, start)])
            at = repeated.end()
        return [*pieces, fact[at:]]


def _bounded(value: str) -> str:
    """Return a pattern of `value`. One word counts as a whole word alone."""
    pattern = re.escape(value)
    return pattern if len(WORD.findall(value)) > 1 else rf"(?<![^\W_]){pattern}(?![^\W_])"


def _forms(value: str) -> set[str]:
    """Return `value` as a store may repeat it: as it is, decoded, encoded, or without foreign letters."""
    forms = {value}
    decoded = value
    for _ in range(_MOST_DECODINGS):
        decoded = _ESCAPE.sub(_unescaped, unquote(decoded))
        if decoded in forms:
            break
        forms.add(decoded)
    encoded = {quote(value, safe, errors="replace") for safe in ("/", "")}
    return forms | encoded | {normal_form(value), _ascii(value)}


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if not code:
        return "" if found[4].isspace() else _CONTROLS.get(found[4], found[4])
    return chr(number) if (number := int(code, 16)) <= sys.maxunicode else ""


def _decoded(configuration: str) -> tuple[set[str], set[str]] | None:
    """Return the values in `configuration`, and the names of its fields; None if an escape there is not understood."""
    from yaml import ScalarEvent  # noqa: PLC0415 - few answers need it

    from sealgate.documents import nodes, reader  # noqa: PLC0415 - few answers need them

    values: set[str] = set()
    names: set[str] = set()
    try:
        listed = nodes.nodes_in(configuration) if len(configuration) <= reader.LONGEST_OF_AUTHORS else None
        for event, is_name in ((node.event, node.is_name) for node in listed or ()):
            if isinstance(event, ScalarEvent):
                (names if is_name else values).add(event.value)
                if (event.tag or "").endswith("binary"):
                    values.add(b64decode(event.value).decode(errors="replace"))
    except (reader.Unreadable, binascii.Error):
        listed = None
    if listed is None:
        return None if any(character in configuration for character in _SPELLS_WORDS) else ({configuration}, set())
    return values, names


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _ascii(text: str) -> str:
    return "".join(c for c in text if c.isascii())

"""YAML from outside: read only if it is plain, so that no text can cost more than its length.

A library that follows anchors and merge keys can be kept busy for hours by three hundred bytes, and its C
parser recurses into nesting until the process dies. So the events, which come one after the other, are
looked at first.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

LONGEST = 1 << 16
"""In characters."""
_DEEPEST = 32
_LIBRARY_FAULTS = (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What the library raises for values that it cannot make, such as a date that does not exist."""


class NotPlain(Exception):
    """The text is not YAML, or uses more of it than mappings, lists and plain values. It says which."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the events of a document tell without building it."""

    names: frozenset[str]
    """The names at the top, if the document is a mapping."""
    flaw: str
    """Why it is not plain; empty if it is."""


def survey(text: str) -> Survey:
    """Look through a document of at most `LONGEST` characters.

    Raises:
        NotPlain: it is longer, or no YAML.
    """
    if len(text) > LONGEST:
        raise NotPlain(f"it is longer than {LONGEST} characters")
    look = _Look()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            look.at(event)
    except _LIBRARY_FAULTS:
        raise NotPlain("it is not YAML") from None
    return Survey(frozenset(look.names), look.flaw)


class _Look:
    """Goes along with the events of one document."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.flaw = ""
        self._depth = 0
        self._is_mapping = False
        self._is_name = False

    def at(self, event: yaml.Event) -> None:
        """One more event."""
        if isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        if not isinstance(event, yaml.NodeEvent):
            return
        if event.anchor or isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            self.flaw = self.flaw or "it uses anchors, aliases or tags"
        if self._depth == 1 and self._is_mapping:
            self._is_name = not self._is_name
            if self._is_name and isinstance(event, yaml.ScalarEvent):
                self.names.add(event.value)
        if isinstance(event, yaml.CollectionStartEvent):
            self._is_mapping = self._is_mapping or (self._depth == 0 and isinstance(event, yaml.MappingStartEvent))
            self._depth += 1
            if self._depth > _DEEPEST:
                self.flaw = self.flaw or f"it is nested deeper than {_DEEPEST} levels"


def load(text: str) -> object:
    """The value of a plain document.

    Raises:
        NotPlain: it is not plain.
    """
    found = survey(text)
    if found.flaw:
        raise NotPlain(found.flaw)
    try:
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except _LIBRARY_FAULTS:
        raise NotPlain("it holds a value that cannot be read") from None

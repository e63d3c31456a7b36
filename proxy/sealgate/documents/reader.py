"""The strict reader of untrusted YAML and JSON. It keeps line and column of every value.

A YAML library that resolves anchors and merge keys can be kept busy for hours by a text of 300 bytes, and its C
composer recurses until the process crashes. This reader builds the value from the parser's events in one pass, so the
work is linear in the length of the text.

It rejects anchors, aliases, tags, merge keys and repeated field names. It also rejects words that versions of YAML read
differently (`no`, `010`, `1:30`, `2026-11-22`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

LONGEST, LONGEST_OF_AUTHORS = 1 << 20, 1 << 16
"""Characters: of a file by the administrator, and of a text by the author of a workflow."""
DEEPEST = 64
"""Levels of nesting."""
_MOST_DIGITS = 18
_NULL, _TRUE, _FALSE = {"", "~", "null", "Null", "NULL"}, {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_AMBIGUOUS = re.compile(
    r"(?:yes|no|on|off)|=|<<|[-+]?\.(?:inf|nan)"
    r"|[-+]?0[0-9_]+|[-+]?0[xob][0-9a-f_]+|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
    r"|[-+]?[0-9][0-9]*_[0-9_]*(?:\.[0-9_]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?",
    re.ASCII | re.IGNORECASE,
)
_LIBRARY_FAULTS = (yaml.YAMLError, UnicodeError)


class Unreadable(Exception):
    """A text is not a plain document. `line` and `column` count from 1, and are 0 if the fault has no place."""

    def __init__(self, fact: str, line: int = 0, column: int = 0, word: str = "") -> None:
        self.fact = fact.replace("{word}", f"`{word[:40]}`")
        self.bare = fact.replace("{word}", "…")
        """The fact without any word of the text, which may be secret."""
        super().__init__(self.bare)
        self.line = line
        self.column = column

    def at(self, source: str) -> str:
        """Return `source:line:column: fact`, the form that editors and CI parse."""
        return f"{source}:{self.line}:{self.column}: {self.fact}" if self.line else f"{source}: {self.fact}"


@dataclass(slots=True)
class SourcePosition:
    """The position of a value, and the positions of the values in it."""

    line: int
    column: int
    names: dict[str, tuple[int, int, SourcePosition]] = field(default_factory=dict)
    """For a mapping: line and column of each name, and the position of its value."""
    items: list[SourcePosition] = field(default_factory=list)
    """For a list: the position of each item."""


@dataclass(frozen=True, slots=True)
class Document:
    """The value of a text, with the positions of all values in it."""

    value: Any
    place: SourcePosition
    empty: bool = False
    """The text has nothing but comments and white space."""

    def find(self, path: Sequence[str]) -> tuple[int, int, int]:
        """Locate the value at `path`, a sequence of names and list indexes.

        Returns:
            The number of elements of `path` that exist in the document, and line and column of the last of them.
        """
        place, line, column = self.place, self.place.line, self.place.column
        for depth, name in enumerate(path):
            if name in place.names:
                line, column, place = place.names[name]
            elif name.isdigit() and int(name) < len(place.items):
                place = place.items[int(name)]
                line, column = place.line, place.column
            else:
                return depth, line, column
        return len(path), line, column

    def part(self, *path: str) -> Document:
        """Return the document at `path`, which must exist."""
        value, place = self.value, self.place
        for name in path:
            value = value[name] if isinstance(value, dict) else value[int(name)]
            place = place.names[name][2] if place.names else place.items[int(name)]
        return Document(value, place)


def read(text: str, longest: int = LONGEST) -> Document:
    """Read `text` as one document.

    Raises:
        Unreadable: `text` has more than `longest` characters, is nested deeper than `DEEPEST`, or is not plain.
    """
    if len(text) > longest:
        raise Unreadable(f"the document has more than {longest} characters")
    builder = _Builder()
    for event in _events(text):
        builder.add(event)
    if builder.root is None:
        return Document(None, SourcePosition(1, 1), empty=True)
    return Document(*builder.root)


def names_at_the_top(text: str) -> frozenset[str]:
    """Return the field names of the mapping in `text`, even if it is not plain; an empty set for any other value.

    Raises:
        Unreadable: `text` has more than `LONGEST_OF_AUTHORS` characters, or is not YAML.
    """
    if len(text) > LONGEST_OF_AUTHORS:
        raise Unreadable(f"the document has more than {LONGEST_OF_AUTHORS} characters")
    names, depth, is_mapping, is_name = set(), 0, False, False
    for event in _events(text):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.NodeEvent):
            if depth == 1 and is_mapping:
                is_name = not is_name
                if is_name and isinstance(event, yaml.ScalarEvent):
                    names.add(event.value)
            if isinstance(event, yaml.CollectionStartEvent):
                is_mapping = is_mapping or (depth == 0 and isinstance(event, yaml.MappingStartEvent))
                depth += 1
    return frozenset(names)


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise Unreadable(error.problem or "not YAML", line, column) from None
    except _LIBRARY_FAULTS:
        raise Unreadable("the document is neither YAML nor JSON") from None


@dataclass(slots=True)
class _Container:
    """A mapping or a list that is being built."""

    value: Any
    place: SourcePosition
    name: tuple[str, int, int] | None = None
    """For a mapping: the name, line and column of the field whose value comes next."""


class _Builder:
    """Builds a value from the events of the parser."""

    def __init__(self) -> None:
        self.root: tuple[Any, SourcePosition] | None = None
        self._open: list[_Container] = []

    def add(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            _require_plain(event)
            if len(self._open) == DEEPEST:
                raise _fault("the document is nested too deeply", event)
            if self._expects_name():
                raise _fault("the name of a field must be text", event)
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._open.append(_Container(value, _place(event)))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            self._put(done.value, done.place)
        elif isinstance(event, yaml.AliasEvent):
            raise _fault("YAML aliases are not supported", event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise _fault("only one document is supported", event)

    def _expects_name(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].name is None

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        _require_plain(event)
        if not self._expects_name():
            self._put(_value(event), _place(event))
            return
        container = self._open[-1]
        place = _place(event)
        if event.implicit[0] and event.value == "<<":
            raise _fault("YAML merge keys are not supported", event)
        if event.value in container.value:
            raise _fault("the field {word} appears twice", event)
        container.name = event.value, place.line, place.column

    def _put(self, value: Any, place: SourcePosition) -> None:
        if not self._open:
            self.root = value, place
            return
        container = self._open[-1]
        if container.name is None:
            container.value.append(value)
            container.place.items.append(place)
            return
        name, line, column = container.name
        container.value[name] = value
        container.place.names[name] = line, column, place
        container.name = None


def _require_plain(event: Any) -> None:
    if event.anchor:
        raise _fault("YAML anchors are not supported", event)
    if event.tag:
        raise _fault("YAML tags are not supported", event)


def _value(event: yaml.ScalarEvent) -> Any:
    """Return the value of a scalar in the core schema of YAML 1.2, which includes JSON."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _AMBIGUOUS.fullmatch(text):
        raise _fault("YAML readers disagree about {word}: write it in quotes", event)
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-")) > _MOST_DIGITS:
            raise _fault("the number is too large", event)
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _place(event: Any) -> SourcePosition:
    return SourcePosition(event.start_mark.line + 1, event.start_mark.column + 1)


def _fault(fact: str, event: Any) -> Unreadable:
    return Unreadable(fact, event.start_mark.line + 1, event.start_mark.column + 1, getattr(event, "value", ""))

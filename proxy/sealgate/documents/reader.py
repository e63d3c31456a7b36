"""The strict reader of untrusted YAML and JSON. It keeps line and column of every value.

A YAML library that resolves anchors and merge keys can be kept busy for hours by a text of 300 bytes, and its C
composer recurses until the process crashes. This reader builds the value from the parser's events in one pass, so the
work is linear in the length of the text.

It rejects anchors, aliases, tags, merge keys and repeated field names. It also rejects words that versions of YAML read
differently (`no`, `010`, `1:30`, `2026-11-22`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from sealgate.documents import json_events

LONGEST, LONGEST_OF_AUTHORS = 1 << 20, 1 << 16
"""Characters: of a file by the administrator, and of a text by the author of a workflow."""
DEEPEST = 64
"""Levels of nesting."""
BYTE_ORDER_MARK = "\ufeff"
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
_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
"""Words of YAML 1.1, each with the word of YAML 1.2 that means the same."""
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
    for event in events_of(text):
        builder.add(event)
    if builder.root is None:
        return Document(None, SourcePosition(1, 1), empty=True)
    return Document(*builder.root)


def value_of(events: Iterable[yaml.Event]) -> Any:
    """Return the value of one node of a document, which must be plain.

    Raises:
        Unreadable: it is not plain, or is nested deeper than `DEEPEST`.
    """
    builder = _Builder()
    for event in events:
        builder.add(event)
    return builder.root[0] if builder.root else None


def events_of(text: str) -> Iterator[yaml.Event]:
    """Yield the events of the parser for `text`, which is JSON or else YAML. Its marks do not count a byte order mark.

    Raises:
        Unreadable: `text` is neither JSON nor YAML. The error is that of the format which `text` follows longer.
    """
    text = text.removeprefix(BYTE_ORDER_MARK)
    not_json: json_events.NotJson | None = None
    if json_events.may_be_json(text):
        not_json = _json_fault(text)
        if not_json is None:
            yield from _json_events(text)
            return
    try:
        yield from _yaml_events(text)
    except Unreadable as not_yaml:
        if not_json and not_json.reached >= (not_yaml.line, not_yaml.column):
            raise Unreadable(not_json.fact, not_json.line, not_json.column) from None
        raise


def _json_fault(text: str) -> json_events.NotJson | None:
    """Return why `text` is not JSON; None if it is."""
    if json_events.is_json(text):
        return None
    try:
        for _ in json_events.events(text):
            pass
    except json_events.NotJson as fault:
        return fault
    return None


def _json_events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from json_events.events(text)
    except json_events.NotJson as fault:
        raise Unreadable(fault.fact, fault.line, fault.column) from None


def _yaml_events(text: str) -> Iterator[yaml.Event]:
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
                raise fault_at("the document is nested too deeply", event)
            if self._expects_name():
                raise fault_at("the name of a field must be text", event)
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._open.append(_Container(value, _place(event)))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            self._put(done.value, done.place)
        elif isinstance(event, yaml.AliasEvent):
            raise fault_at("YAML aliases are not supported", event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise fault_at("only one document is supported", event)

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
            raise fault_at("YAML merge keys are not supported", event)
        if event.value in container.value:
            raise fault_at("the field {word} appears twice", event)
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
        raise fault_at("YAML anchors are not supported", event)
    if event.tag:
        raise fault_at("YAML tags are not supported", event)


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
        meant = _BOOLEANS.get(text.lower())
        instead = f"write {meant}, or put it in quotes if it is text" if meant else "write it in quotes"
        raise fault_at(f"YAML readers disagree about {{word}}: {instead}", event)
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-")) > _MOST_DIGITS:
            raise fault_at("the number is too large", event)
        return int(text)
    if not _NUMBER.fullmatch(text):
        return text
    if math.isinf(number := float(text)):
        raise fault_at("the number is too large", event)
    return number


def _place(event: Any) -> SourcePosition:
    return SourcePosition(event.start_mark.line + 1, event.start_mark.column + 1)


def fault_at(fact: str, event: Any) -> Unreadable:
    """Return the error for `fact` at the place of `event`; `{word}` in it stands for the scalar of the event."""
    return Unreadable(fact, event.start_mark.line + 1, event.start_mark.column + 1, getattr(event, "value", ""))

"""YAML and JSON from outside: the one reader, strict, in one pass, with a line and a column for every value.

A library that follows anchors and merge keys can be kept busy for hours by three hundred bytes, and its C
composer recurses into nesting until the process dies. So the value is built from the parser's events, which come
one after the other: no text costs more than its length, and nothing means two things. Anchors, aliases, tags,
merge keys and names given twice are refused, and so are words that one version of YAML takes for text and another
for something else (`no`, `010`, `1:30`, `2026-11-22`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

LONGEST, LONGEST_OF_AUTHORS = 1 << 20, 1 << 16
"""In characters: of a file of the administrator's, and of what a workflow's author may write."""
DEEPEST = 64
_MOST_DIGITS = 18
_NULL, _TRUE, _FALSE = {"", "~", "null", "Null", "NULL"}, {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_DISPUTED = re.compile(
    r"(?:yes|no|on|off)|=|<<|[-+]?\.(?:inf|nan)"
    r"|[-+]?0[0-9_]+|[-+]?0[xob][0-9a-f_]+|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
    r"|[-+]?[0-9][0-9]*_[0-9_]*(?:\.[0-9_]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?",
    re.ASCII | re.IGNORECASE,
)
_LIBRARY_FAULTS = (yaml.YAMLError, UnicodeError)


class Unreadable(Exception):
    """A text that is no plain document. `line` and `column` count from 1; 0 where the fault has no place."""

    def __init__(self, fact: str, line: int = 0, column: int = 0, word: str = "") -> None:
        self.fact = fact.replace("{word}", f"`{word[:40]}`")
        self.bare = fact.replace("{word}", "…")
        """The same without a word of the text, which may hold secrets."""
        super().__init__(self.bare)
        self.line = line
        self.column = column

    def at(self, source: str) -> str:
        """`file:line:column: fact`, as editors and CI read it."""
        return f"{source}:{self.line}:{self.column}: {self.fact}" if self.line else f"{source}: {self.fact}"


@dataclass(slots=True)
class SourcePosition:
    """Where a value was written, and where what is in it was."""

    line: int
    column: int
    names: dict[str, tuple[int, int, SourcePosition]] = field(default_factory=dict)
    """Of a mapping: the place of each name, and of its value."""
    items: list[SourcePosition] = field(default_factory=list)
    """Of a list."""


@dataclass(frozen=True, slots=True)
class Document:
    """The plain value of a text, and its places."""

    value: Any
    place: SourcePosition
    empty: bool = False
    """Nothing was written but comments."""

    def find(self, path: Sequence[str]) -> tuple[int, int, int]:
        """How far `path` leads, and line and column of the last name on it that was written."""
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
        """What was written at `path`, which exists."""
        value, place = self.value, self.place
        for name in path:
            value = value[name] if isinstance(value, dict) else value[int(name)]
            place = place.names[name][2] if place.names else place.items[int(name)]
        return Document(value, place)


def read(text: str, longest: int = LONGEST) -> Document:
    """The document that `text` is.

    Raises:
        Unreadable: it is longer than `longest` characters, nested deeper than `DEEPEST`, or not plain.
    """
    if len(text) > longest:
        raise Unreadable(f"the document has more than {longest} characters")
    builder = _Builder()
    for event in _events(text):
        builder.at(event)
    if builder.root is None:
        return Document(None, SourcePosition(1, 1), empty=True)
    return Document(*builder.root)


def names_at_the_top(text: str) -> frozenset[str]:
    """The names of the mapping that `text` is, plain or not; none if it is something else.

    Raises:
        Unreadable: it is longer than `LONGEST_OF_AUTHORS`, or not YAML at all.
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
class _Open:
    """A mapping or a list whose end has not come yet."""

    value: Any
    place: SourcePosition
    name: tuple[str, int, int] | None = None
    """Of a mapping: the name whose value is next."""


class _Builder:
    """Makes the value from the events."""

    def __init__(self) -> None:
        self.root: tuple[Any, SourcePosition] | None = None
        self._open: list[_Open] = []

    def at(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            _require_plain(event)
            if len(self._open) == DEEPEST:
                raise _fault("the document is nested too deeply", event)
            if self._expects_name():
                raise _fault("the name of a field must be text", event)
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._open.append(_Open(value, _place(event)))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            self._put(done.value, done.place)
        elif isinstance(event, yaml.AliasEvent):
            raise _fault("the document uses an alias, which is not plain", event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise _fault("there is another document, and a file holds one", event)

    def _expects_name(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].name is None

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        _require_plain(event)
        if not self._expects_name():
            self._put(_value(event), _place(event))
            return
        inside = self._open[-1]
        place = _place(event)
        if event.implicit[0] and event.value == "<<":
            raise _fault("the document uses a merge key, which is not plain", event)
        if event.value in inside.value:
            raise _fault("the field {word} is given twice", event)
        inside.name = event.value, place.line, place.column

    def _put(self, value: Any, place: SourcePosition) -> None:
        if not self._open:
            self.root = value, place
            return
        inside = self._open[-1]
        if inside.name is None:
            inside.value.append(value)
            inside.place.items.append(place)
            return
        name, line, column = inside.name
        inside.value[name] = value
        inside.place.names[name] = line, column, place
        inside.name = None


def _require_plain(event: Any) -> None:
    if event.anchor:
        raise _fault("the document uses an anchor, which is not plain", event)
    if event.tag:
        raise _fault("the document uses a tag, which is not plain", event)


def _value(event: yaml.ScalarEvent) -> Any:
    """What a scalar means, in the core schema that YAML 1.2 and JSON share."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _DISPUTED.fullmatch(text):
        raise _fault("{word} means different things to different readers: write it in quotes", event)
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-")) > _MOST_DIGITS:
            raise _fault("the number is too large", event)
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _place(event: Any) -> SourcePosition:
    return SourcePosition(event.start_mark.line + 1, event.start_mark.column + 1)


def _fault(fact: str, event: Any) -> Unreadable:
    return Unreadable(fact, event.start_mark.line + 1, event.start_mark.column + 1, getattr(event, "value", ""))

"""The strict JSON parser (RFC 8259). It yields the events that the YAML library's parser yields, with their places.

JSON needs a parser of its own, because YAML parsers refuse some JSON: escapes of surrogate pairs, the character DEL,
and names of more than 1,024 characters. It keeps no recursion, and its work is linear in the length of the text.
Names that a mapping repeats are the builder's business (`sealgate.documents.reader`).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator

import yaml

_SPACE = re.compile(r"[ \t\r\n]*+")
_WHITE = frozenset(" \t\r\n")
_BREAK = re.compile(r"\r\n?|\n")
_STRING_BEGINS = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+')
"""A string up to its end, or up to what cannot be in a string."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?(?![0-9A-Za-z.+-])")
_WORD = re.compile(r"(?:true|false|null)(?![0-9A-Za-z_])")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_BEGINS = frozenset('{["')


class NotJson(Exception):
    """A text is not JSON.

    Args:
        fact: what is wrong.
        place: where it is wrong.
        reached: up to where the text is JSON; `place` by default.
    """

    def __init__(self, fact: str, place: yaml.Mark, reached: yaml.Mark | None = None) -> None:
        super().__init__(fact)
        self.fact = fact
        self.line = place.line + 1
        self.column = place.column + 1
        end = reached or place
        self.reached = (end.line + 1, end.column + 1)
        """Line and column, which count from 1 like those of the fault."""


def may_be_json(text: str) -> bool:
    """Return whether `text` begins as an object, a list or a string of JSON does."""
    return text[_SPACE.match(text).end() :][:1] in _BEGINS  # type: ignore[union-attr]  # it matches every text


def is_json(text: str) -> bool:
    """Return whether the standard library, which is quick, reads `text` as JSON. It cannot if `text` is nested deeply.

    It accepts half of a surrogate pair, which `events` refuses.
    """
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(word: str) -> None:
    """Refuse `NaN` and `Infinity`, which the standard library accepts."""
    raise ValueError(word)


def events(text: str) -> Iterator[yaml.Event]:
    """Yield the events of the one JSON value in `text`: starts and ends of mappings and lists, names and scalars.

    Raises:
        NotJson: `text` is not one JSON value, or a string in it has half a surrogate pair.
    """
    return _JsonParser(text).events()


class _JsonParser:
    """Reads one text from the beginning to the end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines = [0, *(found.end() for found in _BREAK.finditer(text))]

    def events(self) -> Iterator[yaml.Event]:
        yield yaml.DocumentStartEvent(self._mark(0), self._mark(0))
        closers: list[str] = []
        may_end = False  # a collection has just begun, so it may end before a first value
        while True:
            if may_end and self._peek() == closers[-1]:
                yield self._end(closers.pop())
            else:
                if closers and closers[-1] == "}":
                    yield self._string("the name of a field in double quotes")
                    self._take(":")
                if self._peek() in {"{", "["}:
                    yield self._start(closers)
                    may_end = True
                    continue
                yield self._scalar()
            may_end = False
            while closers and self._peek() == closers[-1]:
                yield self._end(closers.pop())
            if not closers:
                break
            self._take(",", f"`,` or `{closers[-1]}`")
        if self._peek():
            raise self._fault("text after the end of the document")

    def _peek(self) -> str:
        """Skip white space, and return the next character; empty at the end of the text."""
        char = self._text[self._at : self._at + 1]
        if char not in _WHITE:
            return char
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches everywhere
        return self._text[self._at : self._at + 1]

    def _take(self, char: str, expected: str = "") -> None:
        if self._peek() != char:
            raise self._fault(f"expected {expected or f'`{char}`'}")
        self._at += 1

    def _start(self, closers: list[str]) -> yaml.Event:
        kind, closer = (yaml.MappingStartEvent, "}") if self._text[self._at] == "{" else (yaml.SequenceStartEvent, "]")
        closers.append(closer)
        return kind(None, None, True, *self._advance(self._at + 1), flow_style=True)

    def _end(self, closer: str) -> yaml.Event:
        kind = yaml.MappingEndEvent if closer == "}" else yaml.SequenceEndEvent
        return kind(*self._advance(self._at + 1))

    def _scalar(self) -> yaml.Event:
        if self._peek() == '"':
            return self._string("a value")
        found = _NUMBER.match(self._text, self._at) or _WORD.match(self._text, self._at)
        if not found:
            raise self._fault("expected a value")
        return yaml.ScalarEvent(None, None, (True, False), found[0], *self._advance(found.end()))

    def _string(self, expected: str) -> yaml.Event:
        if self._peek() != '"':
            raise self._fault(f"expected {expected}")
        end = _STRING_BEGINS.match(self._text, self._at).end()  # type: ignore[union-attr]  # it begins with a quote
        if self._text[end : end + 1] != '"':
            self._at = end
            raise self._fault("the string does not end, or contains a control character or an unknown escape")
        written = self._text[self._at : end + 1]
        value = json.loads(written) if "\\" in written else written[1:-1]
        if _HALF_PAIR.search(value):
            raise NotJson("the string has half of a surrogate pair", self._mark(self._at), self._mark(end))
        return yaml.ScalarEvent(None, None, (False, True), value, *self._advance(end + 1), style='"')

    def _advance(self, end: int) -> tuple[yaml.Mark, yaml.Mark]:
        """Go on to `end`, and return the marks of both ends of what was read."""
        start, self._at = self._at, end
        return self._mark(start), self._mark(end)

    def _mark(self, index: int) -> yaml.Mark:
        line = bisect_right(self._lines, index) - 1
        return yaml.Mark("", index, line, index - self._lines[line], None, 0)

    def _fault(self, fact: str) -> NotJson:
        return NotJson(fact, self._mark(self._at))

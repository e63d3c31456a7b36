"""The fields of the mapping in a text: reads one, and cuts one out without a change to the rest.

A text that is parsed and written again is another text: `61e9540` becomes a number, comments are lost, JSON becomes
YAML. So a field is cut out at the places that the parser reports. Then the rest is parsed, and it must be the same
mapping without that field.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from sealgate.documents.nodes import (
    Node,
    column_of,
    end_of,
    is_closed,
    names_meaning,
    nodes_in,
    repeated_name,
    signature,
    start_of,
)
from sealgate.documents.reader import BYTE_ORDER_MARK, Unreadable, fault_at, value_of

_BREAK = "(?:\r\n|[\r\n\x85\u2028\u2029])"
"""What YAML 1.1 takes for a line break."""
_COMMENT = "#[^\r\n\x85\u2028\u2029]*+"
_BREAKS = re.compile(_BREAK)
_REST_OF_LINE = re.compile(f"[ \t]*+(?:{_COMMENT})?+{_BREAK}?+")
_COMMENT_LINES = re.compile(f"(?:[ \t]*+(?:{_COMMENT})?+{_BREAK})*+")
_SPACE = re.compile(f"(?:[ \t]|{_BREAK})*+")
_COMMA = re.compile(f"(?:[ \t]|{_BREAK}|{_COMMENT})*+,")
_COLON = re.compile(r"[ \t]*+:?[ \t]*+")
_MERGE = "<<"
_Span = tuple[int, int]
"""The indexes of the first character, and of the one after the last."""


@dataclass(slots=True)
class _Entry:
    """One field of the mapping."""

    name: str | None
    """None if it is not a scalar."""
    start: int
    """The index of the first character of the name."""
    end: int
    """The index after the last character of the value."""
    names: list[yaml.Event] = field(default_factory=list)
    """The events of the name."""
    value: list[yaml.Event] = field(default_factory=list)
    """The events of the value."""

    @property
    def block(self) -> tuple[int, int] | None:
        """For a mapping or a list in block style: the index and the column where it begins. None for other values."""
        first = self.value[0]
        if not isinstance(first, yaml.CollectionStartEvent) or first.flow_style:
            return None
        if not (first.anchor or first.tag):
            return start_of(first), column_of(first)
        # The place of `first` is that of its anchor or tag. The first item is on a later line.
        dash = 0 if isinstance(first, yaml.MappingStartEvent) else len("- ")
        return start_of(self.value[1]) - dash, max(column_of(self.value[1]) - dash, 0)


def mapping_in(text: str) -> Mapping | None:
    """Return the mapping that `text` consists of; None if it is something else.

    Raises:
        Unreadable: `text` is neither JSON nor YAML, or is nested deeply.
    """
    nodes = nodes_in(text)
    is_mapping = any(node.depth == 0 and isinstance(node.event, yaml.MappingStartEvent) for node in nodes)
    return Mapping(text, nodes) if is_mapping else None


class Mapping:
    """The mapping that a text consists of. `mapping_in` makes it."""

    def __init__(self, text: str, nodes: Sequence[Node]) -> None:
        self._text = text.removeprefix(BYTE_ORDER_MARK)
        self._mark = text[: len(text) - len(self._text)]
        self._nodes = nodes
        self._entries = _entries(self._text, nodes)
        self._is_flow = bool(getattr(nodes[0].event, "flow_style", False))
        self._lines = [0, *(found.end() for found in _BREAKS.finditer(self._text))]

    def may_have(self, name: str) -> bool:
        """Return whether a reader may find the field `name` in the mapping, also by an alias or by a merge key."""
        return any(entry.name == name for entry in self._entries) or self._is_referred_to(name)

    def value(self, name: str) -> Any:
        """Return the value of the field `name`, which the mapping may have.

        Raises:
            Unreadable: the field is not plain (`sealgate.documents.reader`) or not written out, a field appears twice
                in some mapping of the text, or the text has more than one document.
        """
        if any(node.depth == 0 for node in self._nodes[1:-1]):
            raise Unreadable("only one document is supported")
        if repeated := repeated_name(self._nodes):
            raise fault_at("the field {word} appears twice", repeated)
        entry = self._entries[self._index(name)]
        value_of(entry.names)
        return value_of(entry.value)

    def without(self, name: str) -> str:
        """Return the text without the field `name`, and unchanged otherwise; `{}` stands for a mapping without fields.

        Raises:
            Unreadable: the rest would not be the same mapping without this field.
        """
        index = self._index(name)
        entry = self._entries[index]
        removed = {id(event) for event in (*entry.names, *entry.value)}
        expected = [signature(node.event) for node in self._nodes if id(node.event) not in removed]
        narrow = self._spans_in_flow(index) if self._is_flow else [self._lines_of(entry)]
        for spans in (narrow, [self._widest(index)]):
            rest = self._cut(spans)
            if _has_nodes(rest, expected):
                return self._mark + rest
        raise fault_at(f"the field {name} cannot be cut out of the text", entry.names[0])

    def own_text(self, name: str) -> str:
        """Return the text of the value of the field `name`, which the mapping may have.

        A scalar is returned without its quotes, and a mapping or a list in block style without its indentation.

        Raises:
            Unreadable: the field is not written out, or its text would have another value alone.
        """
        entry = self._entries[self._index(name)]
        first = entry.value[0]
        if isinstance(first, yaml.ScalarEvent):
            return str(first.value)
        text = self._block_text(entry) if entry.block else self._text[start_of(first) : entry.end]
        expected = [signature(event) for event in entry.value]
        # An anchor that is left on the line of the name has no effect if nothing in the value refers to it.
        bare = [signature(first, anchored=False), *expected[1:]]
        if is_closed(entry.value) and _has_nodes(text, expected):
            return text
        if is_closed(entry.value[1:]) and _has_nodes(text, bare):
            return text
        raise fault_at(f"the value of the field {name} cannot be cut out of the text", entry.names[0])

    def _index(self, name: str) -> int:
        if self._is_referred_to(name):
            raise Unreadable("YAML aliases and merge keys are not supported")
        return next(index for index, entry in enumerate(self._entries) if entry.name == name)

    def _is_referred_to(self, name: str) -> bool:
        """Return whether an alias stands for `name`, or a mapping with such a field may be merged into this one."""
        merges = any(entry.name == _MERGE for entry in self._entries)
        return any(
            isinstance(node.event, yaml.AliasEvent) if node.depth == 1 else merges
            for node in names_meaning(name, self._nodes)
        )

    # --- places in the text -------------------------------------------------------------------------------

    def _lines_of(self, entry: _Entry) -> _Span:
        """Return the whole lines of a field in block style."""
        start = self._line_start(entry.start)
        is_indented = not self._text[start : entry.start].strip(" \t?")
        return (start if is_indented else entry.start), self._end_of_lines(entry)

    def _end_of_lines(self, entry: _Entry) -> int:
        """Return the end of the last line of a field in block style, with comments that are indented like its value."""
        end = entry.end
        if self._line_start(end) != end:  # a block scalar ends where the next line begins
            end = _past(_REST_OF_LINE, self._text, end)
        column = entry.block[1] if entry.block else 0
        if column <= column_of(entry.names[0]):
            return end
        return _past(
            re.compile(f"(?:(?:[ \t]*+{_BREAK})*+ {{{column},}}{_COMMENT}(?:{_BREAK}|\\Z))*+"), self._text, end
        )

    def _spans_in_flow(self, index: int) -> list[_Span]:
        """Return the spans of a field in flow style: the field, a comma, and white space beside them."""
        text, entry = self._text, self._entries[index]
        start = self._start_in_flow(entry)
        if comma := _COMMA.match(text, entry.end):
            if text[entry.end : comma.end() - 1].strip():  # a comment, which stays
                return [(start, entry.end), (comma.end() - 1, comma.end())]
            return [(start, _past(_SPACE, text, comma.end()))]
        before = _COMMA.match(text, self._entries[index - 1].end) if index else None
        if before and not text[before.end() : start].strip():
            return [(before.end() - 1, entry.end)]
        if len(self._entries) == 1:
            return [(len(text[:start].rstrip()), _past(_SPACE, text, entry.end))]
        return [(start, entry.end)]

    def _start_in_flow(self, entry: _Entry) -> int:
        head = self._text[: entry.start].rstrip(" \t")
        return len(head) - 1 if head.endswith("?") else entry.start

    def _widest(self, index: int) -> _Span:
        """Return the span from the end of the field before to the next one, with everything in between."""
        entry = self._entries[index]
        after = self._entries[index + 1] if index + 1 < len(self._entries) else None
        end = start_of(self._nodes[-1].event)
        if self._is_flow:
            if after:
                return self._start_in_flow(entry), self._start_in_flow(after)
            return (self._entries[index - 1].end if index else self._start_in_flow(entry)), end
        return self._lines_of(entry)[0], (self._lines_of(after)[0] if after else end)

    def _cut(self, spans: Sequence[_Span]) -> str:
        pieces, at = [], 0
        for start, end in spans:
            pieces.append(self._text[at:start])
            at = end
        if len(self._entries) == 1 and not self._is_flow:
            pieces += ["{}", *(found[0] for found in _BREAKS.finditer(self._text, 0, at) if found.end() == at)]
        return "".join([*pieces, self._text[at:]])

    def _block_text(self, entry: _Entry) -> str:
        """Return a value in block style without its indentation, with the comments before and after it."""
        begin, column = entry.block or (entry.end, 0)
        start = self._line_start(begin)
        indentation = ""
        if self._text[start:begin].strip(" "):
            start, indentation = begin, " " * column
        else:
            name_end = end_of(entry.names[-1])
            after_name = next((line for line in self._lines if line > name_end), start)
            if _COMMENT_LINES.fullmatch(self._text, after_name, start):
                start = after_name
        lines = (indentation + self._text[start : self._end_of_lines(entry)]).splitlines(keepends=True)
        return "".join(line[min(column, len(line) - len(line.lstrip(" "))) :] for line in lines)

    def _line_start(self, index: int) -> int:
        return self._lines[bisect_right(self._lines, index) - 1]


def _entries(text: str, nodes: Iterable[Node]) -> list[_Entry]:
    """Return the fields of the mapping at the top of `text`."""
    entries: list[_Entry] = []
    is_mapping = False
    for node in nodes:
        if node.depth == 0:
            is_mapping = isinstance(node.event, yaml.MappingStartEvent)
        if not is_mapping or node.depth == 0:
            continue
        if node.depth == 1 and node.is_name and not isinstance(node.event, yaml.CollectionEndEvent):
            start = start_of(node.event)
            entries.append(_Entry(getattr(node.event, "value", None), start, start))
        entry = entries[-1]
        is_value = bool(entry.value) or (node.depth == 1 and not node.is_name)
        (entry.value if is_value else entry.names).append(node.event)
        is_empty = node.end == start_of(node.event) and isinstance(node.event, yaml.ScalarEvent)
        # An empty value may have a place on a later line, that of the next field.
        if not is_empty or _COLON.fullmatch(text, entry.end, node.end):
            entry.end = max(entry.end, node.end)
    return entries


def _past(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return the index after what `pattern` matches at `at`; `at` if it does not match there."""
    found = pattern.match(text, at)
    return found.end() if found else at


def _has_nodes(text: str, expected: Sequence[tuple[object, ...]]) -> bool:
    """Return whether `text` consists of the nodes with the signatures `expected`."""
    try:
        return [signature(node.event) for node in nodes_in(text)] == expected
    except Unreadable:
        return False

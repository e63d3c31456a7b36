"""The events of a text with their places in its structure, for readers that must not change the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import yaml

from sealgate.documents.reader import DEEPEST, events_of, fault_at


@dataclass(slots=True)
class Node:
    """A scalar, an alias, or the start or the end of a mapping or a list."""

    event: yaml.Event
    depth: int
    """The number of mappings and lists around it."""
    is_name: bool
    """Whether it is the name of a field, or starts or ends one."""
    is_block_end: bool = False
    """It ends a mapping or a list in block style, and so has no character of its own in the text."""

    @property
    def end(self) -> int:
        """The index after its last character; 0 if it has none."""
        if isinstance(self.event, yaml.CollectionStartEvent):
            return start_of(self.event)
        return 0 if self.is_block_end else end_of(self.event)

    def is_scalar(self, value: str) -> bool:
        """Return whether it is the scalar `value`."""
        return isinstance(self.event, yaml.ScalarEvent) and self.event.value == value


def start_of(event: yaml.Event) -> int:
    """Return the index of the first character of `event`."""
    return int(event.start_mark.index)  # type: ignore[union-attr]  # the parser sets the marks of every event


def end_of(event: yaml.Event) -> int:
    """Return the index after the last character of `event`."""
    return int(event.end_mark.index)  # type: ignore[union-attr]  # the parser sets the marks of every event


def column_of(event: yaml.Event) -> int:
    """Return the column of the first character of `event`, which counts from 0."""
    return int(event.start_mark.column)  # type: ignore[union-attr]  # the parser sets the marks of every event


def nodes_in(text: str) -> list[Node]:
    """Return the nodes of `text` in their order.

    Raises:
        Unreadable: `text` is neither JSON nor YAML, or is nested deeper than `DEEPEST`.
    """
    return list(_nodes(events_of(text)))


def _nodes(events: Iterable[yaml.Event]) -> Iterator[Node]:
    around: list[tuple[Node, bool]] = []
    expects_name: list[bool] = []
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            start, is_flow = around.pop()
            expects_name.pop()
            yield Node(event, start.depth, start.is_name, is_block_end=not is_flow)
        elif isinstance(event, yaml.NodeEvent):
            is_name = bool(around) and expects_name[-1]
            node = Node(event, len(around), is_name)
            if around and isinstance(around[-1][0].event, yaml.MappingStartEvent):
                expects_name[-1] = not is_name
            yield node
            if isinstance(event, yaml.CollectionStartEvent):
                if len(around) == DEEPEST:
                    raise fault_at("the document is nested too deeply", event)
                around.append((node, bool(event.flow_style)))
                expects_name.append(isinstance(event, yaml.MappingStartEvent))


def signature(event: yaml.Event, *, anchored: bool = True) -> tuple[object, ...]:
    """Return what `event` means, without its place and its style, and without its anchor unless `anchored`."""
    anchor = getattr(event, "anchor", None) if anchored else None
    return type(event), anchor, *(getattr(event, name, None) for name in ("value", "tag", "implicit"))


def repeated_name(nodes: Iterable[Node]) -> yaml.Event | None:
    """Return a name that its mapping has twice; None if there is none."""
    names: list[set[str]] = []
    for node in nodes:
        if node.is_name and isinstance(node.event, yaml.ScalarEvent):
            if node.event.value in names[-1]:
                return node.event
            names[-1].add(node.event.value)
        if isinstance(node.event, yaml.CollectionStartEvent):
            names.append(set())
        elif isinstance(node.event, yaml.CollectionEndEvent):
            names.pop()
    return None


def names_meaning(value: str, nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield each name of a field that is the scalar `value`, or an alias of it."""
    anchored: dict[str, bool] = {}
    for node in nodes:
        anchor = getattr(node.event, "anchor", None)
        if isinstance(node.event, yaml.AliasEvent):
            means = anchored.get(anchor or "", False)
        else:
            means = node.is_scalar(value)
            if anchor:
                anchored[anchor] = means
        if means and node.is_name:
            yield node


def is_closed(events: Iterable[yaml.Event]) -> bool:
    """Return whether each alias in `events` refers to an anchor that is defined before it in `events`."""
    anchors = set()
    for event in events:
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if anchor not in anchors:
                return False
        elif anchor:
            anchors.add(anchor)
    return True

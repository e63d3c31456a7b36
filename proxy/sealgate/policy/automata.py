"""Finds, for lists of patterns, one shortest text for each set of patterns that a text can match together.

Patterns have no regular expressions, so a finite automaton decides which texts they match. A walk through its states
finds every class of texts that no pattern tells apart. A grammar says which texts are possible at all: artifact keys,
or names in Kubernetes. Characters that no pattern names are the same to all patterns, so one of them stands for all.
"""

from __future__ import annotations

import string
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sealgate.policy import canonical_keys
from sealgate.policy.globs import Automaton

MOST_STATES = 30_000
"""States of one walk. Some dozens of patterns such as `**/NAME/**` have more, and no answer in a sensible time."""
_NAME_LETTERS = "x" + "".join(c for c in string.ascii_lowercase + string.digits if c != "x")
_HEX = frozenset(string.hexdigits)
_FRESH = "xyzwvqkjhgnmpstrlio" + "XYZWVQKJHGNMPSTRLIO" + "".join(map(chr, range(0x3B1, 0x3C9)))
"""Characters that can stand for all that no pattern names. None is a part of an escape."""
_MARKS = ("/", ".", ";", " ", "%")
_HEX_OF_ESCAPE = 2
_HEX_OF_LONG_ESCAPE = 4


_SOFT_HYPHEN, _ZERO_WIDTH_SPACE = "\u00ad", "\u200b"
"""Characters of two and three bytes that are displayed as nothing."""


class TooManyStates(Exception):
    """The patterns combine in more ways than a walk visits."""


class Grammar(Protocol):
    """Which texts are possible. A state is a text or a tuple that says what may follow."""

    @property
    def start(self) -> tuple[str, int]:
        """The state before the first character."""

    def step(self, state: tuple[str, int], c: str) -> tuple[str, int] | None:
        """Return the state after `c`; None if `c` cannot follow."""

    def ends(self, state: tuple[str, int]) -> bool:
        """Return whether a text can end in `state`."""

    def others(self, named: frozenset[str]) -> str:
        """Return the characters that stand for all that are not in `named`, or are wanted whatever is named."""


@dataclass(frozen=True, slots=True)
class KeyGrammar:
    """Artifact keys that are canonical, and so also paths and names. `deepest` is the most slashes that are counted."""

    deepest: int = 0
    letters: frozenset[str] = frozenset()
    """All characters that patterns name."""
    start: tuple[str, int] = ("", 0)

    def step(self, state: tuple[str, int], c: str) -> tuple[str, int] | None:
        """Return the state after `c`: the begin of the segment, or its end, as far as it decides what may follow."""
        text, depth = state
        if c == "/":
            return ("", min(depth + 1, self.deepest)) if _segment_may_end(text) else None
        if (c == " " and not text) or (c == ";" and text in {".", ".."}):
            return None
        if c == "." and text in {"", "."}:
            return text + c, depth
        if c in {" ", "%"}:
            return c, depth
        if text.startswith("%"):
            return (escape, depth) if (escape := _escape_after(text, c)) else None
        return "x", depth

    def ends(self, state: tuple[str, int]) -> bool:
        """Return whether a key can end in `state`."""
        return _segment_may_end(state[0])

    def others(self, named: frozenset[str]) -> str:  # noqa: ARG002 - one fresh character stands for all others
        """Return a slash, which every key may have, and one character that no pattern names."""
        return next(c for c in _FRESH if c not in self.letters) + "/"


def _segment_may_end(text: str) -> bool:
    return text not in {"", ".", "..", " "}


def _escape_after(text: str, c: str) -> str:
    """Return the begin of an escape after `text` and `c`, `x` if it is none, or an empty text if it is complete."""
    if text == "%" and c in "uU":
        return "%u"
    length = _HEX_OF_LONG_ESCAPE + len("%u") if text.startswith("%u") else _HEX_OF_ESCAPE + len("%")
    if c not in _HEX:
        return "x"
    longer = text + "0"
    return "" if len(longer) == length else longer


@dataclass(frozen=True, slots=True)
class NameGrammar:
    """Names in Kubernetes: lower-case letters and digits, and between them `-` and `.`."""

    start: tuple[str, int] = ("", 0)

    def step(self, state: tuple[str, int], c: str) -> tuple[str, int] | None:
        """Return the state after `c`: the last character, as far as it decides what may follow."""
        if c in {"-", "."}:
            allowed = state[0] == "x" or (state[0] == "-" and c == "-")
            return (c, 0) if allowed else None
        if c not in _NAME_LETTERS:
            return None
        return "x", 0

    def ends(self, state: tuple[str, int]) -> bool:
        """Return whether a name can end in `state`."""
        return state[0] == "x"

    def others(self, named: frozenset[str]) -> str:
        """Return one letter or digit that is not in `named`; empty if there is none."""
        return next((c for c in _NAME_LETTERS if c not in named), "")


@dataclass(frozen=True, slots=True)
class Track:
    """An automaton that reads a text with a beginning before it and one of several endings after it."""

    automaton: Automaton
    before: str = ""
    afters: Sequence[str] = ("",)

    def start(self) -> int:
        """Return the state after the beginning."""
        return self._after(self.automaton.start, self.before)

    def accepted(self, state: int) -> tuple[int, ...]:
        """Return, for each of the endings, the bits of the patterns that match the text with it."""
        return tuple(self.automaton.accepted(self._after(state, after)) for after in self.afters)

    def _after(self, state: int, text: str) -> int:
        for c in text:
            state = self.automaton.step(state, c)
        return state


Accepted = tuple[tuple[int, ...], ...]
"""For each track, and each of its endings, the bits of the patterns that match."""


def classes(
    tracks: Sequence[Track], grammar: Grammar, label: Callable[[Accepted, int], object] = lambda *facts: facts
) -> Iterator[str]:
    """Yield one shortest text for each class of texts.

    Args:
        tracks: the patterns, and where they stand.
        grammar: the texts that are possible.
        label: the class of a text, by the patterns that match it and by the slashes that `grammar` counted.

    Raises:
        TooManyStates: there are more states than `MOST_STATES`.
    """
    start = (tuple(track.start() for track in tracks), grammar.start)
    came: dict[object, tuple[object, str]] = {start: (None, "")}
    found = set()
    queue = deque([start])
    while queue:
        state = queue.popleft()
        bits, place = state
        if grammar.ends(place):
            kind = label(tuple(track.accepted(bit) for track, bit in zip(tracks, bits, strict=True)), place[1])
            if kind not in found:
                found.add(kind)
                yield _text(came, state)
        named = frozenset(
            c
            for track, bit in zip(tracks, bits, strict=True)
            for c, expecting in track.automaton.letters.items()
            if bit & expecting
        )
        others = grammar.others(named)
        for c in (*others, *sorted(named.difference(others))):
            if (further := grammar.step(place, c)) is None:
                continue
            following = (tuple(t.automaton.step(bit, c) for t, bit in zip(tracks, bits, strict=True)), further)
            if following not in came:
                came[following] = (state, c)
                queue.append(following)
        if len(came) > MOST_STATES:
            raise TooManyStates


def _text(came: Mapping[object, tuple[object, str]], state: object) -> str:
    text = ""
    while state is not None:
        state, c = came[state]
        text = c + text
    return text


def key_grammar(automaton: Automaton, deepest: int = 0) -> KeyGrammar:
    """Return the grammar of the keys that `automaton` reads. Letters that no key has are left out of both."""
    for c in [c for c in automaton.letters if c not in _MARKS and canonical_keys.fault_of(f"x{c}x")]:
        del automaton.letters[c]
    return KeyGrammar(deepest, frozenset(automaton.letters))


def of_size(key: str, size: int, automaton: Automaton, grammar: KeyGrammar) -> str:
    """Return a key of at least `size` bytes of the class of `key`, which is shorter: of that size, or one byte longer.

    Where a pattern matches any number of characters, the key gets more of them. Elsewhere it gets characters that are
    displayed as nothing and that no pattern sees.
    """
    missing = size - len(key.encode())
    fresh = grammar.others(frozenset()).strip("/")
    state, place = automaton.start, grammar.start
    for at, c in enumerate(key, start=1):
        following = grammar.step(place, c)
        if following is None:
            break
        state, place = automaton.step(state, c), following
        if place[0] == "x" and automaton.step(state, fresh) == state:
            return key[:at] + fresh * missing + key[at:]
    if missing == 1:
        # Other spellings of the same two characters have a byte more.
        for plain, longer in ((" ", "\u00a0"), (";", "\u037e")):
            if plain in key:
                return key.replace(plain, longer, 1)
        return key + _SOFT_HYPHEN
    odd = missing % 2
    return key + _SOFT_HYPHEN * (missing // 2 - odd) + _ZERO_WIDTH_SPACE * odd

"""Segment globs: `*` and `?` match inside a segment; `**` is a segment of its own and matches any number of segments.

`a/**` also matches `a`, so that a rule about a directory covers an object of the same name. Patterns have no escapes,
and a `*` in a key is an ordinary character. A match takes at most one step per character of the key, whatever the
pattern: the matcher simulates a nondeterministic automaton, whose set of states is the bits of one integer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

LONGEST_PATTERN = 1024
"""Characters."""
_ONE, _RUN, _ANY, _ANY_RUN = "?", "*run", "**", "**run"
Matcher = Callable[[str], bool]


def fault_of(pattern: str) -> str:
    """Say in a few words why `pattern` is not valid; empty if it is."""
    if len(pattern) > LONGEST_PATTERN:
        return f"the pattern has {len(pattern)} characters; the limit is {LONGEST_PATTERN}"
    for segment in pattern.removeprefix("/").split("/"):
        if not segment:
            return "the pattern has an empty segment"
        if segment in {".", ".."}:
            return "the pattern has a relative segment, which no key can have"
        if "**" in segment and segment != "**":
            return "** must be a whole segment of the pattern"
    if "\\" in pattern or not pattern.isprintable():
        return "the pattern has a backslash or an invisible character, which no key can have"
    return ""


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Matcher:
    """Compile `pattern`, which must be valid, to a function that takes a key, or a path without its first slash."""
    pattern = pattern.removeprefix("/")
    if pattern == "**":
        return lambda _: True
    if "*" not in pattern and "?" not in pattern:
        return lambda key: key == pattern
    base, beneath = pattern.removesuffix("/**"), pattern.removesuffix("**")
    if base != pattern and "*" not in base and "?" not in base:
        return lambda key: key.startswith(beneath) or key == base
    head, tail, within = _literals(pattern)
    automaton = _Automaton(pattern)

    def matches(key: str) -> bool:
        # These comparisons are cheap and reject nearly every key that does not match.
        if not (key.startswith(head) and key.endswith(tail)):
            return False
        at = len(head)
        for piece in within:
            found = key.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return automaton.accepts(key)

    return matches


def _literals(pattern: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the text that every match begins with, the text it ends with, and the texts in between, in order."""
    head, *others = pattern.replace("**", "*").replace("?", "*").split("*")
    # Where `**` matches no segment, the slash beside it is missing as well.
    safe = [piece.strip("/") for piece in others]
    return head.rstrip("/"), others[-1].lstrip("/"), tuple(piece for piece in safe if piece)


class _Automaton:
    """The automaton of a pattern. Bit `n` of a state is set if the characters so far match the first `n` tokens."""

    def __init__(self, pattern: str) -> None:
        tokens = _tokens(pattern)
        self._accept = 1 << len(tokens)
        singles = "".join(part if len(part) == 1 else " " for part in tokens)
        anything = sum(1 << n for n, part in enumerate(tokens) if part == _ONE)
        self._other = anything
        self._advance = {
            c: anything * (c != "/") | sum(1 << n for n, part in enumerate(tokens) if part == c)
            for c in {*singles} - {"?"} | {"/"}
        }
        self._advance["/"] |= sum(1 << n for n, part in enumerate(tokens) if part == _ANY)
        inside = sum(1 << n for n, part in enumerate(tokens) if part == _RUN)
        self._everywhere = sum(1 << n for n, part in enumerate(tokens) if part == _ANY_RUN)
        self._stay = inside | self._everywhere
        self._skip_two = sum(1 << n for n, part in enumerate(tokens) if part == _ANY)
        self._start = self._closed(1)

    def accepts(self, key: str) -> bool:
        """Return whether the whole of `key` matches."""
        state, skip_one, skip_two = self._step(self._start, "/"), self._stay, self._skip_two
        advance, other, everywhere = self._advance.get, self._other, self._everywhere
        for c in key:
            stay = everywhere if c == "/" else skip_one
            state = (state & advance(c, other)) << 1 | state & stay
            state |= (state & skip_one) << 1
            state |= (state & skip_two) << 2
            if not state:
                return False
        return bool(state & self._accept)

    def _step(self, state: int, c: str) -> int:
        stay = self._everywhere if c == "/" else self._stay
        return self._closed((state & self._advance.get(c, self._other)) << 1 | state & stay)

    def _closed(self, state: int) -> int:
        state |= (state & self._stay) << 1
        return state | (state & self._skip_two) << 2


def _tokens(pattern: str) -> list[str]:
    """Split `pattern` into tokens: a character, `?`, or `*run` for a `*`.

    A `**` becomes two tokens: `**`, which can be skipped, and `**run`, which can repeat. Every segment has a slash
    before it, and so has the key while it is matched.
    """
    tokens: list[str] = []
    previous = ""
    for segment in pattern.split("/"):
        if segment != "**":
            tokens.append("/")
            tokens += [_RUN if c == "*" else c for c in segment]
        elif previous != "**":
            tokens += [_ANY, _ANY_RUN]
        previous = segment
    return tokens

"""Segment globs: `*` and `?` match inside a segment; `**` is a segment of its own and matches any number of segments.

`a/**` also matches `a`, so that a rule about a directory covers an object of the same name. A `*` in a key is an
ordinary character, and so are `%2A` and `%3F` in a pattern. Patterns are compared in the normal form of keys
(`sealgate.policy.canonical_keys`). A match takes at most one step per character of the key, whatever the pattern: the
matcher simulates a nondeterministic automaton, whose set of states is the bits of one integer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import methodcaller

from sealgate.policy.canonical_keys import has_escape, is_forbidden, normal_form

LONGEST_PATTERN = 1024
"""Characters."""
_ONE, _RUN, _ANY, _ANY_RUN, _END = "?one", "*run", "**", "**run", "end"
_WILDCARDS = {"*": _RUN, "?": _ONE}
_STAND_INS = {"*": "\ufdd0", "?": "\ufdd1"}
"""Noncharacters, which are in no key and in no pattern."""
_HIDE = str.maketrans(_STAND_INS)
_SWAP = str.maketrans({**_STAND_INS, **{stand_in: c for c, stand_in in _STAND_INS.items()}})
_SHOW = str.maketrans({stand_in: c for c, stand_in in _STAND_INS.items()})
_ANYWHERE = re.compile(r"\*\*/([^*?]+?)(/\*\*)?")
_ENDING = re.compile(r"([^*?]+/)?(\*\*/)?\*([^*?/]*)")
Matcher = Callable[[str], bool]


def fault_of(pattern: str) -> str:
    """Say in a few words why `pattern` is not valid; empty if it is."""
    if len(pattern) > LONGEST_PATTERN:
        return f"the pattern has {len(pattern)} characters; the limit is {LONGEST_PATTERN}"
    plain = normal_form(pattern)
    if any(map(is_forbidden, pattern + plain)):
        return "the pattern has a control, private or unassigned character, which no key can have"
    if "\\" in plain or has_escape(plain):
        return "the pattern has a backslash, or an encoded separator or dot, which no key can have"
    return _segment_fault(_normal_pattern(pattern))


def _segment_fault(pattern: str) -> str:
    for segment in pattern.split("/"):
        if not segment:
            return "the pattern has an empty segment"
        if segment in {".", ".."}:
            return "the pattern has a relative segment, which no key can have"
        if "**" in segment and segment != "**":
            return "** must be a whole segment of the pattern"
    return ""


def first_segment(pattern: str) -> str:
    """Return the first segment of every key that `pattern` matches; empty if it can be any."""
    first = _normal_pattern(pattern).partition("/")[0]
    return "" if "*" in first or "?" in first else first.translate(_SHOW)


def _normal_pattern(pattern: str) -> str:
    """Return `pattern` in normal form, with stand-ins for each `*` and `?` that is encoded and so is no wildcard.

    The slash at the begin of a local path is left out. One that only the normal form begins with stays, and its empty
    first segment matches no key.
    """
    return normal_form(pattern.removeprefix("/").translate(_HIDE)).translate(_SWAP)


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Matcher:
    """Compile `pattern`, which must be valid, to a function.

    The function takes a key, or a path without its first slash, in normal form.
    """
    pattern = _normal_pattern(pattern)
    if pattern == "**":
        return lambda _: True
    if "*" not in pattern and "?" not in pattern:
        literal = pattern.translate(_SHOW)
        return lambda key: key == literal
    base, beneath = (pattern.removesuffix(end).translate(_SHOW) for end in ("/**", "**"))
    if pattern.endswith("/**") and not {"*", "?"} & {*pattern.removesuffix("/**")}:
        return lambda key: key.startswith(beneath) or key == base
    if common := _common_form(pattern):
        return common
    head, tail, within = _literals(pattern)
    automaton = Automaton(_tokens(pattern))

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


def _common_form(pattern: str) -> Matcher | None:
    """Return a matcher that needs no automaton for the commonest patterns in normal form; None for any other.

    These are `**/NAME` and `**/NAME/**`, and `*END` and `**/*END` by themselves or beneath a path.
    """
    if found := _ANYWHERE.fullmatch(pattern):
        name = found[1].translate(_SHOW)
        inside, ending = f"/{name}/", f"/{name}"
        return (lambda key: inside in f"/{key}/") if found[2] else (lambda key: key == name or key.endswith(ending))
    if found := _ENDING.fullmatch(pattern):
        path, deep, ending = (found[1] or "").translate(_SHOW), found[2], found[3].translate(_SHOW)
        if deep:
            # The ending has no slash, so it is in the last segment, and the path does not reach into that.
            ends = methodcaller("endswith", ending)
            return (lambda key: key.startswith(path) and key.endswith(ending)) if path else ends
        return lambda key: key.startswith(path) and key.endswith(ending) and "/" not in key[len(path) :]
    return None


def matches_beneath(pattern: str, prefix: str) -> bool | None:
    """Return whether `pattern` matches every key that begins with `prefix`, or none; None if that depends on the key.

    Args:
        pattern: a valid pattern.
        prefix: in normal form, with a slash at its end.
    """
    pattern = _normal_pattern(pattern)
    if not {"*", "?"} & {*pattern}:
        return None if pattern.translate(_SHOW).startswith(prefix) else False
    head = _literals(pattern)[0]
    if not (head.startswith(prefix) or prefix.startswith(head)):
        return False
    is_subtree = pattern == "**" or not {"*", "?"} & {*pattern.removesuffix("/**")}
    return True if is_subtree and prefix.startswith(pattern.removesuffix("**").translate(_SHOW)) else None


def _literals(pattern: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the text that every match begins with, the text it ends with, and the texts in between, in order."""
    pieces = pattern.replace("**", "*").replace("?", "*").split("*")
    head, *others = (piece.translate(_SHOW) for piece in pieces)
    # Where `**` matches no segment, the slash beside it is missing as well.
    safe = [piece.strip("/") for piece in others]
    return head.rstrip("/"), others[-1].lstrip("/"), tuple(piece for piece in safe if piece)


class Automaton:
    """The automaton of one or several patterns, each a list of tokens.

    Bit `n` of a state is set if the characters so far match the tokens before token `n`, from the begin of its pattern.
    """

    def __init__(self, *patterns: Sequence[str]) -> None:
        tokens: list[str] = []
        begins = 0
        self.accepting: list[int] = []
        """For each pattern, the bit that is set if the whole of it matches."""
        for pattern in patterns:
            begins |= 1 << len(tokens)
            tokens += pattern
            self.accepting.append(1 << len(tokens))
            tokens.append(_END)
        self._accept = sum(self.accepting)
        self._other = sum(1 << n for n, part in enumerate(tokens) if part == _ONE)
        self.letters = {
            c: sum(1 << n for n, part in enumerate(tokens) if part == c) for c in {*tokens, "/"} if len(c) == 1
        }
        """The characters that patterns name, each with the states in which one of them expects it. All others are the
        same to them."""
        self._skip_two = sum(1 << n for n, part in enumerate(tokens) if part == _ANY)
        self._advance = {c: self._other * (c != "/") | expecting for c, expecting in self.letters.items()}
        self._advance["/"] |= self._skip_two
        inside = sum(1 << n for n, part in enumerate(tokens) if part == _RUN)
        self._everywhere = sum(1 << n for n, part in enumerate(tokens) if part == _ANY_RUN)
        self._stay = inside | self._everywhere
        self.start = self.step(self._closed(begins), "/")
        """The state before the first character."""

    def accepts(self, key: str) -> bool:
        """Return whether one pattern matches the whole of `key`."""
        state, skip_one, skip_two = self.start, self._stay, self._skip_two
        advance, other, everywhere = self._advance.get, self._other, self._everywhere
        for c in key:
            stay = everywhere if c == "/" else skip_one
            state = (state & advance(c, other)) << 1 | state & stay
            state |= (state & skip_one) << 1
            state |= (state & skip_two) << 2
            if not state:
                return False
        return bool(state & self._accept)

    def accepted(self, state: int) -> int:
        """Return the bits of the patterns that match if the text ends in `state`."""
        return state & self._accept

    def step(self, state: int, c: str) -> int:
        """Return the state after `state` and the character `c`."""
        stay = self._everywhere if c == "/" else self._stay
        return self._closed((state & self._advance.get(c, self._other)) << 1 | state & stay)

    def _closed(self, state: int) -> int:
        state |= (state & self._stay) << 1
        return state | (state & self._skip_two) << 2


def tokens(pattern: str) -> list[str]:
    """Return the tokens of `pattern`, which must be valid."""
    return _tokens(_normal_pattern(pattern))


def ending_tokens(ending: str) -> list[str]:
    """Return the tokens of a pattern for all keys whose last segment ends in `ending`, a text without wildcards."""
    return [_ANY, _ANY_RUN, "/", _RUN, *normal_form(ending)]


def _tokens(pattern: str) -> list[str]:
    """Split `pattern` into tokens: a character, `?one` for a `?`, or `*run` for a `*`.

    A `**` becomes two tokens: `**`, which can be skipped, and `**run`, which can repeat. Every segment has a slash
    before it, and so has the key while it is matched.
    """
    tokens: list[str] = []
    previous = ""
    for segment in pattern.split("/"):
        if segment != "**":
            tokens.append("/")
            tokens += [_WILDCARDS.get(c) or c.translate(_SHOW) for c in segment]
        elif previous != "**":
            tokens += [_ANY, _ANY_RUN]
        previous = segment
    return tokens

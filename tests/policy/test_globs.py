"""Segment globs, compared with a plain definition, and the number of steps that a match takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealgate.policy import globs

SEGMENTS = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5).map("/".join)
PATTERNS = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "?", "a*", "*b", "a?b", "*a*", "**", "**", "?*"]), min_size=1, max_size=5
).map("/".join)


def matches(pattern: str, key: str) -> bool:
    """The plain definition of a match. It may take exponential time."""
    parts, segments = pattern.split("/"), key.split("/")

    def from_here(part: int, segment: int) -> bool:
        if part == len(parts):
            return segment == len(segments)
        if parts[part] == "**":
            return any(from_here(part + 1, further) for further in range(segment, len(segments) + 1))
        expression = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in parts[part])
        return (
            segment < len(segments)
            and re.fullmatch(expression, segments[segment]) is not None
            and from_here(part + 1, segment + 1)
        )

    return from_here(0, 0)


@settings(max_examples=1000)
@given(PATTERNS, SEGMENTS)
def test_a_pattern_matches_as_defined(pattern, key):
    assert globs.compiled(pattern)(key) == matches(pattern, key)


@settings(max_examples=1000)
@given(PATTERNS, SEGMENTS, SEGMENTS)
def test_a_pattern_that_is_decided_by_a_prefix_matches_every_key_beneath_it_or_none(pattern, prefix, rest):
    decided = globs.matches_beneath(pattern, f"{prefix}/")
    assert decided is None or decided == matches(pattern, f"{prefix}/{rest}")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("**", True), ("a/**", True), ("a/b/**", True), ("b/**", False), ("ab/**", False), ("a/b", False), ("**/x", None)],
)
def test_a_prefix_decides_the_common_patterns(pattern, expected):
    assert globs.matches_beneath(pattern, "a/b/") is expected


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("team-a/**", "team-a/x", True),
        ("team-a/**", "team-a", True),
        ("team-a/**", "team-ab/x", False),
        ("team-a/**", "TEAM-A/x", False),
        ("**/*.pem", "a/b/c.pem", True),
        ("**/*.pem", "c.pem", True),
        ("**/.git/**", "a/.git/config", True),
        ("**/.git/**", "a/.github/config", False),
        ("a/*/c", "a/b/b/c", False),
        ("a/**/c", "a/c", True),
        ("*", "a/b", False),
        ("?", "é", True),
        ("*/x", "*/x", True),
        ("/mainctrfs/data/**", "/mainctrfs/data/x".removeprefix("/"), True),
        ("hour=10%3A00/**", "hour=10:00/x", True),
        ("cafe\u0301/*", "café/x", True),
        ("a\u200bb", "ab", True),
        ("a%2Ab", "a*b", True),
        ("a%2Ab", "axb", False),
        ("a%3F?/*", "a?b/x", True),
        ("a%3F?/*", "abc/x", False),
        ("%2A/**", "*/x", True),
        ("%2A/**", "a/x", False),
        ("\u3164/**", "a/x", False),
    ],
)
def test_patterns_work_by_whole_segments(pattern, key, expected):
    assert globs.compiled(pattern)(key) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a//b",
        "a/",
        "a/../b",
        "./a",
        "a**",
        "**b/c",
        "a\\b",
        "a\u202eb",
        "a%2Fb",
        "a%2E",
        "%5C",
        "x" * 1025,
        "\u200b/**",
    ],
)
def test_a_pattern_that_is_not_valid_has_a_fault(pattern):
    assert globs.fault_of(pattern)


class Counted(str):
    """A key that counts how many of its characters are read."""

    __slots__ = ()
    steps = 0

    def __iter__(self):
        for c in super().__iter__():
            Counted.steps += 1
            yield c


WORST = ["*a" * 255 + "*b", "**/" * 300 + "*a*b*c", "/".join(["*?a"] * 250), "?" * 1000, "**/*a/**/*a/**/*a/**/*b"]


@pytest.mark.parametrize("pattern", WORST)
@pytest.mark.parametrize("key", ["a" * 1024, "/".join("a" * 512), "/".join(["aa"] * 341)])
def test_no_pattern_costs_more_than_a_step_for_each_character(pattern, key):
    Counted.steps = 0
    globs.Automaton(globs.tokens(pattern)).accepts(Counted(key))
    assert Counted.steps <= len(key)

"""Canonical artifact keys: examples, and properties of every accepted key."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealgate.policy.canonical_keys import LONGEST_KEY, fault_of

ACCEPTED = [
    "a",
    "team-a/report.csv",
    "Team-A/REPORT.CSV",
    "a.b/c..d/e...",
    "a/.../b",
    "...",
    ".hidden/.config",
    "..x",
    "a b/c d",
    "key=value/date=2026-11-22/part-0.parquet",
    "user@host:8080/a+b,c",
    "a~b/(c)/[d]/{e}/*?#!$&'|;\"<>^`",
    "100%",
    "50%/done",
    "%zz/%1",
    "é/ü/ñ",
    "Отчёт/за/год",
    "ノート",
    "報告/データ",
    "\U0001f512/\U0001f511",
    "x" * LONGEST_KEY,
    "é" * (LONGEST_KEY // 2),
    "/".join(["a"] * 512),
]

REJECTED = {
    "empty": "",
    "parent": "../a",
    "parent inside": "a/../b",
    "parent at the end": "a/..",
    "parent alone": "..",
    "current": "./a",
    "current inside": "a/./b",
    "current at the end": "a/.",
    "current alone": ".",
    "empty segment": "a//b",
    "slash before": "/a",
    "slash after": "a/",
    "slash alone": "/",
    "two slashes": "//",
    "encoded slash": "a%2fb",
    "encoded slash, upper case": "a%2Fb",
    "encoded dot": "%2e%2e/a",
    "encoded percent": "a%252fb",
    "encoded letter": "%41",
    "encoded the old way": "a/%u002e%U002E/b",
    "backslash": "a\\b",
    "backslash parent": "..\\a",
    "right-to-left override": "a\u202eb",
    "NUL": "a\0b",
    "line feed": "a\nb",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "delete": "a\x7fb",
    "C1 control": "a\x9bb",
    "byte order mark": "\ufeffa",
    "zero width space": "a\u200bb",
    "zero width joiner": "a\u200db",
    "word joiner": "a\u2060b",
    "soft hyphen": "a\u00adb",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "private use": "a\ue000b",
    "unassigned": "a\u0378b",
    "noncharacter": "a\uffffb",
    "tag": "a\U000e0041b",
    "surrogate": "a\ud800b",
    "decomposed": unicodedata.normalize("NFD", "é"),
    "singleton": "\u212b",
    "full-width parent": "\uff0e\uff0e/a",
    "one dot leaders": "\u2024\u2024/a",
    "two dot leader": "a/\u2025",
    "full-width current": "a/\uff0e/b",
    "full-width slash": "a\uff0fb",
    "full-width backslash": "a\uff3cb",
    "small backslash": "a\ufe68b",
    "account of": "a\u2100b",
    "parent with parameter": "..;x/a",
    "parent with empty parameter": "a/..;/b",
    "full-width parent with parameter": "a/\uff0e\uff0e;x/b",
    "current with parameter": "a/.;x/b",
    "current with empty parameter": "a/.;/b",
    "full-width current with parameter": "a/\uff0e\uff1bx/b",
    "fraction slash": "a\u2044b",
    "division slash": "a\u2215b",
    "big solidus": "a\u29f8b",
    "box drawing's slash": "a\u2571b",
    "set minus": "a\u2216b",
    "reverse solidus operator": "a\u29f5b",
    **{
        f"like a separator, U+{ord(c):04X}": f"a{c}b"
        for c in "\u1735\u2041\u29f6\u29f7\u2afb\u2afd\u2cc6\u2e4a\u3033\u31d3\u31d4"
    },
    **{f"like a separator, U+{ord(c):04X}": f"a{c}b" for c in "\U0001d20f\U0001d23a\U0001d23b\U0001f67c\U0001f67d"},
    "encoded slash, full-width percent": "a\uff052fb",
    "encoded slash, full-width digit": "a%\uff12fb",
    "encoded dots, small percent": "a\ufe6a2e\ufe6a2e/b",
    "Hangul filler": "a/\u3164/b",
    "Hangul initial filler": "a/\u115f/b",
    "Hangul medial filler": "a\u1160b",
    "half-width Hangul filler": "a\uffa0b",
    "grapheme joiner": "a\u034fb",
    "variation selector": "a\ufe0f",
    "Mongolian variation selector": "a\u180b",
    "supplementary variation selector": "a\U000e0100",
    "blank Braille": "a\u2800b",
    "no-break space inside": "a\u00a0b",
    "ideographic space inside": "a\u3000b",
    "space before": " a",
    "space after": "a ",
    "space before a segment": "a/ b",
    "space after a segment": "a /b",
    "no-break space after": "a\u00a0",
    "ideographic space before": "\u3000a",
    "1025 bytes": "x" * (LONGEST_KEY + 1),
    "1026 bytes in 513 characters": "é" * 513,
    "1025 bytes in segments": "/".join(["a"] * 513),
    "a megabyte": "x" * (1 << 20),
}


@pytest.mark.parametrize("key", ACCEPTED, ids=lambda key: ascii(key[:20]))
def test_is_canonical(key):
    assert fault_of(key) == ""


@pytest.mark.parametrize("key", REJECTED.values(), ids=REJECTED)
def test_is_not_canonical(key):
    fault = fault_of(key)
    assert fault
    assert fault.isascii()
    assert fault.isprintable()
    assert len(fault) < 100


LOOK_ALIKE = "\u2044\u2215\u29f8\u2571\u2216\u29f5\uff0f\uff3c\ufe68"
INVISIBLE = "\u3164\u115f\u1160\uffa0\u034f\ufe00\ufe0f\u180b\u2800\U000e0100\u17b4"
AWKWARD = st.text(
    st.sampled_from(
        "aZ0_-=+,@: ./;%u2f\\\0\né\u0301\u202e\u2024\u2025\uff0e\uff0f\uff1b\u3000\u00a0" + LOOK_ALIKE + INVISIBLE
    ),
    max_size=12,
)
KEYS = st.one_of(AWKWARD, st.text(max_size=40), st.lists(AWKWARD, max_size=4).map("/".join))


@given(KEYS)
def test_an_accepted_key_has_one_spelling(key):
    if fault_of(key):
        return
    segments = key.split("/")
    assert 0 < len(key.encode()) <= LONGEST_KEY
    assert "\\" not in key
    assert not {".", ".."} & {segment.partition(";")[0] for segment in segments}
    assert "" not in segments
    assert not {*LOOK_ALIKE, *INVISIBLE} & {*key}
    assert all(c == " " or not c.isspace() for c in key)
    assert all(segment == segment.strip() for segment in segments)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in key)
    assert unicodedata.is_normalized("NFC", key)
    folded = unicodedata.normalize("NFKC", key)
    assert folded.count("/") == key.count("/")
    assert not {".", ".."} & set(folded.split("/"))


@given(st.text(st.sampled_from("aZ9_=+,@:. -/"), max_size=12))
@example("a./b")
@example("a /b")
@example("a. ")
@example("..")
@example("a/.b")
def test_the_fast_path_gives_the_same_answer(key):
    # The segment `é` is canonical, and disables the fast path for ASCII keys.
    assert bool(fault_of(key)) == (not key or bool(fault_of(f"{key}/é")))


@given(KEYS, KEYS)
def test_two_canonical_keys_joined_by_a_slash_are_canonical(above, below):
    if not fault_of(above) and not fault_of(below) and len(f"{above}/{below}".encode()) <= LONGEST_KEY:
        assert fault_of(f"{above}/{below}") == ""


@given(st.integers(LONGEST_KEY - 3, LONGEST_KEY + 3), st.sampled_from("aé報\U0001f511"))
def test_the_limit_counts_bytes(size, character):
    key = character * (size // len(character.encode()))
    assert bool(fault_of(key)) == (len(key.encode()) > LONGEST_KEY)

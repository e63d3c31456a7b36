"""Canonical artifact keys: examples, and properties of every accepted key."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealgate.policy.canonical_keys import LONGEST_KEY, fault_of, normal_form

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
    "day=2026-11-22 10%3A00/part-0%20%2A%3F.parquet",
    "%41",
    "a%253Ab",
    "caf%C3%A9/%E3%82%AB%E3%82%99",
    unicodedata.normalize("NFD", "é/ガ/각"),
    "\u212b",
    "Screenshot 10.00.00\u202fAM.png",
    "no-break\u00a0space/ideographic\u3000space",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u2764\ufe0f/\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "newest emoji \U0001fae9",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "copied\u200bfrom a\u00ad page\ufeff",
    "\u0600\u0661",
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
    "encoded the old way": "a/%u002e%U002E/b",
    "encoded dot in a name": "a%2Eb",
    "encoded slash, three times": "a%25252Fb",
    "encoded slash, nested by digits": "a%%32%46b",
    "encoded backslash": "a%5Cb",
    "encoded backslash, twice": "a%255cb",
    "encoded NUL": "a%00b",
    "encoded NUL, twice": "a%2500b",
    "encoded line feed": "a%0Ab",
    "encoded C1 control": "a%C2%85b",
    "encoded right-to-left override": "a%E2%80%AEb",
    "encoded division slash": "a%E2%88%95b",
    "encoded full-width slash": "a%EF%BC%8Fb",
    "encoded division slash, the old way": "a%u2215b",
    "encoded NUL, the old way": "a%u0000b",
    "half of a pair, the old way": "a%uD83Db",
    "overlong slash": "a%C0%AFb",
    "overlong dot": "%C0%AE%C0%AE/a",
    "escape that is not UTF-8": "a%E9b",
    "half of a letter": "a%C3/%A9b",
    "encoded too often": "a%" + "25" * 9 + "41",
    "encoded parent with parameter": "..%3Bx/a",
    "encoded space before a segment": "a/%20b",
    "encoded space after a segment": "a%20/b",
    "escape with a joiner inside": "a%2\u200dfb",
    "escape with a joiner in front": "a%\u200d2fb",
    "parent with a joiner": "a/.\u200d./b",
    "segment of a joiner": "a/\u200d/b",
    "segment of a blank": "a/\u2800/b",
    "space hidden before a segment": "a/\u200d b",
    "escape before a mark": "a%4A\u0301b",
    "escape before an encoded mark": "a%3A%CC%81b",
    "escape before a mark, twice": "a%253A%25CC%2581b",
    "escape before a joiner and a mark": "team-a/..%2F\u200b\u0307x",
    "escape before an encoded joiner and a mark": "a%2F%E2%80%8B\u0307b",
    "escape before a soft hyphen and a mark": "a%2f\u00ad\u0307b",
    "escape before a variation selector and a mark": "a%2F\ufe0f\u0307b",
    "nested escape before a mark": "team-a/..%252F\u0307x",
    "escape of a dot before a joiner and a mark": "%2E\u200b\u0300",
    "escape with a letter that has a mark": "a%2\u1e1eb",
    "left-to-right mark": "a\u200eb",
    "left-to-right isolate": "a\u2066b",
    "Arabic letter mark": "a\u061cb",
    "annotation": "a\ufff9b",
    "backslash": "a\\b",
    "backslash parent": "..\\a",
    "right-to-left override": "a\u202eb",
    "NUL": "a\0b",
    "line feed": "a\nb",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "delete": "a\x7fb",
    "C1 control": "a\x9bb",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "private use": "a\ue000b",
    "unassigned": "a\u0378b",
    "noncharacter": "a\uffffb",
    "surrogate": "a\ud800b",
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
INVISIBLE = "\u3164\u115f\u1160\uffa0\u034f\ufe00\ufe0f\u180b\u2800\U000e0100\u17b4\u200b\u200d\u00ad\ufeff"
SIGNS_OF_NUMBERS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
CONTROLS = "\0\n\x85\u202e\u200e\u2066\u2028"
AWKWARD = st.text(
    st.sampled_from(
        "aZ0_-=+,@: ./;%u2f53CcA9e\\é\u0301\u0307\u0300\u0327\u2024\u2025\uff0e\uff1b\uff05\u3000\u00a0"
        + LOOK_ALIKE
        + INVISIBLE
        + CONTROLS
    ),
    max_size=12,
)


def encoded(text: str, times: int) -> str:
    """Return `text`, percent-encoded that often."""
    for _ in range(times):
        text = quote(text, safe="")
    return text


ENCODED = st.lists(AWKWARD.map(lambda text: encoded(text, 1)), max_size=3).map("".join)
DEEP = st.tuples(AWKWARD, st.builds(encoded, st.text("\u200b\u0301:a/.", max_size=2), st.integers(2, 12))).map("".join)
PARTS = AWKWARD | ENCODED | ENCODED.map(lambda text: text.replace("%", "%25")) | DEEP
KEYS = st.one_of(PARTS, st.text(max_size=40), st.lists(PARTS, max_size=4).map("/".join))


@given(KEYS)
@example("ge" + encoded("\u200b", 9) + "heim")
def test_the_normal_form_of_an_accepted_key_has_one_spelling(key):
    if fault_of(key):
        return
    normal = normal_form(key)
    assert fault_of(normal) == ""
    assert normal_form(normal) == normal
    assert 0 < len(key.encode()) <= LONGEST_KEY
    segments = normal.split("/")
    assert len(segments) == len(key.split("/"))
    assert "\\" not in normal
    assert not {".", ".."} & {segment.partition(";")[0] for segment in segments}
    assert "" not in segments
    assert not {*LOOK_ALIKE, *INVISIBLE, *CONTROLS} & {*normal}
    assert all(c == " " or not c.isspace() for c in normal)
    assert all(segment == segment.strip() for segment in segments)
    assert not any(unicodedata.category(c) in {"Cc", "Cs", "Co", "Zl", "Zp"} for c in key + normal)
    assert not any(unicodedata.category(c) == "Cf" and c not in SIGNS_OF_NUMBERS for c in normal)
    assert all("\U0001f000" <= c <= "\U0001faff" for c in key + normal if unicodedata.category(c) == "Cn")
    assert unicodedata.is_normalized("NFC", normal)
    folded = unicodedata.normalize("NFKC", normal)
    assert folded.count("/") == normal.count("/")
    assert not {".", ".."} & set(folded.split("/"))
    assert re.search("%[0-9A-Fa-f]{2}", folded) is None


@given(KEYS)
def test_what_programs_make_of_an_accepted_key_has_the_same_normal_form(key):
    if fault_of(key):
        return
    normal = normal_form(key)
    for spelling in (
        unquote(key),
        unquote(unquote(key)),
        unicodedata.normalize("NFC", key),
        unicodedata.normalize("NFD", key),
        unquote(unicodedata.normalize("NFC", key)),
        unicodedata.normalize("NFC", unquote(key)),
        unicodedata.normalize("NFD", unquote(key)),
        *(key.replace(c, "") for c in INVISIBLE.replace("\u2800", "")),
    ):
        assert normal_form(spelling) == normal


@pytest.mark.parametrize("text", ["\u200b", "\ufe0f", "\u0301", ":", "\u00a0"], ids=ascii)
@pytest.mark.parametrize("times", range(13))
def test_a_character_that_is_encoded_often_is_decoded_wholly_or_refused(text, times):
    key = f"ge{encoded(text, times)}heim"
    normal = normal_form(f"ge{text}heim")
    assert fault_of(key) if times > 9 else normal_form(key) == normal


def test_a_long_key_that_a_storage_lists_has_the_same_normal_form():
    assert normal_form("%41e\u0301" * 5000) == "Aé" * 5000


@given(KEYS)
@example("team-a/..%2F\u200b\u0307x")
@example("team-a/..%252F\u0307x")
@example("%2E\u200b\u0300")
def test_no_program_makes_another_path_of_an_accepted_key(key):
    if fault_of(key):
        return
    for form in ("", "NFC", "NFD"):
        path = key
        for _ in range(10):
            assert path.count("/") == len(normal_form(key).split("/")) - 1
            assert not {"", ".", ".."} & set(path.split("/"))
            assert not set(path) & {"\\", *CONTROLS}
            path = unquote(unicodedata.normalize(form, path) if form else path)


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

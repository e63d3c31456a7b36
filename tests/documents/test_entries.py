"""The fields of the mapping in a text: found, and cut out without a change to the rest."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealgate.documents.entries import mapping_in
from sealgate.documents.reader import Unreadable

NAMES = ["a", "b", "c", "sealgate"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a: {b: 1}\nc: [d]\n", {"a", "c"}),
        ("? {x: y}\n: z\na: 1", {"a"}),
        ('"a": &x 1\nb: *x', {"a", "b"}),
        ('{"\\u0061": 1}', {"a"}),
        ("x: &n a\n*n : 1\n", {"a"}),
        ("x: &m {a: 1}\n<<: *m\n", {"a"}),
        ("<<: [{a: 1}, {b: 1}]\n", {"a", "b"}),
        ("x: {<<: {a: 1}}\n", set()),
        ("x: 1\n--- \na: 1\n", {"a"}),
    ],
)
def test_a_field_is_found_wherever_a_reader_may_find_it(text, names):
    mapping = mapping_in(text)
    assert mapping
    assert {name for name in NAMES if mapping.may_have(name)} == names


@pytest.mark.parametrize("text", ["[a, b]", "text", "", "# a: 1", "- a: 1", '"a: 1"', "https://a:8443/b"])
def test_a_text_that_is_not_a_mapping_has_no_fields(text):
    assert mapping_in(text) is None


def test_the_places_of_deeply_nested_texts_are_not_searched():
    with pytest.raises(Unreadable):
        mapping_in("a: " + "[" * 60_000)


# --- a field is cut out -----------------------------------------------------------------------------------

REST_IN_BLOCK_STYLE = [
    "commit: 61e9540\n",
    "version: 1.10\nphone: +4930123456\n",
    "answer: no\noctal: 010\nday: 2026-11-22\n",
    "# a comment\n\nname: 'x'   # another\n",
    "list:\n- a\n-   b: 1\n    c: 2\n",
    "map:\n    deep: {a: 1,\n      b: [2]}\n",
    "text: |+\n  a\n\n    b\n",
    "folded: >-\n   a\n   b\n\n",
    "plain: a\n  b\n",
    'quoted: "a\\\n   b\\u0041"\n',
    "anchor: &x {a: 1}\nalias: *x\n",
    "tag: !vendor [1, !!str 2]\n",
    "merged:\n  <<: {a: 1}\n",
    "? explicit\n: 1\n",
    "empty:\nnull: ~\n",
    "größe: 尺寸 😀\n",
]
BLOCKS_IN_BLOCK_STYLE = [
    "sealgate: {key: two}\n",
    "sealgate:\n  key: two\n",
    "sealgate:   # why\n    # because\n    key:   'two'   # yes\n    # end\n",
    '"sealgate": {\n  "key": "two"\n }\n',
    "'sealgate':\n  ? key\n  : two\n",
    "? sealgate\n: {key: two}\n",
    "sealgate: {key:\n  two}\n",
    "sealgate:\n  key: >-\n   two\n",
]
BREAKS = st.sampled_from(["\n", "\r\n"])


@given(
    st.lists(st.sampled_from(REST_IN_BLOCK_STYLE), unique=True),
    st.sampled_from(BLOCKS_IN_BLOCK_STYLE),
    st.integers(0, 9),
    BREAKS,
    st.sampled_from(["", "\ufeff", "---\n", "# first\n", "%YAML 1.1\n---\n"]),
    st.integers(0, 3),
)
def test_a_field_in_block_style_is_cut_out_and_nothing_else(rest, block, place, line_break, before, indentation):
    place = min(place, len(rest))

    def written(*fields: str) -> str:
        lines = "".join(fields).splitlines(keepends=True)
        indented = "".join(" " * indentation + line if line.strip() else line for line in lines)
        return (before + indented).replace("\n", line_break)

    mapping = mapping_in(written(*rest[:place], block, *rest[place:]))
    assert mapping
    assert mapping.value("sealgate") == {"key": "two"}
    assert mapping.without("sealgate") == written(*(rest or ["{}\n"])).replace(" " * indentation + "{}", "{}")


@given(st.lists(st.sampled_from(REST_IN_BLOCK_STYLE[:-1]), unique=True), st.sampled_from(["", " ", "\n"]))
def test_a_field_at_the_end_may_lack_its_line_break(rest, end):
    mapping = mapping_in("".join(rest) + "sealgate: {key: two}" + end.strip("\n"))
    assert mapping
    assert mapping.without("sealgate") == ("".join(rest) or "{}")


FLOW_FIELDS = ['"a": 61e9540', "b: +49", "c: [1.10, {d: no}]", "'e': *x", "f", "g: ~", '"h":"\\u0041 {,}"', "? i : 1"]
FLOW_BLOCKS = [
    "sealgate: {key: two}",
    '"sealgate":{"key":"two"}',
    "? sealgate : {key: two}",
    "'sealgate': {\nkey: two }",
]


@given(
    st.lists(st.sampled_from(FLOW_FIELDS), unique=True),
    st.sampled_from(FLOW_BLOCKS),
    st.integers(0, 9),
    st.sampled_from([", ", ",\n  ", " ,\t", ","]),
    st.sampled_from([("{", "}"), ("{ ", "\n}\n"), ("# c\n{\n  ", "\n}"), ("--- &x {", "}")]),
)
def test_a_field_in_flow_style_is_cut_out_with_its_comma(rest, block, place, comma, ends):
    first, last = ends
    rest = [field for field in rest if "*" not in field or "&" in first]
    mapping = mapping_in(first + comma.join([*rest[:place], block, *rest[place:]]) + last)
    assert mapping
    assert mapping.value("sealgate") == {"key": "two"}
    before_comma = " " if comma == " ,\t" and 0 < len(rest) <= place else ""
    expected = first + comma.join(rest) + before_comma + last
    assert mapping.without("sealgate") == (expected if rest else f"{first.rstrip()}{last.lstrip()}")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(st.text(max_size=5), VALUES), unique_by=lambda field: field[0], max_size=4),
    st.integers(0, 4),
    st.none() | st.integers(0, 3),
    st.booleans(),
)
def test_a_field_of_json_is_cut_out_and_the_rest_stays_json(fields, place, indent, is_ascii):
    fields = [(name, value) for name, value in fields if name != "sealgate"]

    def written(items) -> str:
        return json.dumps(dict(items), indent=indent, ensure_ascii=is_ascii, allow_nan=False)

    fields = json.loads(json.dumps(fields).replace("Infinity", "1"))
    mapping = mapping_in(written([*fields[:place], ("sealgate", {"key": "two"}), *fields[place:]]))
    assert mapping
    assert mapping.value("sealgate") == {"key": "two"}
    assert mapping.without("sealgate") == written(fields)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("{a: 1, # one\n sealgate: {key: two}}", "{a: 1, # one\n }"),
        ("{sealgate: {key: two}, # mine\n a: 1}", "{# mine\n a: 1}"),
        ("{sealgate: {key: two} # mine\n, a: 1}", "{ # mine\n a: 1}"),
        ("{sealgate: {key: two},}", "{}"),
        ("a: |+\n  x\n\nsealgate: {key: two}\n\n\nb: 1\n", "a: |+\n  x\n\nb: 1\n"),
        ("a: |\n  x\nsealgate: {key: two}\n  # mine\nb: 1\n", "a: |\n  x\nb: 1\n"),
    ],
)
def test_comments_and_blank_lines_around_a_field_do_not_change_the_rest(text, rest):
    mapping = mapping_in(text)
    assert mapping
    assert mapping.without("sealgate") == rest


@pytest.mark.parametrize(
    "text",
    [
        "sealgate: &a {key: two}\nb: *a\n",
        "sealgate: {key: &a two}\n",
        "x: &a two\nsealgate: {key: *a}\n",
        "!!str sealgate: {key: two}\n",
        "sealgate: !!map {key: two}\n",
        "sealgate: {key: two}\nsealgate: {key: one}\n",
        "sealgate: {key: two}\na: {b: 1, b: 2}\n",
        "sealgate: {key: two}\n---\na: 1\n",
        "a: &m {sealgate: {key: one}}\nsealgate: {key: two}\n<<: *m\n",
        "sealgate: {key: no}\n",
    ],
)
def test_a_field_that_is_not_plain_is_refused(text):
    mapping = mapping_in(text)
    assert mapping
    assert mapping.may_have("sealgate")
    with pytest.raises(Unreadable):
        mapping.value("sealgate")


# --- the text of a value ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("{bucket: z}", "{bucket: z}"),
        ("{bucket: z,\n  n: 1.10}   # c", "{bucket: z,\n  n: 1.10}"),
        ("|\n    any: {text\n", "any: {text\n"),
        ("'it''s'", "it's"),
        ("1.10", "1.10"),
        ("61e9540 # c", "61e9540"),
        ("~", "~"),
        ("", ""),
        ("\n- a\n-  b: +49\n   c: |\n     x\n", "- a\n-  b: +49\n   c: |\n     x\n"),
        (
            "  # mine\n    # first\n    bucket: z # in\n\n    t: |2\n        x\n\n       y\n    # last\n",
            "# first\nbucket: z # in\n\nt: |2\n    x\n\n   y\n# last\n",
        ),
        ("\n  bucket: a\n    b\n  c: 'd\n\n   e'\n", "bucket: a\n  b\nc: 'd\n\n e'\n"),
        ("&x\n  bucket: z\n", "bucket: z\n"),
        ("&x [*x]", "&x [*x]"),
        ("\n  a: &x 1\n  b: *x\n", "a: &x 1\nb: *x\n"),
    ],
)
def test_the_text_of_a_value_is_its_own_text_without_the_indentation(text, own):
    for after in ("", "\nother: 1\n"):
        mapping = mapping_in(f"first: 1\nvalue: {text}".rstrip("\n") + (after or "\n"))
        assert mapping
        assert mapping.own_text("value").rstrip("\n") == own.rstrip("\n")


@pytest.mark.parametrize(
    "text",
    ["a: &x 1\nvalue: {b: *x}\n", "a: &x {b: 1}\nvalue: *x\n", "value: !t\n  a: 1\n", "value: &x\n  a: *x\n"],
)
def test_a_value_that_depends_on_the_text_around_it_is_refused(text):
    mapping = mapping_in(text)
    assert mapping
    with pytest.raises(Unreadable, match="cannot be cut out"):
        mapping.own_text("value")


def test_the_text_of_a_value_in_json_is_as_it_was_written():
    mapping = mapping_in('{"value": {"a": 1.10,\n "b": "\\ud83d\\ude00"}, "text": "\\ud83d\\ude00"}')
    assert mapping
    assert mapping.own_text("value") == '{"a": 1.10,\n "b": "\\ud83d\\ude00"}'
    assert mapping.own_text("text") == "\U0001f600"

"""JSON is read as JSON defines it, in every document, with line and column."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealgate.documents import json_events, reader
from sealgate.documents.reader import Unreadable

HALF_PAIR = re.compile("[\ud800-\udfff]")
STRINGS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=12,
)
ROOTS = st.lists(VALUES, max_size=3) | st.dictionaries(STRINGS, VALUES, max_size=3)


@given(ROOTS, st.booleans(), st.none() | st.sampled_from([1, "\t", "\r\n"]), st.sampled_from(["", "\ufeff"]))
def test_what_the_standard_library_writes_is_read_as_it_was(value, is_ascii, indent, mark):
    assert reader.read(mark + json.dumps(value, ensure_ascii=is_ascii, indent=indent)).value == value


@given(ROOTS, st.booleans())
def test_the_standard_library_and_this_parser_accept_the_same_texts(value, is_ascii):
    text = json.dumps(value, ensure_ascii=is_ascii)
    for cut in range(len(text)):
        broken = text[:cut] + text[cut + 1 :]
        if json_events.is_json(broken) and not HALF_PAIR.search(json.dumps(json.loads(broken), ensure_ascii=False)):
            list(json_events.events(broken))
        else:
            with pytest.raises(json_events.NotJson):
                list(json_events.events(broken))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a": "\x7f\x85\u2028"}', {"a": "\x7f\x85\u2028"}),
        ('{"%s": 1}' % ("n" * 5000), {"n" * 5000: 1}),
        ('{"a": "\\u0000\\/\\b"}', {"a": "\0/\b"}),
        ('{"a": "%b", "@x": "no"}', {"a": "%b", "@x": "no"}),
        ('{"a": 1E2, "b": -0, "<<": {}}', {"a": 100.0, "b": 0, "<<": {}}),
    ],
)
def test_json_that_yaml_parsers_refuse_or_read_differently_is_read(text, value):
    assert reader.read(text).value == value


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1,\n "a": 2}', "f:2:2: the field `a` appears twice"),
        ('{"a": {"b": 1, "\\u0062": 2}}', "f:1:16: the field `b` appears twice"),
        ('{"a":\n "\\ud83d"}', "f:2:2: the string has half of a surrogate pair"),
        ('{"a": "\\ude00\\ud83d"}', "f:1:7: the string has half of a surrogate pair"),
        ('{"a": 1e999}', "f:1:7: the number is too large"),
        ('{"a": 1234567890123456789}', "f:1:7: the number is too large"),
        ('{"a": "\\q"}', "f:1:8: the string does not end, or contains a control character or an unknown escape"),
        ('{"a": 1} {', "f:1:10: text after the end of the document"),
        ('{"a": "b" %c}', "f:1:11: expected `,` or `}`"),
        ("[" * 65 + "]" * 65, "f:1:65: the document is nested too deeply"),
    ],
)
def test_a_fault_of_json_has_its_line_and_column(text, fault):
    with pytest.raises(Unreadable) as raised:
        reader.read(text)
    assert raised.value.at("f") == fault


def test_a_text_in_flow_style_that_is_not_json_is_read_as_yaml():
    assert reader.read("{a: 1, 'b': [x, ]} # not JSON").value == {"a": 1, "b": ["x"]}


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 01}', '{"a": 1.}', '["a" "b"]', "{,}", "[1]]"]
)
def test_what_only_lax_parsers_take_for_json_is_not_json(text):
    assert not json_events.is_json(text)
    with pytest.raises(json_events.NotJson):
        list(json_events.events(text))

"""The reader of untrusted YAML: it reads plain documents, and its work is linear in the length of a text."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealgate.documents import reader
from sealgate.documents.reader import Unreadable

BOMB = "b0: &b0 {a: 1}\n" + "".join(
    f"b{level}: &b{level} {{<<: [{', '.join([f'*b{level - 1}'] * 9)}]}}\n" for level in range(1, 12)
)
HOSTILE = {
    "nesting": "sealgate: " + "[" * 60_000,
    "closed nesting": "sealgate: " + "[" * 20_000 + "]" * 20_000,
    "merge keys": "sealgate: {}\n" + BOMB,
    "alias of itself": "sealgate: &a [*a]",
    "value that is not a boolean": "sealgate: !!bool x",
    "value that is not a number": 'sealgate: !!int ""',
    "value that is not a date": "sealgate: 2020-99-99",
    "object": "sealgate: !!python/object/apply:os.system [id]",
    "too long": "sealgate: " + "x" * reader.LONGEST,
    "list as a name": "? [a, b]\n: c",
    "unfinished": "sealgate: {",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_document_that_is_not_plain_is_refused(text):
    with pytest.raises(Unreadable):
        reader.read(text)


def test_plain_documents_are_read():
    assert reader.read("a: 1\nb: {c: [x, true, null]}\n").value == {"a": 1, "b": {"c": ["x", True, None]}}
    assert reader.read('{"a": "json"}').value == {"a": "json"}
    assert reader.read("").value is None
    assert reader.read("[" * 60 + "]" * 60).value


@given(st.text(st.sampled_from("ab:{}[]&*!|>-? \n\"'#,<1"), max_size=60) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with suppress(Unreadable):
        reader.read(text)


@pytest.mark.parametrize(
    "word",
    [
        "no",
        "Yes",
        "off",
        "010",
        "0x1f",
        "0o17",
        "1_000",
        "1:30",
        "190:20:30",
        "2026-11-22",
        "2026-11-22T10:00:00Z",
        ".inf",
        "-.INF",
        ".nan",
        "=",
    ],
)
def test_an_ambiguous_word_is_refused_with_its_place(word):
    with pytest.raises(Unreadable) as raised:
        reader.read(f"a:\n  b: {word}")
    assert raised.value.at("f.yaml").startswith(f"f.yaml:2:6: YAML readers disagree about `{word}`: write ")
    assert reader.read(f"a:\n  b: '{word}'").value == {"a": {"b": word}}


@pytest.mark.parametrize(("word", "meant"), [("yes", "true"), ("On", "true"), ("NO", "false"), ("off", "false")])
def test_the_boolean_that_an_ambiguous_word_may_mean_is_named(word, meant):
    with pytest.raises(Unreadable) as raised:
        reader.read(f"a: {word}")
    assert f"write {meant}, or put it in quotes if it is text" in raised.value.at("f.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-0", 0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("~", None),
        ("", None),
        ("TRUE", True),
        ("5GiB", "5GiB"),
        ("1.2.3", "1.2.3"),
        ("${identity.namespace}", "${identity.namespace}"),
        ("12345678901234567", 12345678901234567),
    ],
)
def test_scalars_have_the_values_of_the_core_schema(text, value):
    assert reader.read(f"a: {text}").value == {"a": value}


def test_the_error_text_contains_no_word_of_the_document():
    with pytest.raises(Unreadable) as raised:
        reader.read("secret: 0123_456")
    assert "0123" not in str(raised.value)
    assert "0123" in raised.value.fact


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(st.characters(codec="ascii", exclude_characters="\x7f"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(PLAIN)
def test_json_is_read_as_json(value):
    assert reader.read(json.dumps(value)).value == value


def test_every_value_has_a_position():
    document = reader.read("a:\n  - x\n  - {b: y}\n")
    assert document.find(["a", "1", "b"]) == (3, 3, 6)
    assert document.find(["a", "7"]) == (1, 1, 1)
    assert document.part("a", "1").value == {"b": "y"}

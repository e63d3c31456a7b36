"""YAML from outside: plain documents are read, and no text costs more than its length."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import documents
from proxy.documents import NotPlain

BOMB = "b0: &b0 {a: 1}\n" + "".join(
    f"b{level}: &b{level} {{<<: [{', '.join([f'*b{level - 1}'] * 9)}]}}\n" for level in range(1, 12)
)
HOSTILE = {
    "nesting": "sealgate: " + "[" * 60_000,
    "closed nesting": "sealgate: " + "[" * 20_000 + "]" * 20_000,
    "merge keys": "sealgate: {}\n" + BOMB,
    "alias of itself": "sealgate: &a [*a]",
    "boolean that is none": "sealgate: !!bool x",
    "number that is none": 'sealgate: !!int ""',
    "date that is none": "sealgate: 2020-99-99",
    "object": "sealgate: !!python/object/apply:os.system [id]",
    "too long": "sealgate: " + "x" * documents.LONGEST,
    "list as a name": "? [a, b]\n: c",
    "unfinished": "sealgate: {",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_plain_is_refused(text):
    with pytest.raises(NotPlain):
        documents.load(text)


def test_plain_documents_are_read():
    assert documents.load("a: 1\nb: {c: [x, true, null]}\n") == {"a": 1, "b": {"c": ["x", True, None]}}
    assert documents.load('{"a": "json"}') == {"a": "json"}
    assert documents.load("") is None
    assert documents.load("[" * 30 + "]" * 30)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a: {b: 1}\nc: [d]\n", {"a", "c"}),
        ("[a, b]", set()),
        ("text", set()),
        ("? {x: y}\n: z\na: 1", {"a"}),
        ('"a": &x 1\nb: *x', {"a", "b"}),
    ],
)
def test_a_survey_tells_the_names_at_the_top(text, names):
    assert documents.survey(text).names == names


@given(st.text(st.sampled_from("ab:{}[]&*!|>-? \n\"'#,<1"), max_size=60) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with suppress(NotPlain):
        documents.load(text)

"""The author's block: it is obeyed or refused, never ignored, and the rest of the text arrives byte for byte."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sealgate.errors import BadRequest
from sealgate.layers.author_block import split_author_block, without_author_block
from sealgate.plugin import Artifact

KEYS = {"two": "two"}


def split(text: str) -> tuple[str, str]:
    """Return what is forwarded of a configuration, and the key that its author chose."""
    artifact, key = split_author_block(Artifact("a", configuration=text), KEYS)
    assert without_author_block(Artifact("a", configuration=text)) == artifact
    return artifact.configuration, key


@pytest.mark.parametrize(
    ("text", "forwarded"),
    [
        ("sealgate: {key: two}\ncommit: 61e9540\nversion: 1.10\nphone: +49301\nno: no\n# kept\n", None),
        ('{"sealgate": {"key": "two"}, "commit": "\\ud83d\\ude00", "version": 1.10}', None),
        ('{"note": "\x7f", "sealgate": {"key": "two"}}', '{"note": "\x7f"}'),
        ('{"%s": "%%b", "sealgate": {"key": "two"}}' % ("n" * 1025), '{"%s": "%%b"}' % ("n" * 1025)),
        ('{"seal\\u0067ate": {"key": "two"}, "a": "@x"}', '{"a": "@x"}'),
        ('"seal\\x67ate": {key: two}\na: 1.10\n', "a: 1.10\n"),
        ("x: &a {n: no}\nsealgate: {key: two}\ny: *a\nz: !vendor 010\n", None),
        ("\ufeffsealgate: {key: two}\r\nb: 1.10\r\n", "\ufeffb: 1.10\r\n"),
        ('? "seal\\\x85gate"\n: {key: two}\na: 1.10\n', "a: 1.10\n"),
        ('a: 1.10\n? "seal\\\u2029\tgate"\n: {key: two}\n', "a: 1.10\n"),
        ("a: 1.10\rsealgate: {key: two}\r", "a: 1.10\r"),
        ("? sealgate # why\n: {key: two}\na: 1.10\n", "a: 1.10\n"),
        ("sealgate: {key: two}\n", "{}\n"),
        ("# mine\nsealgate: {key: two}", "# mine\n{}"),
        ('{"sealgate": {"key": "two"}}', "{}"),
        (
            "sealgate: {key: two}\ndownstream:\n  commit: 61e9540  # c\n  l:\n  - 1.10\n",
            "commit: 61e9540  # c\nl:\n- 1.10\n",
        ),
        ("sealgate: {key: two}\ndownstream: {commit: 61e9540}\nother: x\n", "{commit: 61e9540}"),
        ("sealgate: {key: two}\ndownstream: |\n  @any: %text\n", "@any: %text\n"),
        ('{"downstream": {"a": 1.10}, "sealgate": {"key": "two"}}', '{"a": 1.10}'),
        ('{"downstream": "\\ud83d\\ude00: @x", "sealgate": {"key": "two"}}', "\U0001f600: @x"),
    ],
)
def test_the_block_is_obeyed_and_the_rest_is_forwarded_as_it_was_written(text, forwarded):
    if forwarded is None:
        forwarded = text.replace('"sealgate": {"key": "two"}, ', "").replace("sealgate: {key: two}\n", "")
    assert split(text) == (forwarded, "two")


@pytest.mark.parametrize(
    "text",
    [
        "https://sealgate:8443/v1?x={sealgate}",
        '#!/bin/sh\nset -e\nsealgate seal in out\necho "sealgate: @done" \'x\n',
        "bucket: sealgate\nuser: @x\n",
        "user: @x\rbucket: sealgate\r# sealgate: {key: two}\r",
        "user: @x\nsealgate # a word of a list\nother: x\n",
        "user: @x\n# sealgate # why\n: x\n",
        "host: sealgate:8443\nuser: @x\n",
        "# sealgate: {key: two}\nuser: @x\n",
        "[{sealgate: 1}]",
        "- sealgate: {key: two}\n",
        "nested:\n  sealgate: {key: two}\n",
        '{"nested": {"sealgate": {"key": "two"}}, "note": "\\ud83d\\ude00"}',
        '"sealgate: {key: two}"',
        "sealgated: {key: two}\nuser: @x\n",
        "a: 1\na: 2\nb: sealgate\n",
        "b: C:\\sealgate\\x\nuser: @x\n",
        '{"a": "\\ud83d", "b": "sealgate"}',
        "path: \\u0041\\",
    ],
)
def test_a_text_without_the_block_is_forwarded_byte_for_byte(text):
    assert split(text) == (text, "")


@pytest.mark.parametrize(
    "text",
    [
        "sealgate: {key: two}\nuser: @x\n",
        "user: %b\n  sealgate : {key: two}\n",
        "a line without a colon\nsealgate: {key: two}\n",
        'sealgate: {key: two}\nnote: "\\ud83d\\ude00"\n',
        "sealgate: {key: two}\nnote: a\x7fb\n",
        "sealgate: {key: two}\n%s: 1\n" % ("n" * 1100),
        "{sealgate: {key: two}, user: @x}",
        '{"sealgate": {"key": "two"}, "note": "\\ud83d"}',
        '{"sealgate": {"key": "two"}, "a": %b}',
        '{"seal\\u0067ate": {"key": "two"}, "a": %b}',
        '{"a": 1, // why\n"sealgate": {"key": "two"}}',
        "{ 'sealgate':\n {key: two}, user: @x}",
        "!!str sealgate: {key: two}\nuser: @x\n",
        '"seal\\\n  gate": {key: two}\n',
        '"seal\\\x85gate": {key: two}\na: 1\n',
        '"seal\\\u2028  gate": {key: two}\na: 1\n',
        '"seal\\\u2029\tgate": {key: two}\na: @x\n',
        "user: @x\rsealgate: {key: two}\r",
        "user: @x\x85sealgate: {key: two}\x85",
        "user: @x\u2028sealgate: {key: two}\n",
        "user: @x\u2029  sealgate: {key: two}\n",
        "# a comment\rsealgate: {key: two}\ruser: @x\r",
        "user: @x\n# a comment\u2028sealgate: {key: two}\n",
        "user: @x\n? sealgate # why\n: {key: two}\n",
        'user: @x\n? "sealgate"# why\n\n# and why\n  : {key: two}\n',
        "{user: @x, sealgate # why\r: {key: two}}",
        "!<tag:yaml.org,2002:str> sealgate: {key: two}\nuser: @x\n",
        "sealgate: " + "[" * 30_000,
        "sealgate: {key: two}\n" + "# \n" * 30_000,
        "sealgate: {key: two}\n---\na: 1\n",
        "sealgate: {key: two}\nsealgate: {key: two}\n",
        '{"sealgate": {"key": "two"}, "a": {"b": 1, "\\u0062": 2}}',
        "a: &n sealgate\n*n : {key: two}\n",
        "a: &b {sealgate: {key: two}}\n<<: *b\n",
        "<<: [{sealgate: {key: two}}]\n",
        "sealgate: &a {key: two}\n",
        "sealgate: !!map {key: two}\n",
        "sealgate: {key: no}\n",
        "sealgate: {key: two}\ndownstream: *x\n",
        "x: &x {downstream: {a: 1}}\nsealgate: {key: two}\n<<: *x\n",
        "sealgate:\n",
        "sealgate: {key: [two]}\n",
        '{"sealgate": {"key": "two", "context": {}}}',
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_a_block_that_cannot_be_obeyed_is_refused_by_name(text):
    with pytest.raises(BadRequest, match=r"sealgate|Sealgate") as raised:
        split(text)
    assert "two" not in raised.value.fact.replace("twice", "")


@pytest.mark.parametrize(
    "text",
    [
        "sealgate @ " + "!" * 65_000,
        "{" + " " * 65_000 + "sealgate",
        ",\n" * 32_000 + "sealgate @",
        ",sealgate #" * 5_900,
        "\r#" * 32_000 + "sealgate @",
    ],
)
def test_the_search_for_a_block_in_an_unreadable_text_takes_a_step_for_each_character(text):
    assert split(text) == (text, "")


# --- any mapping ------------------------------------------------------------------------------------------

NAMES = st.text(max_size=6).filter(lambda name: name not in {"sealgate", "downstream"})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
MAPPINGS = st.dictionaries(NAMES, VALUES, max_size=4)


def with_block(mapping: dict, place: int) -> dict:
    fields = list(mapping.items())
    return dict([*fields[:place], ("sealgate", {"key": "two"}), *fields[place:]])


@given(MAPPINGS, st.integers(0, 4), st.none() | st.sampled_from([0, 2, "\t"]), st.booleans())
def test_of_any_json_the_original_without_the_block_is_forwarded(mapping, place, indent, is_ascii):
    def written(value: dict) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=is_ascii)

    original = written(mapping)
    if "NaN" in original or "Infinity" in original:
        return
    assert split(written(with_block(mapping, place))) == (original, "two")
    assert split(original) == (original, "")


@given(MAPPINGS, st.integers(0, 4), st.booleans(), st.sampled_from([None, "'", '"', "|"]))
def test_of_any_yaml_the_original_without_the_block_is_forwarded(mapping, place, flow, style):
    def written(value: dict) -> str:
        form = {"default_flow_style": flow, "default_style": style, "width": 1_000_000}
        return yaml.dump(value, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True, **form)

    text = written(with_block(mapping, place))
    if is_yaml(text):
        assert split(text) == (written(mapping), "two")
    else:
        with pytest.raises(BadRequest, match="cannot be read"):
            split(text)


def is_yaml(text: str) -> bool:
    try:
        list(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError:
        return False
    return True

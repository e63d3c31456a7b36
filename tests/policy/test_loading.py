"""Documents that are not valid are refused as a whole, with all faults at once, each with its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
from harness.outcome import TRANSIENT
from harness.policy import SPEC, written
from hypothesis import given, settings
from hypothesis import strategies as st

from sealgate import library
from sealgate.argo import RETRIED_TEXTS
from sealgate.documents.reader import Unreadable, read
from sealgate.policy import cases, cel, lint, load
from sealgate.policy.decision import Measures, Request
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import DocumentSource, Installation, Invalid
from sealgate.policy.rules import Process
from sealgate.policy.schema import json_schema


def faults(text: str, **installation) -> list[str]:
    try:
        load.loaded([DocumentSource("p.yaml", read(text))], Installation(**installation))
    except Invalid as invalid:
        return list(invalid.faults)
    return []


def test_all_faults_of_a_file_are_reported_at_once_with_their_places():
    text = SPEC + (
        "  enforcment: warn\n"
        "  rules:\n"
        "    - name: one\n"
        "      effect: alow\n"
        "      match: {operations: [red], kyes: [x]}\n"
        "      limits: {maxFile: 5, maxBytes: 5GB}\n"
        "    - effect: deny\n"
        "    - 5\n"
        "  encryption: [{nam: x}]\n"
    )
    assert faults(text) == [
        "p.yaml:5:3: Object contains unknown field `enforcment`; did you mean `enforcement`?",
        "p.yaml:8:7: Invalid enum value 'alow'; did you mean `allow`?",
        "p.yaml:9:28: Invalid enum value 'red'; did you mean `read`?",
        "p.yaml:9:34: Object contains unknown field `kyes`; did you mean `keys`?",
        "p.yaml:10:16: Object contains unknown field `maxFile`; did you mean `maxFiles`?",
        "p.yaml:10:28: expected a size such as `5GiB`, `512KiB` or a number of bytes",
        "p.yaml:11:7: Object missing required field `name`",
        "p.yaml:12:7: Expected `object`, got `int`",
        "p.yaml:13:17: Object contains unknown field `nam`; did you mean `name`?",
        "p.yaml:13:16: Object missing required field `name`",
    ]


RETRIED = "Argo retries a call whose error contains `connection reset by peer`: use other words"


def test_faults_that_types_cannot_express_are_reported_at_the_same_time():
    text = SPEC + (
        "  rules:\n"
        "    - {name: a, effect: alow, limits: {maxBytes: 5}, onDelete: skip}\n"
        "    - {name: b, effect: deny, limits: {maxBytes: 5}, match: {keys: ['${identity.namspace}/**', 'a//b']}}\n"
        "    - 5\n"
        "    - {name: b, effect: deny, message: connection reset by peer}\n"
    )
    assert faults(text) == [
        "p.yaml:6:17: Invalid enum value 'alow'; did you mean `allow`?",
        "p.yaml:7:69: `${identity.namspace}` is not a variable; did you mean `identity.namespace`?",
        "p.yaml:7:96: the pattern has an empty segment",
        "p.yaml:7:31: a deny rule cannot have limits: it denies every request that it matches",
        "p.yaml:8:7: Expected `object`, got `int`",
        "p.yaml:9:8: another rule has the name b",
        f"p.yaml:9:31: {RETRIED}",
    ], "and no fault that only follows from the value that replaces alow"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules: [{name: r, effect: require, limits: {maxByte: 5GiB}}]", ["did you mean `maxBytes`?"]),
        ("rules: [{name: r, effect: require, require: {minAge: 30 days}}]", ["expected an age"]),
        ("encryption: [{name: e, keey: a, readKeys: [b]}]", ["did you mean `key`?"]),
        ("encryption: [{name: e, write: passthrough, readPlaintext: alow}]", ["did you mean `allow`?"]),
        ("params: {tier: 5}\n  rules: [{name: r, effect: deny, match: {keys: ['${params.tier}']}}]", ["got `int`"]),
        (
            "rules: [{name: r, effect: dny, match: {keys: [/a, '${identiy.x}']}}]",
            ["did you mean `deny`?", "a key pattern must not begin with a slash", "`${identiy.x}` is not a variable"],
        ),
    ],
)
def test_a_fault_is_reported_with_all_others_and_without_its_consequences(text, expected):
    found = faults(SPEC + f"  {text}\n")
    assert len(found) == len(expected), found
    assert all(part in line for part, line in zip(expected, found, strict=True)), found


def test_a_duplicate_name_is_reported_along_with_other_faults():
    sources = [DocumentSource(f"{name}.yaml", read(SPEC + "  rules: [{name: r, effect: dny}]\n")) for name in "ab"]
    with pytest.raises(Invalid) as raised:
        load.loaded(sources)
    assert [fault.partition(": ")[2] for fault in raised.value.faults] == [
        "Invalid enum value 'dny'; did you mean `deny`?",
        "another document has the name main",
        "Invalid enum value 'dny'; did you mean `deny`?",
    ]


def encryption(text: str) -> str:
    return SPEC + "  encryption:\n    - {name: e, " + text + "}\n"


FAULTS = {
    "limits of a deny": (written("deny, limits: {maxBytes: 5}"), "a deny rule cannot have limits"),
    "require of an allow": (written("allow, require: {minAge: 5d}"), "only a rule with `effect: require`"),
    "nothing required": (written("require"), "the rule requires nothing"),
    "skip of an allow": (written("allow, onDelete: skip"), "an allow rule cannot skip a Delete"),
    "message of two lines": (written('deny, message: "a\\nb"'), "a message must be one line"),
    "message that is retried": (written("deny, message: connection reset by peer"), "Argo retries a call"),
    "message that a param completes": (
        written('deny, message: "connection timed ${params.tier}"').replace("gold", "out"),
        "Argo retries a call",
    ),
    "owner that is retried": (
        SPEC.replace("{name: main}", "{name: main, annotations: {owner: invalid connection}}") + "  rules: []\n",
        "Argo retries a call",
    ),
    "unknown variable": (
        written('allow, match: {keys: ["${identity.namspace}/**"]}'),
        "did you mean `identity.namespace`?",
    ),
    "unknown param": (written('allow, match: {keys: ["${params.teir}"]}'), "did you mean `params.tier`?"),
    "open variable": (written('allow, match: {keys: ["${identity.namespace"]}'), "is not closed"),
    "empty segment": (written("allow, match: {keys: [a//b]}"), "the pattern has an empty segment"),
    "half a star": (written("allow, match: {keys: [a**]}"), "** must be a whole segment"),
    "slash before a key": (written("allow, match: {keys: [/a]}"), "a key pattern must not begin with a slash"),
    "relative path": (written("allow, match: {localPaths: [a]}"), "a local path must begin with a slash"),
    "condition that does not parse": (written('allow, when: "1 +"'), "`when`, column 4: Syntax error"),
    "condition on an unknown variable": (written('allow, when: "opp == 1"'), "undeclared reference to 'opp'"),
    "condition on an unknown identity": (
        written("allow, when: \"identity.nams == 'x'\""),
        "unknown variable identity.nams",
    ),
    "condition on an unknown identity, by index": (
        written("allow, when: \"identity['nams'] == 'x'\""),
        "unknown variable identity.nams",
    ),
    "condition on an unknown param": (
        written("allow, when: \"params.teir == 'x'\""),
        "unknown variable params.teir; did you mean `tier`?",
    ),
    "condition on an unknown param, by index": (
        written("allow, when: \"params[ 'teir' ] == 'x'\""),
        "unknown variable params.teir",
    ),
    "condition that is a number": (written('allow, when: "size(key)"'), "returns INT"),
    "param that is a pattern": (SPEC + '  params: {a: "x/*"}\n', "params.a is not a plain word"),
    "param with an encoded slash": (SPEC + "  params: {a: x%252Fy}\n", "params.a is not a plain word"),
    "param that is an encoded star": (SPEC + "  params: {a: '%2A'}\n", "params.a is not a plain word"),
    "param that is displayed as nothing": (SPEC + "  params: {a: \u3164\ufe0f}\n", "params.a is not a plain word"),
    "key that is not valid": (encryption('key: "a b"'), "`a b` is not a key name"),
    "key of another mount": (encryption("key: kv/keys/x"), "the key is in mount kv"),
    "passthrough": (encryption("write: passthrough, readPlaintext: allow"), "allowPassthrough: true"),
    "passthrough with a key": (
        encryption("write: passthrough, readPlaintext: allow, key: x"),
        "remove key, authorKeys and context",
    ),
    "passthrough that cannot be read": (encryption("write: passthrough"), "add `readPlaintext: allow`"),
    "context of nine": (
        encryption("context: {" + ", ".join(f"c{n}: x" for n in range(9)) + "}"),
        "Expected `object` of length <= 8",
    ),
    "name twice": (
        SPEC + "  rules: [{name: r, effect: deny}, {name: r, effect: deny}]\n",
        "another rule has the name r",
    ),
    "name that is no label": (SPEC.replace("main", "Main") + "  rules: []\n", "lower-case letters"),
    "duration for a size": (written("allow, limits: {maxBytes: 5d}"), "expected a size"),
    "size for an age": (written("require, require: {minAge: 5GiB}"), "expected an age"),
    "fraction": (written("allow, limits: {maxBytes: 1.5GiB}"), "expected a size"),
    "negative": (written("allow, limits: {maxFiles: -1}"), ">= 0"),
}


@pytest.mark.parametrize(("text", "fact"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_reported_with_its_place(text, fact):
    found = faults(text, mount="transit", allows_passthrough=False)
    assert any(fact in line for line in found), found
    assert all(line.startswith("p.yaml:") and line.isprintable() for line in found)


def test_there_is_one_list_of_texts_that_argo_retries():
    assert set(RETRIED_TEXTS) == set(TRANSIENT)


def test_a_condition_that_is_not_unicode_is_not_valid():
    with pytest.raises(cel.InvalidCondition, match="`when` is not valid CEL"):
        cel.compiled("'\ud800' == key")


def test_two_documents_of_one_name_are_refused():
    source = DocumentSource("p.yaml", read(SPEC + "  rules: []\n"))
    with pytest.raises(Invalid, match="another document has the name main"):
        load.loaded([source, source])


@pytest.mark.process
def test_without_the_extra_a_condition_makes_a_policy_invalid(tmp_path):
    (tmp_path / "p.yaml").write_text(written("allow, when: \"op == 'Save'\""))
    hidden = "import sys; sys.modules['cel_expr_python'] = None; from sealgate.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", hidden, "policy", "check", str(tmp_path / "p.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "`when` needs the extra cel: install sealgate[cel]" in result.stdout


@pytest.mark.process
def test_a_policy_without_conditions_never_loads_the_extra():
    code = (
        "import sys; from sealgate.policy import load; from pathlib import Path; "
        "load.loaded(load.sources_at(Path(sys.argv[1]))); print('cel_expr_python' in sys.modules)"
    )
    documents = str(library.directory() / "library")
    result = subprocess.run([sys.executable, "-c", code, documents], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"\xff", "is not UTF-8"),
        (b"", "the document is empty"),
        (b"a: [", ": did not find expected"),
        (b"kind: ArtifactPolicyTset", "did you mean `ArtifactPolicyTest`?"),
        (b"kind: Sealgate", "kind must be ArtifactPolicy or ArtifactPolicyTest"),
        (b"- a", "kind must be"),
        (b"#" * (2 << 20), "has more than 1048576 characters"),
    ],
)
def test_a_file_that_is_not_a_policy_is_named(tmp_path, content, fact):
    (tmp_path / "p.yaml").write_bytes(content)
    for path in (tmp_path, tmp_path / "p.yaml"):
        with pytest.raises(Invalid) as raised:
            load.sources_at(path)
        assert str(tmp_path / "p.yaml") in raised.value.faults[0]
        assert fact in raised.value.faults[0]


def test_a_directory_without_a_policy_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(Invalid, match="contains no ArtifactPolicy"):
        load.sources_at(tmp_path)


@pytest.mark.parametrize("name", ["deny.YAML", "deny.Json", "sub/deny.yaml"])
def test_an_entry_that_would_not_be_read_is_named(tmp_path, name):
    (tmp_path / "a.yaml").write_text(SPEC)
    left_out = tmp_path / name
    left_out.parent.mkdir(exist_ok=True)
    left_out.write_text(SPEC)
    with pytest.raises(Invalid) as raised:
        load.sources_at(tmp_path)
    assert len(raised.value.faults) == 1
    assert raised.value.faults[0].startswith(str(tmp_path / name.partition("/")[0]))


def test_a_mounted_directory_of_kubernetes_is_read_once(tmp_path):
    version = tmp_path / "..2026_11_24"
    version.mkdir()
    (version / "p.yaml").write_text(SPEC)
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    assert len(load.sources_at(tmp_path)) == 1


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "p.yaml")
    with pytest.raises(Invalid):
        load.sources_at(tmp_path / "p.yaml")


# --- generated documents --------------------------------------------------------------------------------------

FIELDS = st.sampled_from(
    [
        "name",
        "effect",
        "match",
        "keys",
        "operations",
        "limits",
        "maxBytes",
        "require",
        "rules",
        "encryption",
        "when",
        "spec",
        "metadata",
        "kind",
        "identity",
        "context",
        "message",
        "params",
        "authorKeys",
        "audit",
        "key",
        "write",
    ]
)
WORDS = st.sampled_from(
    [
        "allow",
        "deny",
        "require",
        "a/**",
        "${identity.namespace}",
        "${",
        "5GiB",
        "30d",
        "op == 'x'",
        "passthrough",
        "",
        "*",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


def only_named_errors(value) -> None:
    document = read(json.dumps({"apiVersion": "sealgate/v1alpha1", "kind": "ArtifactPolicy", **value}, allow_nan=False))
    source = DocumentSource("p", document)
    with suppress(Invalid):
        documents = load.loaded([source])
        lint.warnings([source])
        ProcessPolicy(documents, Process({"namespace": "a"})).decide(Request("Save", "a/b"), Measures(bytes=1))
    with suppress(Invalid):
        cases.converted(document.value, cases.ArtifactPolicyTest, cases.schema.decode)


@settings(max_examples=600)
@given(st.fixed_dictionaries({"metadata": st.just({"name": "x"}) | VALUES, "spec": VALUES}))
def test_any_value_is_a_policy_or_a_named_error(value):
    with suppress(ValueError, Unreadable):
        only_named_errors(value)


@settings(max_examples=600)
@given(st.lists(st.dictionaries(FIELDS, VALUES, max_size=5), max_size=3), st.sampled_from(["rules", "encryption"]))
def test_any_rule_is_valid_or_a_named_error(rules, section):
    with suppress(ValueError, Unreadable):
        only_named_errors({"metadata": {"name": "x"}, "spec": {section: rules}})


def test_the_schema_describes_every_field_that_it_names():
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    for name, part in schema["$defs"].items():
        assert part["additionalProperties"] is False, name
        assert part["description"], name
        for field, about in part["properties"].items():
            assert about.get("description") or "$ref" in about, (name, field)

"""`sealgate policy`, run as a process, as users and CI run it."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from harness.library import LIBRARY
from harness.policy import document, sealgate

HEAD = "apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicy\nmetadata: {name: main}\n"
TRAIL = "".join(
    json.dumps(
        {
            "action": "Allowed",
            "actor": {"namespace": "team-a", "attested": False},
            "api": {"operation": "Load"},
            "resource": {"uid": key},
            "unmapped": {"phase": "outcome"},
        }
    )
    + "\n"
    for key in ("team-a/x", "team-b/x")
)
TEST_HEAD = "apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicyTest\npolicies: [p.yaml]\n"


@pytest.fixture
def bad(tmp_path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + "spec:\n  rules:\n    - {name: r, efect: allow}\n")
    return path


def test_check_reports_every_fault_and_exits_with_2(bad):
    code, text = sealgate("check", bad)
    assert code == 2
    assert text.splitlines() == [
        f"{bad}:6:17: Object contains unknown field `efect`; did you mean `effect`?",
        f"{bad}:6:7: Object missing required field `effect`",
        "not valid: 2 faults",
    ]
    assert sealgate("check", bad, "-o", "github")[1].startswith(f"::error file={bad},line=6,col=17::")
    assert json.loads(sealgate("check", bad, "-o", "json")[1])["faults"]


def test_check_passes_valid_policies_and_prints_warnings():
    code, text = sealgate("check", LIBRARY)
    assert code == 0
    assert text.endswith("valid: 5 documents, 19 rules, 5 warnings\n")
    assert sealgate("check", LIBRARY, "--strict")[0] == 2


ENCRYPTION = {
    "apiVersion": "sealgate/v1alpha1",
    "kind": "ArtifactPolicy",
    "metadata": {"name": "e"},
    "spec": {"encryption": [{"name": "e", "write": "passthrough", "readPlaintext": "allow"}]},
}


def test_check_validates_policies_against_their_configuration(tmp_path):
    policy, configuration = tmp_path / "p.json", tmp_path / "sealgate.json"
    policy.write_text(json.dumps(ENCRYPTION))
    settings = {"apiVersion": "sealgate/v1alpha1", "kind": "Sealgate", "policies": [ENCRYPTION]}
    configuration.write_text(json.dumps(settings))
    assert sealgate("check", policy)[0] == 0
    for arguments, source in (([policy], policy), ([], "configuration")):
        code, text = sealgate("check", *arguments, "--config", configuration)
        assert code == 2
        assert text.startswith(f"{source}:1:")
        assert "allowPassthrough: true" in text
    settings["plugins"] = {"public": {"allowPassthrough": True}}
    configuration.write_text(json.dumps(settings))
    assert sealgate("check", "--config", configuration, "--plugin", "public")[0] == 0
    assert sealgate("check", "--config", configuration)[0] == 2


def test_check_needs_policies_or_a_configuration(tmp_path):
    assert sealgate("check")[0] == 2
    assert "--config" in sealgate("check")[1]
    assert sealgate("check", LIBRARY, "--config", tmp_path / "none")[0] == 2


def test_check_of_a_missing_file_is_a_fault(tmp_path):
    assert sealgate("check", tmp_path / "none.yaml") == (
        2,
        f"{tmp_path}/none.yaml: cannot be read: no such file or directory\nnot valid: 1 fault\n",
    )


def test_several_paths_are_checked_together(tmp_path):
    paths = []
    for name in ("platform", "tenant"):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(document([{"effect": "allow"}], name=name)))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "p.json").write_text(json.dumps(document(name="third")))
    assert sealgate("check", *paths, tmp_path / "more")[1].endswith("valid: 3 documents, 2 rules, 0 warnings\n")
    paths[1].write_text(json.dumps(document(name="platform")))
    assert f"{paths[1]}:1:" in sealgate("check", *paths)[1]
    code, text = sealgate("check", tmp_path / "none", tmp_path / "nor.yaml")
    assert (code, text.count("no such file or directory")) == (2, 2)


def test_standard_input_is_a_document(bad):
    code, text = sealgate("check", "-", given=bad.read_text())
    assert code == 2
    assert text.startswith("standard input:6:17: Object contains unknown field `efect`")
    good = json.dumps(document([{"effect": "allow"}], name="other"))
    assert sealgate("check", "-", given=good) == (0, "valid: 1 document, 1 rule, 0 warnings\n")
    assert sealgate("check", "-", LIBRARY, given=good)[1].startswith("WARN ")
    assert "the document is empty" in sealgate("check", "-")[1]
    assert "standard input: is not UTF-8" in sealgate("check", "-", given="\udcff")[1]


def test_a_rule_that_is_about_to_expire_gets_a_warning(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(document([{"effect": "allow", "expires": "2020-01-01T00:00:00Z"}])))
    code, text = sealgate("check", tmp_path / "p.json")
    assert (code, "L018: r0 expired at 2020-01-01T00:00:00Z" in text) == (0, True)
    assert sealgate("check", tmp_path / "p.json", "--strict")[0] == 2


def test_the_library_passes_its_tests_which_cover_every_rule():
    code, text = sealgate("test", LIBRARY, "--coverage")
    assert (code, text) == (0, "43 cases, 43 passed, 0 failed; 19 of 19 rules covered\n")


@pytest.fixture
def suite(tmp_path) -> Path:
    (tmp_path / "p.yaml").write_text(
        HEAD + "spec:\n  rules:\n    - {name: own, effect: allow, match: {keys: [a/**]}}\n"
        "    - {name: not, effect: deny, match: {keys: [a/x]}}\n"
    )
    (tmp_path / "p.test.yaml").write_text(
        TEST_HEAD + "cases:\n"
        "  - {name: fine, op: Load, key: a/b, expect: {decision: allow}}\n"
        "  - {name: wrong, op: Load, key: b, expect: {decision: allow, rule: own}}\n"
    )
    return tmp_path


def test_a_failed_case_is_reported_with_its_place_and_reason(suite):
    code, text = sealgate("test", suite)
    assert code == 1
    assert (
        f"FAIL {suite}/p.test.yaml:6:5: wrong: decision is deny, expected allow; rule is default, expected own" in text
    )
    assert "no allow rule covers this key" in text
    assert text.endswith("2 cases, 1 passed, 1 failed\n")
    assert sealgate("test", suite, "--run", "fine")[0] == 0
    assert sealgate("test", suite, "--run", "nothing") == (1, "no test case was found\n")


def test_test_documents_come_from_several_paths_and_from_standard_input(suite, tmp_path):
    given = TEST_HEAD.replace("p.yaml", f"{suite}/p.yaml")
    given += "cases: [{name: given, op: Load, key: a/b, expect: {decision: allow}}]\n"
    code, text = sealgate("test", suite, suite / "p.test.yaml", "-", "--coverage", given=given)
    assert (code, text.splitlines()[-1][:28]) == (1, "5 cases, 3 passed, 2 failed;")
    assert sealgate("test", "-", given=given) == (0, "1 case, 1 passed, 0 failed\n")
    assert sealgate("test")[0] == 2


def test_a_case_says_when_its_call_begins(suite):
    (suite / "p.yaml").write_text(
        HEAD + 'spec: {rules: [{name: glass, effect: allow, expires: "2026-12-01T18:00:00Z"}]}\n'
    )
    (suite / "p.test.yaml").write_text(
        TEST_HEAD + "defaults: {op: Load, key: a}\ncases:\n"
        '  - {name: before, time: "2026-12-01T17:59:59Z", expect: {decision: allow, rule: glass}}\n'
        '  - {name: after, time: "2026-12-01T18:00:00Z", expect: {decision: deny, code: EXPIRED, rule: glass}}\n'
        "  - {name: unknown, expect: {decision: deny, code: EXPIRED}}\n"
    )
    assert sealgate("test", suite, "--coverage") == (0, "3 cases, 3 passed, 0 failed; 1 of 1 rules covered\n")


def test_coverage_fails_for_a_rule_that_no_case_covers(suite):
    code, text = sealgate("test", suite, "--run", "fine", "--coverage")
    assert code == 1
    assert "WARN main/not: no case shows it denying" in text
    assert "1 of 2 rules covered" in text


def test_results_can_be_junit_or_github_annotations_or_json(suite):
    tree = ET.fromstring(sealgate("test", suite, "-o", "junit")[1].partition("\n")[2])
    assert (tree.get("tests"), tree.get("failures")) == ("2", "1")
    assert [case.get("name") for case in tree if case.find("failure") is not None] == ["wrong"]
    assert sealgate("test", suite, "-o", "github")[1].startswith(
        f"::error file={suite}/p.test.yaml,line=6,col=5::wrong"
    )
    assert len(json.loads(sealgate("test", suite, "-o", "json")[1])["cases"]) == 2


HOSTILE = {
    "apiVersion": "sealgate/v1alpha1",
    "kind": "ArtifactPolicyTest",
    "policies": ["p.yaml"],
    "cases": [
        {"name": "50%\r\n::error file=x,line=1::y\x1b\uffff", "op": "Load", "key": "b", "expect": {"decision": "allow"}}
    ],
}


def test_a_hostile_case_name_stays_on_its_line_of_the_output(suite):
    (suite / "p.test.yaml").rename(suite / "a,b:c.test.json")
    (suite / "a,b:c.test.json").write_text(json.dumps(HOSTILE))
    (line, summary) = sealgate("test", suite, "-o", "github")[1].splitlines()
    assert line.startswith(f"::error file={suite}/a%2Cb%3Ac.test.json,line=1,col=")
    assert "::50%25%0D%0A::error file=x,line=1::y  : decision is deny" in line
    assert summary == "1 case, 0 passed, 1 failed"
    assert len(sealgate("test", suite)[1].splitlines()) == 2
    tree = ET.fromstring(sealgate("test", suite, "-o", "junit")[1].partition("\n")[2])
    assert [case.get("name") for case in tree] == ["50%  ::error file=x,line=1::y  "]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("cases: []\n", "An empty list"),
        ("cases: [{name: a, op: Load, key: k, expect: {decision: yep}}]\n", "Invalid enum value 'yep'"),
        ("cases: [{name: a, expect: {decision: deny}}]\n", "neither the case nor the defaults have `op`"),
        (
            "cases: [{name: a, op: Load, key: k, identity: {namspace: x}, expect: {decision: deny}}]\n",
            "did you mean `namespace`?",
        ),
    ],
)
def test_an_invalid_test_document_is_refused_with_its_place(suite, text, fact):
    (suite / "p.test.yaml").write_text(TEST_HEAD + text)
    code, found = sealgate("test", suite)
    assert code == 2
    assert fact in found
    assert f"{suite}/p.test.yaml:4:" in found


def test_a_directory_without_test_documents_is_refused(tmp_path, suite):
    (suite / "p.test.yaml").unlink()
    assert sealgate("test", suite)[0] == 2


def test_replay_reports_what_would_change(tmp_path):
    trail = tmp_path / "audit.jsonl"
    trail.write_text(TRAIL)
    arguments = ["replay", "--policy", LIBRARY / "tenants.yaml"]
    code, text = sealgate(*arguments, trail)
    assert code == 1
    assert text.splitlines() == [
        'Load "team-b/x" (namespace team-a, line 2): allow -> deny NO_RULE',
        "  1 by default NO_RULE",
        "1 of 2 calls would now be denied, 0 would now be allowed",
    ]
    assert sealgate(*arguments, "-", given=TRAIL)[1] == text
    assert json.loads(sealgate(*arguments, trail, "-o", "json")[1])["now_denied"] == 1
    assert sealgate(*arguments, tmp_path / "none")[0] == 2


def test_replay_prints_no_control_character_of_a_trail(tmp_path):
    actor = {"namespace": "\ud800\x1b[2J\nfake"}
    record = {"actor": actor, "api": {"operation": "Load"}, "resource": {"uid": "team-b/\x1b[2J\ud800"}}
    code, text = sealgate("replay", "--policy", LIBRARY / "tenants.yaml", "-", given=json.dumps(record) + "\n")
    assert code == 1
    assert "(namespace   [2J fake, line 1)" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_the_schema_is_printed_for_policies_and_for_tests():
    for arguments, title in (([], "Sealgate ArtifactPolicy"), (["--tests"], "Sealgate ArtifactPolicyTest")):
        code, text = sealgate("schema", *arguments)
        assert (code, json.loads(text)["title"]) == (0, title)


@pytest.fixture
def versions(tmp_path) -> tuple[Path, Path]:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(document([{"effect": "allow", "match": {"keys": ["a/**"]}}])))
    new.write_text(json.dumps(document([{"effect": "allow", "match": {"keys": ["a/**", "b/it's"]}}])))
    return old, new


def test_diff_prints_a_request_that_explain_decides_differently(versions):
    old, new = versions
    assert sealgate("diff", old, old)[0] == 0
    code, text = sealgate("diff", old, new)
    assert code == 1
    assert text.startswith('now allowed: Load "b/it\'s"')
    assert text.endswith("1 now allowed\n")
    commands = [line.removeprefix("  $ sealgate policy ") for line in text.splitlines() if line.startswith("  $ ")]
    assert [sealgate(*shlex.split(command))[0] for command in commands] == [1, 0]


def test_diff_and_prove_print_json(versions):
    (found,) = json.loads(sealgate("diff", *versions, "-o", "json")[1])["differences"]
    assert found["kind"] == "allowed"
    assert found["example"] == {"op": "Load", "key": "b/it's"}
    assert (found["old"]["code"], found["new"]["rule"]) == ("NO_RULE", "r0")
    code, text = sealgate("prove", "--policy", versions[1], "--never", "op=write keys=b/**", "-o", "json")
    assert code == 1
    assert json.loads(text)["differences"][0]["example"]["op"] == "Save"


def test_prove_exits_with_0_if_the_claim_holds_and_2_if_it_cannot_tell(versions):
    old, new = versions
    assert sealgate("prove", "--policy", old, "--never", "keys=b/**")[0] == 0
    rule = {"effect": "allow", "match": {"keys": ["b"]}, "when": "key == 'c'"}
    new.write_text(json.dumps(document([rule])))
    code, text = sealgate("prove", "--policy", new, "--never", "keys=b/**")
    assert code == 2
    assert "cannot tell" in text
    assert "`when` of main/r0" in text
    assert sealgate("diff", old, new)[0] == 1
    assert sealgate("prove", "--policy", old, "--never", "keys")[0] == 2


@pytest.mark.parametrize("claim", [b"keys=\xff", b"op=\xff", b"\xff=a"])
def test_a_claim_that_is_not_utf_8_is_named(claim, versions):
    code, text = sealgate("prove", "--policy", versions[0], "--never", os.fsdecode(claim))
    assert code == 2
    assert text.startswith("--never: ")
    assert "Traceback" not in text

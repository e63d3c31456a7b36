"""Warnings about valid policies that their author probably did not intend, each with its place."""

from __future__ import annotations

import pytest
from harness.policy import SPEC

from sealgate.documents.reader import read
from sealgate.policy import lint, load
from sealgate.policy.load import DocumentSource

WARNINGS = {
    "L001": "  rules: [{name: r, effect: deny, match: {operations: [Load]}}]\n",
    "L002": "  rules: [{name: r, effect: deny, match: {keys: [a/**, A/**]}}]\n",
    "L003": "  rules: [{name: r, effect: allow, match: {keys: ['${identity.namespace}/**']}}]\n",
    "L004": "  rules: [{name: r, effect: deny, match: {keys: ['a*b*c*d*e*f']}}]\n",
    "L005": "  encryption: [{name: e, readPlaintext: allow}]\n",
    "L006": "  encryption: [{name: e}, {name: f, key: x}]\n",
    "L006: f is never reached": "  encryption: [{name: e, match: {keys: [a/**, '**']}}, {name: f, key: x}]\n",
    "L008": "  encryption: [{name: e, match: {operations: [write]}, key: a}, {name: f, key: b}]\n",
    "L007": "  rules: [{name: r, effect: deny, match: {localPaths: [/etc/app.conf]}}]\n",
}


@pytest.mark.parametrize(("code", "text"), WARNINGS.items())
def test_a_policy_that_is_probably_a_mistake_gets_a_warning(code, text):
    source = DocumentSource("p.yaml", read(SPEC + text))
    load.loaded([source])
    (line,) = lint.warnings([source])
    assert line.startswith("p.yaml:5:")
    assert code in line


@pytest.mark.parametrize(
    "match", ["localPaths: [/etc/*, /etc/a, /etc/a.tmp]", "operations: [write], localPaths: [/etc/a]"]
)
def test_a_local_path_that_matches_loads_gets_no_warning(match):
    source = DocumentSource("p.yaml", read(SPEC + f"  rules: [{{name: r, effect: deny, match: {{{match}}}}}]\n"))
    assert lint.warnings([source]) == []


@pytest.mark.parametrize("field", ["keys", "exceptKeys"])
@pytest.mark.parametrize("section", ["rules: [{name: r, effect: deny", "encryption: [{name: e"])
@pytest.mark.parametrize(("code", "patterns"), [("L002", "a/**, A/**"), ("L004", "a*b*c*d*e*f")])
def test_patterns_get_warnings_in_every_field(section, field, code, patterns):
    source = DocumentSource("p.yaml", read(SPEC + f"  {section}, match: {{{field}: [{patterns}]}}}}]\n"))
    (line,) = lint.warnings([source])
    assert code in line

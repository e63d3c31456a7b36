"""Warnings about valid policies that their author probably did not intend, each with its place."""

from __future__ import annotations

import pytest
from harness.policy import SPEC

from sealgate.documents.reader import read
from sealgate.policy import lint, load
from sealgate.policy.load import DocumentSource

GRANTING = SPEC + "  defaultDecision: allow\n"
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
    source = DocumentSource("p.yaml", read(GRANTING + text))
    load.loaded([source])
    (line,) = lint.warnings([source])
    assert line.startswith("p.yaml:6:")
    assert code in line


@pytest.mark.parametrize(
    "match", ["localPaths: [/etc/*, /etc/a, /etc/a.tmp]", "operations: [write], localPaths: [/etc/a]"]
)
def test_a_local_path_that_matches_loads_gets_no_warning(match):
    source = DocumentSource("p.yaml", read(GRANTING + f"  rules: [{{name: r, effect: deny, match: {{{match}}}}}]\n"))
    assert lint.warnings([source]) == []


@pytest.mark.parametrize("field", ["keys", "exceptKeys"])
@pytest.mark.parametrize("section", ["rules: [{name: r, effect: deny", "encryption: [{name: e"])
@pytest.mark.parametrize(("code", "patterns"), [("L002", "a/**, A/**"), ("L004", "a*b*c*d*e*f")])
def test_patterns_get_warnings_in_every_field(section, field, code, patterns):
    source = DocumentSource("p.yaml", read(GRANTING + f"  {section}, match: {{{field}: [{patterns}]}}}}]\n"))
    (line,) = lint.warnings([source])
    assert code in line


EXPIRING = GRANTING + """  rules: [{name: r, effect: allow, expires: "2026-12-01T18:00:00Z"}]\n"""
EXPIRES = 1_796_148_000


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (15 * 86_400, ""),
        (14 * 86_400, "expires in 14 days, at 2026-12-01T18:00:00Z"),
        (36 * 3600, "expires in 36 hours"),
        (1, "expires in 1 s"),
        (0, "expired at 2026-12-01T18:00:00Z and grants nothing"),
        (-(10**9), "expired at 2026-12-01T18:00:00Z and grants nothing"),
    ],
)
def test_a_rule_gets_a_warning_in_the_two_weeks_before_it_expires_and_afterwards(before, says):
    source = DocumentSource("p.yaml", read(EXPIRING))
    load.loaded([source])
    lines = lint.warnings([source], EXPIRES - before)
    assert [line.startswith("p.yaml:6:") and "L018: r " in line and says in line for line in lines] == [True] * bool(
        says
    )


BEGINNERS = {
    # What Argo replaces in workflows, and not here.
    "Argo's variable in a key": ("{effect: allow, match: {keys: ['{{workflow.namespace}}/**']}}", "L009"),
    "Argo's variable in an exception": ("{effect: deny, match: {exceptKeys: ['{{workflow.name}}/**']}}", "L009"),
    "Argo's variable in a path": ("{effect: deny, match: {localPaths: ['/{{inputs.parameters.p}}/*']}}", "L009"),
    "Argo's variable in a namespace": (
        "{effect: allow, match: {identity: {namespaces: ['{{workflow.namespace}}']}}}",
        "L009",
    ),
    # Regular expressions.
    "a dot and a star": ("{effect: allow, match: {keys: ['team-a/.*']}}", "L010"),
    "anchors": ("{effect: allow, match: {keys: ['^team-a/model$']}}", "L010"),
    "a class of characters": ("{effect: allow, match: {keys: ['team-[ab]/**']}}", "L010"),
    "alternatives": ("{effect: allow, match: {keys: ['(team-a|team-b)/**']}}", "L010"),
    "a dot and a plus": ("{effect: allow, match: {keys: ['team-a/.+']}}", "L010"),
    "a regular expression for accounts": ("{effect: allow, match: {identity: {serviceAccounts: ['argo-.*']}}}", "L010"),
    "an escaped dot": ("{effect: deny, match: {keys: ['**/*\\\\.pem']}}", "backslash"),
    # Braces of a shell.
    "braces in a key": ("{effect: allow, match: {keys: ['{team-a,team-b}/**']}}", "L011"),
    "braces at the end": ("{effect: deny, match: {keys: ['**/*.{pem,key}']}}", "L011"),
    "braces in a namespace": ("{effect: allow, match: {identity: {namespaces: ['{team-a,team-b}']}}}", "L011"),
    # Variables of another spelling.
    "a variable of a shell": ("{effect: allow, match: {keys: ['$NAMESPACE/**']}}", ""),
    "an unknown variable": ("{effect: allow, match: {keys: ['${namespace}/**']}}", "is not a variable"),
    "a variable that is not closed": ("{effect: allow, match: {keys: ['${identity.namespace/**']}}", "is not closed"),
    # Slashes, and encoded names.
    "a slash at the begin": ("{effect: allow, match: {keys: ['/team-a/**']}}", "must not begin with a slash"),
    "a slash at the end": ("{effect: allow, match: {keys: ['team-a/']}}", "empty segment"),
    "two slashes": ("{effect: allow, match: {keys: ['team-a//x']}}", "empty segment"),
    "a URL": ("{effect: allow, match: {keys: ['s3://bucket/team-a/**']}}", "empty segment"),
    "an encoded slash": ("{effect: allow, match: {keys: ['team-a%2F**']}}", "encoded separator"),
    "a parent": ("{effect: deny, match: {keys: ['team-a/../**']}}", "relative segment"),
    # Empty lists, which read like "nothing".
    "no keys": ("{effect: allow, match: {keys: []}}", "An empty list"),
    "no operations": ("{effect: allow, match: {operations: []}}", "An empty list"),
    "no namespaces": ("{effect: allow, match: {identity: {namespaces: []}}}", "An empty list"),
    "no components": ("{effect: deny, match: {identity: {components: []}}}", "An empty list"),
    "no extensions": ("{effect: require, limits: {extensions: []}}", "An empty list"),
    # Endings.
    "a star before an ending": ("{effect: require, limits: {extensions: ['*.csv']}}", "L017"),
    "an ending without its dot": ("{effect: require, limits: {extensions: [csv]}}", "L017"),
    # Reach.
    "one star where two are meant": ("{effect: allow, match: {keys: ['team-a/*']}}", "L013"),
    "one star after a variable": ("{effect: allow, match: {keys: ['${identity.namespace}/*']}}", "L013"),
    "two stars inside a segment": ("{effect: allow, match: {keys: ['team-a**']}}", "** must be a whole segment"),
    "everybody is denied": ("{effect: deny}", "L012"),
    "everybody is denied by a pattern": ("{effect: deny, match: {operations: ['*'], keys: ['**']}}", "L012"),
    "an allow beneath a deny": (
        "{effect: allow, match: {keys: [pci/cards/**]}}, {name: pci, effect: deny, match: {keys: [pci/**]}}",
        "L016",
    ),
    "nothing is granted": ("{effect: require, limits: {maxBytes: 5GiB}}", "L014"),
    # Names that no identity has.
    "a capital letter": ("{effect: allow, match: {identity: {namespaces: [Team-A]}}}", "L015"),
    "the full name of an account": (
        "{effect: allow, match: {identity: {serviceAccounts: ['system:serviceaccount:a:b']}}}",
        "L015",
    ),
    # Sizes and ages of other notations.
    "a size of Kubernetes": ("{effect: require, limits: {maxBytes: 5Gi}}", "a size such as"),
    "a date without a time": ("{effect: allow, expires: '2026-12-01'}", "a time with its zone"),
    "a time without a zone": ("{effect: allow, expires: '2026-12-01T18:00:00'}", "a time with its zone"),
    "a freeze that ends by itself": (
        "{effect: deny, expires: '2026-12-01T18:00:00Z'}",
        "only an allow rule can expire",
    ),
    "an age in words": ("{effect: require, require: {minAge: 30 days}}", "an age such as"),
    "keys of Vault": ("{effect: allow}]\n  encryption: [{name: e, key: secret/data/x}", "is not a key name"),
    "a path of Transit's API": (
        "{effect: allow}]\n  encryption: [{name: e, key: transit/encrypt/x}",
        "is not a key name",
    ),
}


@pytest.mark.parametrize(("rule", "expected"), BEGINNERS.values(), ids=list(BEGINNERS))
def test_a_beginners_policy_gets_a_line_that_says_what_to_write(rule, expected):
    text = f"{SPEC}  rules: [{rule.replace('{effect', '{name: r, effect', 1)}]\n"
    source = DocumentSource("p.yaml", read(text))
    try:
        load.loaded([source])
    except load.Invalid as invalid:
        lines = list(invalid.faults)
    else:
        lines = [line for line in lint.warnings([source]) if "L003" not in line]
    if expected != "L014":
        lines = [line for line in lines if "L014" not in line]
    assert [expected in line for line in lines] == ([True] if expected else []), lines


@pytest.mark.parametrize(
    "rule",
    [
        "{effect: allow, match: {keys: ['team-a/**', 'a.b/c+d/*/e', 'x{y}/**', 'year=20*/**']}}",
        "{effect: deny, match: {keys: ['**'], exceptKeys: ['team-a/**']}}",
        "{effect: deny, match: {operations: [delete]}}",
        "{effect: deny, match: {keys: ['**/*.pem']}}",
        "{effect: require, limits: {extensions: [.csv, .tar.gz]}}",
    ],
)
def test_a_policy_that_means_what_it_says_gets_no_warning(rule):
    named = rule.replace("{effect", "{name: r, effect", 1)
    source = DocumentSource("p.yaml", read(f"{SPEC}  rules: [{named}, {{name: a, effect: allow}}]\n"))
    load.loaded([source])
    assert lint.warnings([source]) == []

"""`sealgate policy explain`: the decision on a request as each component of Argo, and why."""

from __future__ import annotations

import json
import re

import pytest
from harness.library import LIBRARY
from harness.policy import document, sealgate


def test_explain_shows_the_result_of_each_rule():
    arguments = ["--policy", LIBRARY / "tenants.yaml", "--op", "Load", "--key", "team-b/x.tgz", "--namespace", "team-a"]
    code, text = sealgate("explain", *arguments)
    assert code == 1
    assert text.splitlines() == [
        'DENY  Load "team-b/x.tgz"   NO_RULE   as init, sidecar, gc, server',
        "  no allow rule covers this key for namespace team-a (NO_RULE). Your keys start with team-a/ or shared/.",
        '  allow   tenants/own-prefix         no      keys: "team-a/**" does not match segment 1 "team-b"',
        "  allow   tenants/ml-large           no      identity: namespace does not match",
        '  allow   tenants/shared-read        no      keys: "shared/**" does not match segment 1 "team-b"',
        '  deny    tenants/no-secrets         no      keys: "**/.git/**" does not match, nor do 2 other patterns',
        "  require tenants/sane               ok      maxListing ?<=5000, maxDepth 2<=12, maxKeyBytes 12<=512",
        '  encrypt tenants/encryption/shared  no      keys: "shared/**" does not match segment 1 "team-b"',
        "  encrypt tenants/encryption/tenant  first   key tenant-team-a",
        "  proposed: DENY (same)",
    ]
    found = json.loads(sealgate("explain", *arguments, "-o", "json")[1])["decisions"]
    assert [one["component"] for one in found] == ["init", "sidecar", "gc", "server"]
    for one in found:
        assert (one["operation"], one["effective"]["code"]) == ("Load", "NO_RULE")
        assert [line["state"] for line in one["rules"]] == ["no", "no", "no", "no", "ok", "no", "first"]


def test_operations_with_the_same_answer_are_shown_together():
    asked = ["--policy", LIBRARY / "pci.yaml", "--op", "read", "--key", "pci/payments/x", "--namespace", "payments"]
    _, text = sealgate("explain", *asked, "--attested", "--component", "init")
    assert text.startswith('ALLOW  Load, OpenStream "pci/payments/x"   OK   as init\n')
    assert re.search(r"allow +pci/pci-gc +no +operations: this one is not among them\n", text)


def test_a_request_that_lacks_only_a_login_shows_how_to_assume_one():
    asked = ["--policy", LIBRARY / "pci.yaml", "--op", "Load", "--key", "pci/payments/x", "--namespace", "payments"]
    code, text = sealgate("explain", *asked)
    assert (code, "\n  --attested decides the request as after a login" in text) == (1, True)
    code, text = sealgate("explain", *asked, "--attested")
    assert (code, "--attested" in text) == (0, False)


def test_explain_takes_every_fact_as_an_option():
    arguments = ["--policy", LIBRARY / "hipaa.yaml", "--key", "phi/records/p", "--service-account", "clinical-etl"]
    code, text = sealgate("explain", *arguments, "--op", "Save", "--exists", "--component", "init")
    assert (code, "OVERWRITE" in text) == (1, True)
    code, text = sealgate("explain", *arguments, "--op", "Save", "--component", "init")
    assert (code, "hipaa/encryption/phi  first   key phi" in text) == (0, True)
    code, text = sealgate("explain", *arguments, "--op", "Delete", "--component", "gc", "--age", "10d")
    assert text.startswith("SKIP")
    assert "encrypt" not in text
    assert sealgate("explain", *arguments, "--op", "Save", "--size", "5GB")[0] == 2


def test_explain_shows_owner_and_runbook(tmp_path):
    found = document([{"effect": "deny"}])
    found["metadata"]["annotations"] = {"owner": "platform@example.com", "runbook": "https://example.com/r", "x": "y"}
    (tmp_path / "p.json").write_text(json.dumps(found))
    _, text = sealgate("explain", "--policy", tmp_path / "p.json", "--op", "Load", "--key", "a")
    assert text.splitlines()[-2:] == [
        "  owner of main: platform@example.com",
        "  runbook of main: https://example.com/r",
    ]
    found["spec"]["rules"] = []
    (tmp_path / "p.json").write_text(json.dumps(found))
    assert "owner of main" in sealgate("explain", "--policy", tmp_path / "p.json", "--op", "Load", "--key", "a")[1]


def test_explain_shows_any_key_without_control_characters():
    arguments = ["explain", "--policy", LIBRARY / "tenants.yaml", "--op", "Load", "--namespace", "\udcfe", "--key"]
    for key, shown in (("\udcff", "\\xdcff"), ("a\n::error::", "a\\x0a::error::")):
        code, text = sealgate(*arguments, key)
        assert code == 1
        assert text.startswith(f'DENY  Load "{shown}"   BAD_KEY   as init, sidecar, gc, server\n')
        assert all(line.isprintable() for line in text.splitlines())


HIPAA = ["--policy", LIBRARY / "hipaa.yaml", "--key", "phi/x", "--service-account", "clinical-etl"]


def headings(*arguments) -> list[str]:
    return [line for line in sealgate("explain", *arguments)[1].splitlines() if not line.startswith(" ")]


def test_explain_without_a_component_explains_each_and_shows_equal_ones_once():
    arguments = [*HIPAA, "--op", "OpenStream"]
    assert headings(*arguments) == [
        'ALLOW  OpenStream "phi/x"   OK   as init, sidecar, gc',
        'DENY  OpenStream "phi/x"   DENIED   as server',
    ]
    assert sealgate("explain", *arguments)[0] == 1
    assert sealgate("explain", *arguments, "--component", "init")[0] == 0
    assert headings(*arguments, "--component", "") == ['DENY  OpenStream "phi/x"   ERROR   as an unknown component']
    assert sealgate("explain", *arguments, "--component", "sever")[0] == 2


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("read", {"Load", "OpenStream"}),
        ("write", {"Save", "SaveStream"}),
        ("delete", {"Delete"}),
        ("list", {"ListObjects"}),
        ("stat", {"IsDirectory"}),
        ("*", {"Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory"}),
        ("Save", {"Save"}),
    ],
)
def test_explain_takes_operations_as_policies_name_them(name, operations):
    found = json.loads(sealgate("explain", *HIPAA, "--op", name, "--component", "init", "-o", "json")[1])["decisions"]
    assert [one["operation"] for one in found] == sorted(operations)


def test_operations_with_the_same_answer_are_shown_once():
    assert headings(*HIPAA, "--op", "read") == [
        'ALLOW  Load "phi/x"   OK   as init, sidecar, gc, server',
        'ALLOW  OpenStream "phi/x"   OK   as init, sidecar, gc',
        'DENY  OpenStream "phi/x"   DENIED   as server',
    ]
    assert headings("--policy", LIBRARY / "tenants.yaml", "--op", "read", "--key", "shared/x") == [
        'ALLOW  Load, OpenStream "shared/x"   OK   as init, sidecar, gc, server'
    ]


def test_explain_takes_the_time_of_the_call(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(document([{"effect": "allow", "expires": "2026-12-01T18:00:00Z"}])))
    arguments = ["--policy", tmp_path / "p.json", "--op", "Load", "--key", "a", "--time"]
    code, text = sealgate("explain", *arguments, "2026-12-01T17:59:59Z")
    assert (code, "grants  until 2026-12-01T18:00:00Z" in text) == (0, True)
    code, text = sealgate("explain", *arguments, "2026-12-01T18:00:00Z")
    assert (code, "over    the rule expired at 2026-12-01T18:00:00Z" in text) == (1, True)
    assert sealgate("explain", *arguments, "tomorrow")[0] == 2

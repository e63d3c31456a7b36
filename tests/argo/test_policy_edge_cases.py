"""Policies through the socket where the decision table has no row: directories, links, trials, late facts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from argo.test_decisions import plant, plant_tree
from harness.chain import Proxy, eventually
from harness.outcome import Outcome, assert_own_line, outcome
from harness.policy import document

from sealgate.envelope import MANIFEST
from sealgate.layers import beside

ALLOW = {"effect": "allow"}
MIB = 1 << 20
DAY = 86_400
NOW = int(time.time())
GC = {"ARGO_WORKFLOW_NAME": "w", "ARGO_CONTAINER_NAME": "artifact-plugin-crypt"}

WAYS = pytest.mark.parametrize("transfer", ["file", "stream"])
Begin = Callable[..., Proxy]


@pytest.fixture
def begin(start) -> Begin:
    """Start a proxy with these policies."""

    def begin(*documents: dict, transfer: str = "stream", environment: dict[str, str] | None = None, **settings):
        return start(
            settings={"policies": list(documents), "spool": {"transfer": transfer}, **settings},
            environment={"VENDOR_STREAMS": "1", **(environment or {})},
        )

    return begin


def stored(proxy: Proxy) -> set[str]:
    return {str(path.relative_to(proxy.storage)) for path in proxy.storage.rglob("*") if path.is_file()}


def refused(do: Callable[[], object], operation: str, says: str, code: str = "PERMISSION_DENIED") -> Outcome:
    found = outcome(do)
    assert_own_line(found, code, operation)
    assert says in found.text
    return found


# --- directories ------------------------------------------------------------------------------------------

NO_SECRETS = document([ALLOW, {"effect": "deny", "match": {"keys": ["**/secret/**"]}}])


def test_a_delete_or_a_load_of_a_directory_with_a_denied_child_changes_nothing(begin):
    proxy = begin(NO_SECRETS)
    plant_tree(proxy, "t", {"a": b"stored", "secret/x": b"stored"}, NOW)
    target = proxy.work / "loaded"
    for operation, do in (
        ("Delete", lambda: proxy.argo().delete("t")),
        ("Load", lambda: proxy.argo().load("t", target)),
    ):
        found = refused(do, operation, "(policy main, rule r1, DENIED)")
        assert '": an object beneath it: a rule denies it (' in found.text
    assert stored(proxy) == {"t/a", "t/secret/x", f"t/{MANIFEST}"}
    assert list(proxy.work.iterdir()) == []


def test_a_listing_names_only_readable_objects(begin):
    proxy = begin(NO_SECRETS)
    for key in ("t/a", "t/secret/x"):
        plant(proxy, key, b"stored", NOW)
    assert proxy.argo().list_objects("t") == ["t/a"]


def test_collecting_a_directory_with_a_retained_child_succeeds_and_deletes_nothing(begin):
    keep = {"effect": "require", "match": {"keys": ["r/**"]}, "require": {"minAge": "30d"}, "onDelete": "skip"}
    proxy = begin(document([ALLOW, keep]), environment=GC)
    plant(proxy, "r/t/old", b"stored", NOW - 31 * DAY)
    young = plant(proxy, "r/t/young", b"stored", NOW - DAY)
    proxy.argo().delete("r/t")
    assert stored(proxy) == {"r/t/old", "r/t/young"}
    young.unlink()
    proxy.argo().delete("r/t")
    assert stored(proxy) == set()


# --- sizes, by what was read ------------------------------------------------------------------------------

SIZES = [{**ALLOW, "limits": {"maxBytes": f"{size}MiB"}} for size in (1, 3, 2)]


@WAYS
def test_one_sufficient_grant_is_enough_and_the_largest_is_named_in_a_refusal(begin, transfer):
    proxy = begin(document(SIZES), transfer=transfer)
    proxy.argo().save_stream("a", [bytes(MIB)] * 3)
    found = refused(
        lambda: proxy.argo().save_stream("b", [bytes(MIB)] * 4), "SaveStream", "(policy main, rule r1, LIMIT_BYTES)"
    )
    assert f"exceeds maxBytes {3 * MIB}" in found.text
    assert eventually(lambda: stored(proxy) == {"a"})


def test_a_file_that_grows_during_a_save_is_limited_by_the_bytes_read(begin):
    proxy = begin(document([{**ALLOW, "limits": {"maxBytes": "33MiB"}}]))
    source = proxy.work / "growing"
    source.write_bytes(bytes(32 * MIB))  # more than is buffered between the proxy and the downstream
    growing = proxy.argo("fault: grow on SaveStream\n")
    refused(lambda: growing.save("a", source), "Save", "(policy main, rule r0, LIMIT_BYTES)")
    assert source.stat().st_size > 33 * MIB
    assert eventually(lambda: stored(proxy) == set())
    source.write_bytes(bytes(32 * MIB))
    proxy.argo().save("a", source)


@WAYS
def test_a_sparse_file_of_a_terabyte_is_refused_before_it_is_read(begin, transfer):
    proxy = begin(document([SIZES[1]]), transfer=transfer)
    source = proxy.work / "sparse"
    source.touch()
    os.truncate(source, 1 << 40)
    found = refused(lambda: proxy.argo().save("a", source), "Save", "(policy main, rule r0, LIMIT_BYTES)")
    assert f"{1 << 40} bytes (1 TiB) exceeds" in found.text
    assert stored(proxy) == set()


@WAYS
def test_bytes_that_a_downstream_sends_beyond_the_object_are_not_passed_on(begin, transfer):
    proxy = begin(document([SIZES[1]]), transfer=transfer)
    proxy.argo().save_stream("a", b"the whole object")
    fault = proxy.argo("fault: more on OpenStream\n")
    got: list[bytes] = []
    found = outcome(lambda: got.extend(fault.stream("a")))
    if transfer == "stream":
        assert_own_line(found, "DATA_LOSS", "OpenStream", "a")
        assert b"".join(got) in {b"", b"the whole object"}
        assert_own_line(outcome(lambda: fault.load("a", proxy.work / "loaded")), "DATA_LOSS", "Load", "a")
        assert list(proxy.work.iterdir()) == []
    else:  # OpenStream of the downstream is not called
        assert found == Outcome("OK")
        assert b"".join(got) == b"the whole object"
    assert proxy.argo().open_stream("a") == b"the whole object"


# --- local paths ------------------------------------------------------------------------------------------


@WAYS
def test_links_out_of_the_roots_are_neither_read_nor_written_through(begin, transfer):
    proxy = begin(document([ALLOW]), transfer=transfer)
    outside = proxy.home / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"outside of the roots")
    (proxy.work / "file").symlink_to(outside / "file")
    (proxy.work / "directory").symlink_to(outside)
    argo = proxy.argo()
    for path in (proxy.work / "file", proxy.work / "directory" / "file", proxy.work / "directory"):
        refused(lambda path=path: argo.save("a", path), "Save", "root", "INVALID_ARGUMENT")
    argo.save_stream("a", b"stored")
    refused(lambda: argo.load("a", proxy.work / "directory" / "new"), "Load", "root", "INVALID_ARGUMENT")
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert stored(proxy) == {"a"}


def test_a_link_created_during_the_save_of_a_directory_is_not_followed(begin):
    proxy = begin(document([ALLOW]))
    tree = proxy.work / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(bytes(2 * beside.SMALL))  # too large to be on its way beside another file
    (tree / "b").write_bytes(b"plain")
    swapped = proxy.argo("fault: swap on SaveStream\n")
    refused(lambda: swapped.save("t", tree), "Save", "changed while it was read", "INVALID_ARGUMENT")
    assert (tree / "b").is_symlink()
    assert eventually(lambda: stored(proxy) == set())


@WAYS
def test_a_pipe_is_refused_without_waiting_for_it(begin, transfer):
    proxy = begin(document([ALLOW]), transfer=transfer)
    os.mkfifo(proxy.work / "pipe")
    refused(lambda: proxy.argo().save("a", proxy.work / "pipe"), "Save", "a pipe", "INVALID_ARGUMENT")


def test_a_rule_about_paths_applies_to_the_resolved_path(begin, make):
    proxy: Proxy = make()
    private = {"effect": "deny", "match": {"localPaths": [f"{proxy.work}/private/**"]}}
    proxy.settings["policies"] = [document([ALLOW, private])]
    proxy.start()
    (proxy.work / "private").mkdir()
    (proxy.work / "private" / "x").write_bytes(b"plain")
    (proxy.work / "link").symlink_to("private")
    refused(lambda: proxy.argo().save("a", proxy.work / "link" / "x"), "Save", "(policy main, rule r1, DENIED)")
    assert stored(proxy) == set()


# --- several documents, trials, errors ---------------------------------------------------------------------


def test_rules_of_two_documents_are_pooled(begin):
    platform = document([{"effect": "deny", "match": {"keys": ["**/*.pem"]}}], name="platform")
    tenant = document([{"effect": "allow", "match": {"keys": ["a/**"]}}], name="tenant")
    argo = begin(platform, tenant).argo()
    argo.save_stream("a/x", b"plain")
    refused(lambda: argo.save_stream("a/x.pem", b"plain"), "SaveStream", "(policy platform, rule r0, DENIED)")
    refused(lambda: argo.save_stream("b", b"plain"), "SaveStream", "(NO_RULE)")


@pytest.mark.parametrize("mode", ["warn", "shadow"])
def test_a_policy_on_trial_denies_nothing_and_is_logged_in_mode_warn_alone(begin, mode):
    proxy = begin(document([{"effect": "deny", "match": {"keys": ["a/**"]}}], enforcement=mode))
    argo = proxy.argo()
    argo.save_stream("a/x", b"plain")
    assert argo.open_stream("a/x") == b"plain"
    warning = "key=a/x, would_deny=['main/r0']"
    assert (warning in proxy.output()) == (mode == "warn")
    plant(proxy, "a/planted", b"never sealed", None)
    refused(lambda: argo.open_stream("a/planted"), "OpenStream", "PLAINTEXT")


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_on_error_decides_about_a_rule_that_cannot_be_evaluated(begin, on_error):
    unknown = {"effect": "deny", "match": {"identity": {"serviceAccounts": ["robot"]}}}
    argo = begin(document([ALLOW, unknown], onError=on_error)).argo()
    if on_error == "allow":
        argo.save_stream("a", b"plain")
    else:
        refused(lambda: argo.save_stream("a", b"plain"), "SaveStream", "(policy main, rule r1, ERROR)")


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_on_error_decides_about_a_condition_that_fails(begin, on_error):
    pytest.importorskip("cel_expr_python", reason="the extra for conditions is not installed")
    argo = begin(document([ALLOW, {"effect": "deny", "when": "segments[3] == 'x'"}], onError=on_error)).argo()
    if on_error == "allow":
        argo.save_stream("a", b"plain")
    else:
        refused(lambda: argo.save_stream("a", b"plain"), "SaveStream", "(policy main, rule r1, ERROR)")
    argo.save_stream("1/2/3/y", b"plain")
    refused(lambda: argo.save_stream("1/2/3/x", b"plain"), "SaveStream", "(policy main, rule r1, DENIED)")


# --- what a write would replace, and whose key seals -------------------------------------------------------


@WAYS
def test_a_write_once_object_is_replaced_by_no_operation(begin, transfer):
    proxy = begin(document([ALLOW, {"effect": "require", "require": {"overwrite": "deny"}}]), transfer=transfer)
    argo, source = proxy.argo(), proxy.work / "source"
    source.write_bytes(b"second")
    argo.save_stream("a", b"first")
    refused(lambda: argo.save_stream("a", b"second"), "SaveStream", "(policy main, rule r1, OVERWRITE)")
    refused(lambda: argo.save("a", source), "Save", "(policy main, rule r1, OVERWRITE)")
    assert argo.open_stream("a") == b"first"
    blind = proxy.argo("fault: refuse on OpenStream\n" if transfer == "stream" else "fault: refuse on Load\n")
    found = refused(lambda: blind.save("b", source), "Save", "(policy main, rule r1, OVERWRITE)")
    assert "it is unknown whether an object is already stored under this key" in found.text
    assert stored(proxy) == {"a"}


def test_an_author_chooses_only_a_listed_key_of_the_configured_mount(begin):
    chosen = {"key": "default", "authorKeys": ["transit/keys/default"]}
    proxy = begin(document([ALLOW], encryption=[chosen]))
    for key in ("default", "transit/keys/default"):
        proxy.argo(f"sealgate: {{key: {key}}}\n").save_stream("a", b"plain")
    for key in ("another", "kv/keys/default"):
        asked = proxy.argo(f"sealgate: {{key: {key}}}\n")
        refused(lambda asked=asked: asked.save_stream("b", b"plain"), "SaveStream", key, "INVALID_ARGUMENT")
    assert stored(proxy) == {"a"}


def test_an_artifact_sealed_for_one_tenant_is_not_opened_for_another(begin, make):
    policy = document([ALLOW], encryption=[{"key": "default", "context": {"tenant": "${identity.namespace}"}}])
    proxy = begin(policy, environment={"SEALGATE_NAMESPACE": "team-a"})
    proxy.argo().save_stream("a", b"plain")
    other: Proxy = make(
        home=proxy.home, settings={"policies": [policy]}, environment={"SEALGATE_NAMESPACE": "team-b"}
    ).start()
    refused(lambda: other.argo().open_stream("a"), "OpenStream", "(policy main, rule encryption/e0, CONTEXT)")
    refused(lambda: other.argo().load("a", Path(other.work, "x")), "Load", "encryption/e0, CONTEXT")
    assert proxy.argo().open_stream("a") == b"plain"

"""Every fault of a downstream, on every operation.

After each fault the status and the text are as expected, the destination, the spool and the storage are unchanged,
and the next call works.
"""

from __future__ import annotations

import shutil
import threading

import psutil
import pytest
from harness.chain import VENDOR, Proxy, eventually
from harness.content import blob, read_tree, write_tree
from harness.outcome import IN_THE_ANSWER, Outcome, assert_own_line, outcome
from harness.stand import LARGE, OPERATIONS, Stand, filled

# --- the downstream is absent ----------------------------------------------------------------------------

ABSENT = {
    "no process on the socket": {"socket": "/nowhere/socket", "startTimeout": "100ms"},
    "no such command": {"command": ["/nowhere/plugin"]},
    "a command that may not be run": {"command": ["/etc/passwd"]},
    "a command that ends at once": {"command": ["true"], "startTimeout": "100ms"},
    "a command that never listens": {"command": ["sleep", "1000"], "startTimeout": "100ms"},
}


@pytest.mark.parametrize("transfer", ["file", "stream", "auto"])
@pytest.mark.parametrize("absent", ABSENT)
def test_an_absent_downstream_is_unavailable(start, key, absent, transfer):
    proxy = start(downstream=ABSENT[absent], settings={"spool": {"transfer": transfer}})
    stand = Stand(proxy, key)
    for operation in OPERATIONS:
        assert_own_line(stand.attempt(operation), "UNAVAILABLE", operation, stand.key(operation))
    assert not stand.target.exists()
    assert not proxy.spools()
    assert proxy.argo().supports_save_stream()


# --- the downstream dies ---------------------------------------------------------------------------------


@pytest.fixture(params=["file", "stream", "auto"])
def own(request, start, key) -> Stand:
    """A proxy for one test alone, because a downstream that dies often is restarted with growing delays."""
    return filled(start(settings={"spool": {"transfer": request.param}}, environment={"VENDOR_STREAMS": "1"}), key)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_downstream_that_dies_is_unavailable_and_restarted(own, operation):
    fault = f"fault: die on {own.downstream_operation(operation)}\n"
    assert_own_line(own.attempt(operation, fault), "UNAVAILABLE", operation, own.key(operation))
    own.assert_clean()


def vendor_process(proxy: Proxy) -> psutil.Process:
    for child in psutil.Process(proxy.process.pid).children(recursive=True):
        if VENDOR[-1] in child.cmdline() and "guardian.py" not in " ".join(child.cmdline()):
            return child
    raise AssertionError(proxy.output())


def test_a_downstream_killed_while_idle_is_restarted(own):
    vendor = vendor_process(own.proxy)
    vendor.kill()
    vendor.wait()
    found = own.attempt("Save")
    if found.code != "OK":  # the call came before the proxy noticed
        assert_own_line(found, "UNAVAILABLE", "Save", own.new)
    (own.proxy.storage / own.new).unlink(missing_ok=True)
    own.assert_clean()


def test_a_downstream_killed_during_a_load_leaves_nothing(start, key):
    options = {"settings": {"spool": {"transfer": "stream"}}, "environment": {"VENDOR_STREAMS": "1"}}
    stand = filled(start(**options), key)
    argo = stand.proxy.argo("fault: stall\n")
    failed: list[Outcome] = []
    call = threading.Thread(target=lambda: failed.append(outcome(stand.tries(argo)["Load"])))
    call.start()
    assert eventually(lambda: f"stall on OpenStream of {stand.stored}\n" in stand.proxy.output())
    vendor_process(stand.proxy).kill()
    call.join()
    assert_own_line(failed[0], "UNAVAILABLE", "Load", stand.stored)
    stand.assert_clean()


# --- the downstream hangs --------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_to_a_hanging_downstream_ends_at_the_callers_deadline(stand, operation):
    downstream = stand.downstream_operation(operation)
    ended = stand.proxy.storage / "hang-ended"
    assert stand.attempt(operation, f"fault: hang on {downstream}\n", timeout=0.7).code == "DEADLINE_EXCEEDED"
    if f"hang on {downstream} of {stand.key(operation)}\n" in stand.proxy.output():
        assert eventually(ended.exists)
        ended.unlink()
    stand.assert_clean()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_to_a_hanging_downstream_ends_when_the_caller_cancels(stand, operation):
    downstream = stand.downstream_operation(operation)
    ended = stand.proxy.storage / "hang-ended"
    argo = stand.proxy.argo(f"fault: hang on {downstream}\n")
    failed: list[Outcome] = []
    call = threading.Thread(target=lambda: failed.append(outcome(stand.tries(argo)[operation])))
    call.start()
    assert eventually(lambda: f"hang on {downstream} of {stand.key(operation)}\n" in stand.proxy.output())
    argo.close()
    call.join()
    assert failed[0].code == "CANCELLED"
    assert eventually(ended.exists)
    ended.unlink()
    stand.assert_clean()


# --- the downstream gives a wrong answer -----------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_downstreams_own_status_passes_unchanged(stand, operation):
    assert stand.attempt(operation, "fault: status\n") == Outcome("ALREADY_EXISTS", "the vendor's own words")
    stand.assert_clean()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_downstreams_own_refusal_passes_unchanged(stand, operation):
    downstream = stand.downstream_operation(operation)
    fault = "refuse-early" if downstream == "SaveStream" else f"refuse on {downstream}"
    assert stand.attempt(operation, f"fault: {fault}\n") == Outcome(IN_THE_ANSWER, "quota of the vendor exceeded")
    stand.assert_clean()


LOADS = {"short": "DATA_LOSS", "nothing": "DATA_LOSS", "link": "DATA_LOSS"}


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
@pytest.mark.parametrize("fault", LOADS)
def test_a_load_that_falsely_reports_success_is_data_loss(by_files, operation, fault):
    found = by_files.attempt(operation, f"fault: {fault} on Load\n")
    assert_own_line(found, LOADS[fault], operation, by_files.stored)
    by_files.assert_clean()


STREAMS = {
    "early-end": ("DATA_LOSS", None),
    "early-close": ("DATA_LOSS", None),
    "error-midway": (IN_THE_ANSWER, "the vendor's disk broke"),
    "abort-midway": ("ABORTED", "the vendor gave up"),
}


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
@pytest.mark.parametrize("fault", STREAMS)
def test_a_stream_that_ends_early_is_an_error(by_streams, operation, fault):
    code, text = STREAMS[fault]
    found = by_streams.attempt(operation, f"fault: {fault} on OpenStream\n")
    if text is None:
        assert_own_line(found, code, operation, by_streams.stored)
    else:
        assert found == Outcome(code, text)
    by_streams.assert_clean()


@pytest.mark.parametrize("operation", ["Save", "SaveStream"])
def test_a_success_before_the_end_of_the_upload_is_an_error(by_streams, operation):
    found = by_streams.attempt(operation, "fault: confirm-early\n")
    assert_own_line(found, "DATA_LOSS", operation, by_streams.new)
    by_streams.assert_clean()


@pytest.mark.parametrize("operation", ["Save", "SaveStream"])
def test_an_upload_that_the_downstream_aborts_stores_nothing(by_streams, operation):
    found = by_streams.attempt(operation, "fault: abort-midway\n")
    assert found == Outcome("ABORTED", "the vendor gave up")
    by_streams.assert_clean()


@pytest.mark.parametrize("fault", ["outside", "climb"])
def test_a_listing_with_keys_outside_the_directory_changes_nothing_of_a_load(by_streams, fault):
    proxy = by_streams.proxy
    tree = write_tree(by_streams.source.with_name(f"{by_streams.source.name}-tree"))
    proxy.argo().save(f"{by_streams.new}-tree", tree)
    proxy.argo(f"fault: {fault}\n").load(f"{by_streams.new}-tree", by_streams.target)
    assert read_tree(by_streams.target) == read_tree(tree)
    shutil.rmtree(by_streams.target)
    by_streams.assert_clean()


def test_a_listing_larger_than_the_limit_is_denied(stand):
    found = stand.attempt("ListObjects", "fault: huge\n")
    assert_own_line(found, "PERMISSION_DENIED", "ListObjects", stand.stored)
    assert "90000 names exceeds maxListing 10000" in found.text
    stand.assert_clean()


def test_operations_that_the_downstream_lacks_are_replaced(start, key):
    stand = filled(start(environment={"VENDOR_STREAMS": "1"}), key)
    lacking = "fault: unimplemented\n"
    assert stand.proxy.argo(lacking).open_stream(stand.stored) == blob(LARGE)
    assert not stand.proxy.argo(lacking).is_directory(stand.stored)
    stand.assert_clean()


def test_transfer_stream_without_streams_names_the_setting_to_change(start, key):
    stand = Stand(start(settings={"spool": {"transfer": "stream"}}), key)
    for operation in ("Save", "SaveStream"):
        found = stand.attempt(operation)
        assert_own_line(found, "FAILED_PRECONDITION", operation, stand.new)
        assert "spool.transfer" in found.text
    assert not (stand.proxy.storage / stand.new).exists()


def test_with_transfer_stream_an_unimplemented_open_stream_passes_unchanged(by_streams):
    found = by_streams.attempt("OpenStream", "fault: unimplemented on OpenStream\n")
    assert found == Outcome("UNIMPLEMENTED", "no such thing here")
    by_streams.assert_clean()

"""A plugin of this program as the downstream without a socket: its failures are the answers of a downstream."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from harness.memory_plugin import MemoryPlugin

from sealgate.call import Call, Operation
from sealgate.errors import (
    AlreadyStored,
    Cancelled,
    DeadlineExceeded,
    Denied,
    DownstreamStatus,
    LimitReached,
    PluginError,
    Refused,
    Unavailable,
)
from sealgate.layers.digested import Digested
from sealgate.plugin import Artifact
from sealgate.rpc.edge import LARGEST_ANSWER
from sealgate.rpc.in_process import InProcess

MODEL = Artifact("team/model")


class Failing(MemoryPlugin):
    """Raises `fault` in each operation, in an upload after its last chunk."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault

    def fail(self, *_: object) -> None:
        raise self.fault

    load = save = delete = list_objects = is_directory = fail

    def open_stream(self, call, artifact):
        yield b"some"
        raise self.fault

    def save_stream(self, call, artifact, chunks):
        for _ in chunks:
            pass
        raise self.fault


def tries(plugin: InProcess, call: Call, tmp_path) -> dict[str, Callable[[], object]]:
    return {
        "Load": lambda: plugin.load(call, MODEL, tmp_path / "out"),
        "OpenStream": lambda: list(plugin.open_stream(call, MODEL)),
        "Save": lambda: plugin.save(call, MODEL, tmp_path / "in"),
        "SaveStream": lambda: plugin.save_stream(call, MODEL, iter([b"some"])),
        "Delete": lambda: plugin.delete(call, MODEL),
        "ListObjects": lambda: plugin.list_objects(call, MODEL),
        "IsDirectory": lambda: plugin.is_directory(call, MODEL),
    }


def raised(fault: Exception, operation: str, tmp_path, call: Call | None = None) -> PluginError:
    call = call or Call(Operation.SAVE)
    with pytest.raises(PluginError) as found:
        tries(InProcess(Failing(fault)), call, tmp_path)[operation]()
    assert found.value.__cause__ is None
    return found.value


every_operation = pytest.mark.parametrize("operation", [one for one in Operation if one != "GetCapabilities"])


@every_operation
def test_a_failure_is_a_status_of_the_downstream_with_its_own_line(operation, tmp_path, call):
    error = raised(Unavailable("the store cannot be reached", says="the store"), operation, tmp_path, call)
    assert isinstance(error, DownstreamStatus)
    assert error.code == "UNAVAILABLE"
    line = f'Load "team/model": the store cannot be reached (the store). (connect: connection refused) [d={call.id}]'
    assert error.line(call, "another key") == line


@every_operation
def test_a_refusal_stays_one_in_the_answer(operation, tmp_path):
    class Missing(Refused):
        pass

    error = raised(Missing("not found"), operation, tmp_path)
    assert type(error) is Refused
    assert error.fact == "not found"


@every_operation
def test_a_defect_is_logged_and_its_text_is_in_no_answer(operation, tmp_path, caplog):
    error = raised(KeyError("a secret"), operation, tmp_path)
    assert isinstance(error, DownstreamStatus)
    assert (error.code, "secret" in error.fact, "KeyError" in error.fact) == ("INTERNAL", False, True)
    assert "secret" not in caplog.text
    assert "unexpected error" in caplog.text


@every_operation
def test_too_many_open_files_are_a_fault_that_passes(operation, tmp_path):
    error = raised(OSError(errno.EMFILE, "too many"), operation, tmp_path)
    assert isinstance(error, DownstreamStatus)
    assert error.code == "RESOURCE_EXHAUSTED"
    assert "i/o timeout" in error.fact


def test_a_taken_key_is_one_for_a_write_that_must_not_replace_anything(tmp_path):
    found = raised(AlreadyStored(says="the store"), "SaveStream", tmp_path, Call(Operation.SAVE, only_new=True))
    assert isinstance(found, AlreadyStored)
    assert found.says == "downstream"
    assert isinstance(raised(AlreadyStored(), "SaveStream", tmp_path), DownstreamStatus)


@every_operation
@pytest.mark.parametrize("ending", [Cancelled, DeadlineExceeded, LimitReached])
def test_a_call_that_ends_reports_its_own_reason_and_reaches_no_store(operation, ending, tmp_path):
    call = Call(Operation.SAVE)
    if ending is Cancelled:
        call.cancel()
    elif ending is DeadlineExceeded:
        call.deadline = time.monotonic()
    else:
        call.end(LimitReached("no room"))
    plugin = MemoryPlugin()
    with pytest.raises(ending):
        tries(InProcess(plugin), call, tmp_path)[operation]()
    assert plugin.calls == []


@pytest.mark.parametrize("fault", [Denied("too large"), OSError(errno.EIO, "a local disk"), ValueError("a defect")])
def test_what_the_chunks_of_an_upload_raise_is_raised_as_it_is(fault):
    def chunks() -> Iterator[bytes]:
        yield b"some"
        raise fault

    plugin = MemoryPlugin()
    with pytest.raises(type(fault)) as found:
        InProcess(plugin).save_stream(Call(Operation.SAVE_STREAM), MODEL, chunks())
    assert found.value is fault
    assert plugin.objects == {}


def test_a_listing_is_as_large_as_one_over_a_socket_at_most():
    class Lists(MemoryPlugin):
        def list_objects(self, call, artifact):
            return ["k" * 1024] * (LARGEST_ANSWER // 1024)

    with pytest.raises(DownstreamStatus) as found:
        InProcess(Lists()).list_objects(Call(Operation.LIST_OBJECTS), MODEL)
    assert found.value.code == "RESOURCE_EXHAUSTED"


def test_a_stream_that_is_closed_early_closes_that_of_the_plugin():
    closed = []

    class Streams(MemoryPlugin):
        def open_stream(self, call, artifact):
            try:
                yield b"some"
                yield b"more"
            finally:
                closed.append(artifact.key)

    stream = InProcess(Streams()).open_stream(Call(Operation.OPEN_STREAM), MODEL)
    assert next(stream) == b"some"
    stream.close()
    assert closed == [MODEL.key]


@pytest.mark.parametrize("digested", [False, True])
def test_an_upload_that_is_refused_midway_has_closed_its_chunks(digested):
    closed = []

    class Refuses(MemoryPlugin):
        def save_stream(self, call, artifact, chunks):
            next(chunks)
            raise Refused("no quota")

    def chunks() -> Iterator[bytes]:
        try:
            yield b"some"
            yield b"more"
        finally:
            closed.append(True)

    plugin = InProcess(Refuses())
    given = chunks()
    with pytest.raises(Refused) as found:
        (Digested(plugin) if digested else plugin).save_stream(Call(Operation.SAVE_STREAM), MODEL, given)
    assert closed == [True]
    assert found.value.fact == "no quota"


def test_each_operation_is_a_step_of_the_trace(tmp_path):
    steps = []

    @contextmanager
    def step(name: str) -> Iterator[str]:
        steps.append(name)
        yield ""

    call = Call(Operation.SAVE)
    call.trace.step = step
    plugin = InProcess(MemoryPlugin())
    plugin.save_stream(call, MODEL, iter([b"some"]))
    assert b"".join(plugin.open_stream(call, MODEL)) == b"some"
    plugin.delete(call, MODEL)
    assert steps == ["store SaveStream", "store OpenStream", "store Delete"]

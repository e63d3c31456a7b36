"""Checks of OpenStream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from sealgate.argo import LARGEST_MESSAGE
from sealgate.conformance.checks import ContractCheck, Violation
from sealgate.conformance.client import CallFailed
from sealgate.conformance.content import Content
from sealgate.conformance.files import sizes
from sealgate.conformance.workspace import SMALL, Workspace

_LONG = (2 << 20) + 5
"""Bytes of an artifact that a plugin cannot have sent while its reader takes one message only."""
_OVER_MESSAGE = LARGEST_MESSAGE + 1
_ABANDONED = 80
"""Streams that are cancelled one after the other: more than the threads that common servers have."""
_SLOW = 4
"""Readers that stop reading at once."""


def _differs(workspace: Workspace, key: str, content: Content) -> str:
    try:
        return content.difference(workspace.client.read_stream(key))
    except CallFailed as fault:
        return str(fault)


def _sizes(workspace: Workspace) -> str:
    wrong = []
    for size in sizes(workspace):
        content = Content(size, size)
        key = workspace.saved(f"streams/{size}.bin", content)
        difference = _differs(workspace, key, content)
        # Where Save has stored other bytes, the stream is right to send those: file-sizes reports that.
        if difference and difference != workspace.difference(key, content):
            wrong.append(f"of {size} bytes: {difference}")
    if wrong:
        raise Violation("the stream ended without an error, or failed, " + "; ".join(wrong))
    return f"read {len(sizes(workspace))} sizes up to {sizes(workspace)[-1]} bytes"


def _empty(workspace: Workspace) -> str:
    key = workspace.saved("streams/empty", Content(0))
    if difference := Content(0).difference(workspace.client.read_stream(key)):
        raise Violation(f"the stream of a file of 0 bytes has {difference}")
    return "the stream of a file of 0 bytes had no data"


def _end(workspace: Workspace) -> str:
    for size in (SMALL, _LONG):
        key = workspace.saved("ending.bin", Content(size))
        with workspace.client.frames(key) as stream:
            for frame in stream:
                if frame.data and (frame.is_end or frame.error):
                    field = "is_end" if frame.is_end else "error"
                    raise Violation(f"a message has {len(frame.data)} bytes of data and {field}")
                if frame.is_end or frame.error:
                    break
    return "no message has data beside is_end or error"


def _messages(workspace: Workspace) -> str:
    key = workspace.saved("messages.bin", Content(_OVER_MESSAGE))
    largest = 0
    try:
        with workspace.client.frames(key) as stream:
            for frame in stream:
                largest = max(largest, frame.ByteSize())
                if frame.is_end or frame.error:
                    break
    except CallFailed as fault:
        if largest <= LARGEST_MESSAGE and fault.code != "RESOURCE_EXHAUSTED":
            raise
        raise Violation(f"a message is larger than {LARGEST_MESSAGE} bytes: {fault.text}") from None
    if largest > LARGEST_MESSAGE:
        raise Violation(f"a message has {largest} bytes; Argo accepts up to {LARGEST_MESSAGE}")
    return f"the largest message has {largest} bytes"


def _absent(workspace: Workspace) -> str:
    got = 0
    try:
        for data in workspace.client.read_stream(workspace.key("never-saved")):
            got += len(data)
    except CallFailed as fault:
        if got:
            raise Violation(f"{got} bytes came before the error") from None
        return f"the stream ended with an error: {fault.text}"
    raise Violation(f"the stream of an absent artifact ended without an error after {got} bytes")


def _while_deleted(workspace: Workspace) -> str:
    content = Content(_LONG, 3)
    key = workspace.saved("deleted-while-read.bin", content)
    return _interrupted(workspace, key, [content], lambda: workspace.client.delete(key), "a Delete")


def _while_saved(workspace: Workspace) -> str:
    old, new = Content(_LONG, 4), Content(_LONG // 2, 5)
    key = workspace.saved("saved-while-read.bin", old)
    return _interrupted(
        workspace, key, [old, new], lambda: workspace.saved("saved-while-read.bin", new), "a Save of other bytes"
    )


def _interrupted(
    workspace: Workspace, key: str, contents: Sequence[Content], act: Callable[[], object], what: str
) -> str:
    """Read `key`, and call `act` after the first message. The stream must give one of `contents`, or an error."""
    received = bytearray()
    try:
        with workspace.client.frames(key) as stream:
            for number, frame in enumerate(stream):
                received += frame.data
                if frame.error:
                    return f"{what} meanwhile ended the stream with an error: {frame.error}"
                if frame.is_end or len(received) > _LONG:
                    break
                if number == 0:
                    act()
    except CallFailed as fault:
        return f"{what} meanwhile ended the stream with {fault.code}"
    if any(not content.difference([bytes(received)]) for content in contents):
        return f"{what} meanwhile did not change what the reader got"
    raise Violation(f"after {what} meanwhile, the stream ended without an error, but with {len(received)} wrong bytes")


def _slow(workspace: Workspace) -> str:
    key = workspace.saved("slow.bin", Content(_LONG, 6))
    other, small = workspace.key("file"), Content(SMALL)
    with ExitStack() as readers:
        for _ in range(_SLOW):
            client = workspace.client.on_its_own_connection()
            readers.callback(client.close)
            try:
                next(iter(readers.enter_context(client.frames(key))), None)
            except CallFailed as fault:
                raise Violation(f"while readers paused, a further one got no message: {fault}") from None
        if difference := workspace.difference(other, small):
            raise Violation(f"while {_SLOW} readers paused, Load created {difference}")
    return f"Load went on while {_SLOW} readers paused"


def _abandoned(workspace: Workspace) -> str:
    content = Content(_LONG, 7)
    key = workspace.saved("abandoned.bin", content)
    for _ in range(_ABANDONED):
        with workspace.client.frames(key) as stream:
            next(iter(stream), None)
    if difference := _differs(workspace, key, content):
        raise Violation(f"after {_ABANDONED} cancelled streams: {difference}")
    return f"a stream worked after {_ABANDONED} cancelled ones"


CHECKS = (
    ContractCheck(
        "stream-sizes",
        (46, 48, 49),
        "OpenStream sends every byte before it ends without an error",
        "a browser gets a part of the file with HTTP 200, and nothing says that it is not whole",
        _sizes,
        needs=("file",),
    ),
    ContractCheck(
        "stream-empty",
        (50,),
        "The stream of a file of 0 bytes has no data, and ends without an error",
        "an empty log cannot be opened in the user interface",
        _empty,
        needs=("file-empty",),
    ),
    ContractCheck(
        "stream-end",
        (46,),
        "No message has data together with is_end or error",
        "Argo drops that data: the file that a browser gets lacks its end",
        _end,
        needs=("file",),
    ),
    ContractCheck(
        "stream-messages",
        (47,),
        "Each message has at most 4 MiB",
        "Argo's client refuses the message, and the file cannot be opened in the user interface",
        _messages,
        needs=("file",),
    ),
    ContractCheck(
        "stream-absent",
        (48, 51),
        "OpenStream of an absent artifact ends with an error, before any data",
        "a browser gets an empty file with HTTP 200 instead of an error",
        _absent,
        needs=("connect",),
    ),
    ContractCheck(
        "stream-deleted",
        (48, 49),
        "A stream whose artifact is deleted meanwhile sends all of it, or ends with an error",
        "a browser gets a part of the file, and nothing says that it is not whole",
        _while_deleted,
        needs=("file-sizes", "stream-sizes"),
    ),
    ContractCheck(
        "stream-replaced",
        (34, 48),
        "A stream whose artifact is replaced meanwhile sends the old or the new one, or ends with an error",
        "a browser gets a mixture of two artifacts, and nothing says so",
        _while_saved,
        needs=("save-replaces", "file-sizes", "stream-sizes"),
    ),
    ContractCheck(
        "stream-slow",
        (52, 62),
        "Other calls go on while readers pause",
        "one browser that stops reading blocks the artifacts of all users of Argo's server",
        _slow,
        needs=("file",),
    ),
    ContractCheck(
        "stream-cancel",
        (52,),
        "A cancelled stream frees what it used",
        "after some cancelled downloads Argo's server cannot open artifacts until the plugin is restarted",
        _abandoned,
        needs=("file-sizes", "stream-sizes"),
    ),
)

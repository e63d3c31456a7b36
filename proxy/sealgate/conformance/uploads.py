"""Checks of GetCapabilities and SaveStream."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

from sealgate.argo import LARGEST_CHUNK
from sealgate.conformance.checks import ContractCheck, NotApplicable, Violation
from sealgate.conformance.client import CallFailed, UploadCall
from sealgate.conformance.content import Content
from sealgate.conformance.files import sizes
from sealgate.conformance.workspace import LONG_KEY, SMALL, Workspace

_CHUNK = 100
_CUT_AFTER = (0, 1, 2, SMALL // _CHUNK)
"""The chunks that arrive before an upload is cut: none, the first, some, and all but the end of the stream."""
_REFUSED_SECONDS = 5.0
"""Within this time a plugin has refused an upload, if it refuses it before its end."""
_IN_BYTES = 200
"""The bytes of an upload that has one in each message."""


def _capabilities(workspace: Workspace) -> str:
    supported = workspace.client.supports_save_stream()
    return "it offers SaveStream" if supported else "it does not offer SaveStream"


def _require_offer(workspace: Workspace) -> None:
    if not workspace.client.supports_save_stream():
        raise NotApplicable("it does not offer SaveStream; Argo's server then saves a file that it cannot read")


def _difference(workspace: Workspace, key: str, content: Content) -> str:
    """Read by Load and by OpenStream. A fault of one of them is reported by another check."""
    by_load = workspace.difference(key, content)
    return by_load and content.difference(workspace.client.read_stream(key)) and by_load


def _upload(workspace: Workspace) -> str:
    _require_offer(workspace)
    content, key = Content(SMALL, 10), workspace.key("uploads/small")
    workspace.client.save_stream(key, content.chunks())
    if difference := _difference(workspace, key, content):
        raise Violation(f"after the upload, Load created {difference}")
    return f"uploaded and loaded {SMALL} bytes"


def _sizes(workspace: Workspace) -> str:
    _require_offer(workspace)
    wrong = []
    tried = [*((size, LARGEST_CHUNK) for size in (*sizes(workspace), LARGEST_CHUNK + 1)), (_IN_BYTES, 1)]
    for size, frame in tried:
        content, key = Content(size, size), workspace.key(f"uploads/{size}-{frame}.bin")
        try:
            workspace.client.save_stream(key, content.chunks(frame))
            difference = _difference(workspace, key, content)
        except CallFailed as fault:
            difference = str(fault)
        if difference:
            wrong.append(f"of {size} bytes in messages of {frame}: {difference}")
    if wrong:
        raise Violation("; ".join(wrong))
    return f"uploaded {len(tried)} sizes in messages of 1 byte and of 2 MiB"


def _empty(workspace: Workspace) -> str:
    _require_offer(workspace)
    key = workspace.key("uploads/empty")
    workspace.client.save_stream(key, ())
    if difference := _difference(workspace, key, Content(0)):
        raise Violation(f"after an upload of the first message alone, Load created {difference}")
    return "an upload of 0 bytes became an empty file"


def _cut_uploads(workspace: Workspace, keys: list[str], content: Content) -> None:
    """Begin an upload to each key, let it get as far as `_CUT_AFTER` says, and cancel it."""
    with ExitStack() as uploads:
        for key, count in zip(keys, _CUT_AFTER, strict=True):
            held = threading.Event()
            uploads.callback(held.set)  # the thread that gRPC sends from must not wait for ever

            def chunks(count: int = count, held: threading.Event = held) -> Iterator[bytes]:
                yield from list(content.chunks(_CHUNK))[:count]
                held.wait()

            uploads.enter_context(UploadCall(workspace.client, workspace.client.artifact(key), chunks()))
        time.sleep(workspace.extent.settle)  # what was sent has arrived
    time.sleep(workspace.extent.settle)


def _cut(workspace: Workspace) -> str:
    _require_offer(workspace)
    keys = [workspace.key(f"uploads/cut-{count}") for count in _CUT_AFTER]
    _cut_uploads(workspace, keys, Content(SMALL, 11))
    for key, count in zip(keys, _CUT_AFTER, strict=True):
        if workspace.is_stored(key):
            raise Violation(f"an upload that was cancelled after {count} chunks is stored")
    return f"uploads cut at {len(keys)} points stored nothing"


def _cut_old(workspace: Workspace) -> str:
    _require_offer(workspace)
    old = Content(SMALL, 12)
    keys = [workspace.saved(f"uploads/cut-old-{count}", old) for count in _CUT_AFTER]
    _cut_uploads(workspace, keys, Content(SMALL, 13))
    for key, count in zip(keys, _CUT_AFTER, strict=True):
        if difference := workspace.fault(key, old):
            raise Violation(f"after an upload that was cancelled after {count} chunks, the old artifact: {difference}")
    return f"uploads cut at {len(keys)} points left the older artifact as it was"


def _refused(workspace: Workspace) -> str:
    _require_offer(workspace)
    may_end = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield bytes(_CHUNK)
        may_end.wait()

    artifact = workspace.client.artifact(workspace.key(f"uploads/{'k' * LONG_KEY}"))
    with UploadCall(workspace.client, artifact, chunks()) as upload:
        try:
            answer = upload.answer(min(_REFUSED_SECONDS, workspace.extent.seconds / 2))
        except CallFailed as fault:
            return f"an upload to a key of {LONG_KEY} bytes was refused before its end: {fault.text}"
        except TimeoutError:
            return _refused_late(upload, may_end)
        finally:
            may_end.set()
    if answer.success:
        raise Violation("an upload reported success before it had ended")
    return f"an upload to a key of {LONG_KEY} bytes was refused before its end: {answer.error}"


def _refused_late(upload: UploadCall, may_end: threading.Event) -> str:
    """End the upload, and return normally if the plugin refuses none."""
    may_end.set()
    try:
        answer = upload.answer()
    except CallFailed as fault:
        raise Violation(f"an upload was refused only after its end: {fault.text}") from None
    if not answer.success:
        raise Violation(f"an upload was refused only after its end: {answer.error}")
    raise NotApplicable(f"it accepts a key of {LONG_KEY} bytes, so it refused no upload")


CHECKS = (
    ContractCheck(
        "capabilities",
        (54,),
        "GetCapabilities answers, or is UNIMPLEMENTED",
        "every upload in the user interface fails",
        _capabilities,
        needs=("connect",),
    ),
    ContractCheck(
        "upload",
        (35, 55),
        "SaveStream stores what it gets",
        "an upload in the user interface reports success, and the steps read other bytes",
        _upload,
        needs=("file", "capabilities"),
    ),
    ContractCheck(
        "upload-sizes",
        (55,),
        "Uploads of every size and in messages of every size come back bit for bit",
        "steps work with wrong bytes, and Argo reports no error",
        _sizes,
        needs=("upload", "file-sizes"),
    ),
    ContractCheck(
        "upload-empty",
        (55,),
        "An upload whose only message has the artifact is a file of 0 bytes",
        "a user who uploads an empty file gets an error, or a step finds no file",
        _empty,
        needs=("upload", "file-empty"),
    ),
    ContractCheck(
        "upload-cut",
        (56,),
        "An upload that is cancelled stores nothing",
        "a part of what a user uploads is taken for the whole file",
        _cut,
        needs=("upload", "absent-load"),
    ),
    ContractCheck(
        "upload-cut-old",
        (34, 56),
        "An upload that is cancelled leaves the older artifact as it was",
        "an upload that a user breaks off destroys the artifact that it should replace",
        _cut_old,
        needs=("upload", "upload-cut"),
    ),
    ContractCheck(
        "upload-refused",
        (58,),
        "An upload that is refused ends while Argo still sends",
        "a user waits until everything is uploaded before an error is shown, or for ever",
        _refused,
        needs=("upload",),
    ),
)

"""Checks of keys, messages and connections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from sealgate.conformance.checks import ContractCheck, NotApplicable, Violation
from sealgate.conformance.client import ArgoClient, CallFailed, UploadCall
from sealgate.conformance.content import Content, file_chunks, kind_of
from sealgate.conformance.files import FOREIGN_FILE, is_foreign
from sealgate.conformance.workspace import LONG_KEY, SMALL, Workspace
from sealgate.rpc import artifact_pb2 as pb

_UP = "../" * 12
_UNKNOWN_FIELD = bytes([0xFA, 0x7F, 0x03]) + b"new"
"""The field with the number 2047, which no message has."""
_CRASHED = {"UNKNOWN", "INTERNAL"}
"""The statuses with which gRPC's libraries answer when the code of a plugin failed."""
_IDLE = 100
"""Connections that stay open."""
_AT_ONCE, _EACH = 12, 4
"""Callers at the same time, and how often each of them saves, loads and reads."""
_SLOW_CHUNKS = 4
_TIMEOUT = 1
"""Seconds: `connection_timeout_seconds` of an artifact, which is about the connection and limits no call."""


def _climbing(workspace: Workspace) -> str:
    """Every key stays beneath that of this run, whatever a plugin makes of it."""
    old, new = Content(SMALL, 40), Content(SMALL, 41)
    victim = workspace.saved("climbed/victim", old)
    try:
        workspace.saved("climbed/by/../victim", new)
    except CallFailed as fault:
        return f"a key with .. was refused: {fault.text}"
    if workspace.difference(victim, old):
        raise Violation("Save under climbed/by/../victim replaced the artifact climbed/victim")
    return "a key with .. named an artifact of its own"


def _outside(workspace: Workspace) -> str:
    """Only reads: what these keys name does not belong to this run."""
    for key in (FOREIGN_FILE, f"{workspace.run_key}/{_UP}{FOREIGN_FILE.lstrip('/')}", f"{_UP}{FOREIGN_FILE[1:]}"):
        target = workspace.target()
        try:
            workspace.client.load(key, target)
        except CallFailed:
            continue
        if is_foreign(target):
            shown = key.replace(_UP, "../…/")
            raise Violation(f"Load of the key {shown} returned the plugin's own {FOREIGN_FILE}")
    return f"no key led to {FOREIGN_FILE}"


def _odd(workspace: Workspace) -> str:
    refused = 0
    content = Content(SMALL, 42)
    keys = ("odd//double", "odd/./dot", "odd/end/", "odd/nul\0byte", "odd/line\nbreak", f"odd/{'k' * LONG_KEY}")
    for name in keys:
        shown = repr(name if len(name) <= SMALL else f"odd/kkk… of {len(name)} bytes")
        try:
            key = workspace.saved(name, content)
        except CallFailed as fault:
            if fault.code in _CRASHED and not fault.text.strip():
                raise Violation(f"Save under {shown} failed with {fault.code} and without a text") from None
            refused += 1
            continue
        if difference := workspace.fault(key, content):
            raise Violation(f"Save under {shown} reported success, and then: {difference}")
    if difference := workspace.difference(workspace.key("file"), Content(SMALL)):
        raise Violation(f"after these keys, Load of another artifact created {difference}")
    return f"of {len(keys)} unusual keys it refused {refused}, and stored the others"


def _unknown_fields(workspace: Workspace) -> str:
    target = workspace.target()
    artifact = workspace.client.artifact(workspace.key("file"))
    request = pb.LoadArtifactRequest(input_artifact=artifact, path=str(target)).SerializeToString()
    answer = pb.LoadArtifactResponse.FromString(workspace.client.raw("Load", request + _UNKNOWN_FIELD))
    if not answer.success or Content(SMALL).difference(file_chunks(target)):
        raise Violation(f"a Load with a field that it does not know failed: {answer.error}")
    return "a field that it does not know was ignored"


def _no_artifact(workspace: Workspace) -> str:
    """Call only what reads: a plugin that takes the missing key for an empty one could change everything it stores."""
    for given in (None, pb.Artifact(name="main")):
        what = "an artifact" if given is None else "a plugin in its artifact"
        try:
            with workspace.client.frames_of(given) as stream:
                first = next(iter(stream), None)
        except CallFailed:
            pass
        else:
            if first is None or not first.error:
                raise Violation(f"OpenStream of a request without {what} did not end with an error")
        with suppress(CallFailed):
            workspace.client.unary("IsDirectory", pb.IsDirectoryRequest(artifact=given), pb.IsDirectoryResponse)
    if difference := workspace.difference(workspace.key("file"), Content(SMALL)):
        raise Violation(f"after requests without an artifact, Load created {difference}")
    return "requests without an artifact were refused, and the next call worked"


def _configuration(workspace: Workspace) -> str:
    """An author's configuration can contain credentials. Whether it is accepted here does not matter."""
    client = workspace.client.on_its_own_connection()
    client.configuration = f'{{"{workspace.canary}": [" unbalanced {workspace.canary}'
    said = []
    try:
        for call in (
            lambda: client.load(workspace.key("never-saved"), workspace.target()),
            lambda: client.save(workspace.key("never-saved-either"), workspace.target()),
            lambda: client.list_objects(workspace.key("never-saved")),
        ):
            try:
                call()
            except CallFailed as fault:
                said.append(fault.text)
    finally:
        client.close()
    if any(workspace.canary in text for text in said):
        raise Violation("an error repeats the artifact's configuration")
    return "no error repeats the artifact's configuration"


def _connection_timeout(workspace: Workspace) -> str:
    if not workspace.client.supports_save_stream():
        raise NotApplicable("only a SaveStream can be made to last, and it is not offered")
    content, key = Content(SMALL, 43), workspace.key("slow-upload")

    def chunks() -> Iterator[bytes]:
        for chunk in content.chunks(-(-SMALL // _SLOW_CHUNKS)):
            time.sleep(1.2 * _TIMEOUT / _SLOW_CHUNKS)
            yield chunk

    artifact = workspace.client.artifact(key, connection_timeout_seconds=_TIMEOUT)
    with UploadCall(workspace.client, artifact, chunks()) as upload:
        answer = upload.answer()
    if not answer.success:
        raise Violation(f"an upload that took longer than connection_timeout_seconds failed: {answer.error}")
    return "an upload took longer than connection_timeout_seconds"


def _connections(workspace: Workspace) -> str:
    content = Content(SMALL)
    with ExitStack() as idle:
        for number in range(_IDLE):
            client = workspace.client.on_its_own_connection()
            idle.callback(client.close)
            try:
                client.is_directory(workspace.key("file"))
            except CallFailed as fault:
                raise Violation(f"with {number} open connections, {fault}") from None
        if difference := workspace.difference(workspace.key("file"), content):
            raise Violation(f"with {_IDLE} open connections, Load created {difference}")
    return f"it served {_IDLE} connections that stayed open"


def _mixed_calls(client: ArgoClient, workspace: Workspace, number: int) -> str:
    """Save, load, read and list an artifact of this caller; return what was wrong."""
    for attempt in range(_EACH):
        content = Content(SMALL + number * 100 + attempt, number)
        key = workspace.key(f"concurrent/{number}-{attempt}")
        source, target = workspace.source(content), workspace.target()
        client.save(key, source)
        client.load(key, target)
        if kind_of(target) != "a file":
            return f"Load created {kind_of(target)}"
        by_load = content.difference(file_chunks(target))
        if by_load and (by_stream := content.difference(client.read_stream(key))):
            return f"Load created {by_load}, and OpenStream sent {by_stream}"
        if by_load:
            return f"Load created {by_load}"
        client.is_directory(key)
    return ""


def _concurrency(workspace: Workspace) -> str:
    def caller(number: int) -> str:
        client = workspace.client.on_its_own_connection()
        try:
            return _mixed_calls(client, workspace, number)
        except CallFailed as fault:
            return str(fault)
        finally:
            client.close()

    with ThreadPoolExecutor(_AT_ONCE) as callers:
        wrong = [fault for fault in callers.map(caller, range(_AT_ONCE)) if fault]
    if wrong:
        raise Violation(f"of {_AT_ONCE} callers at once, {len(wrong)} got wrong results; the first: {wrong[0]}")
    return f"{_AT_ONCE} callers at once got their own artifacts"


def _alive(workspace: Workspace) -> str:
    workspace.client.connect(min(5.0, workspace.extent.seconds))
    if difference := workspace.difference(workspace.key("file"), Content(SMALL)):
        raise Violation(f"after all checks, Load created {difference}")
    return "the first artifact can still be loaded"


CHECKS = (
    ContractCheck(
        "key-climbs",
        (61,),
        "A key with .. reaches no other artifact",
        "an author whose keys are limited to a prefix reads and replaces artifacts of others",
        _climbing,
        needs=("save-replaces",),
    ),
    ContractCheck(
        "key-outside",
        (61,),
        "No key leads out of the storage",
        "an author reads the plugin's own files, with its credentials",
        _outside,
        needs=("file",),
    ),
    ContractCheck(
        "key-odd",
        (61,),
        "An unusual key is refused, or names an artifact like any other",
        "a step saves its output with success, and later steps cannot load it",
        _odd,
        needs=("file",),
    ),
    ContractCheck(
        "message-fields",
        (59,),
        "Fields that it does not know are ignored",
        "no artifact can be loaded after the next version of Argo",
        _unknown_fields,
        needs=("file",),
    ),
    ContractCheck(
        "message-empty",
        (59,),
        "A request without an artifact, or without its plugin, is refused",
        "one such request ends the plugin, or reaches what it should not",
        _no_artifact,
        needs=("file",),
    ),
    ContractCheck(
        "configuration",
        (19, 60),
        "No error repeats an artifact's configuration",
        "credentials in it are shown in the user interface, and stored in Argo's database",
        _configuration,
        needs=("connect",),
    ),
    ContractCheck(
        "connection-timeout",
        (38, 64),
        "`connection_timeout_seconds` is not a deadline of a call",
        "every large artifact fails after a few seconds",
        _connection_timeout,
        needs=("upload",),
    ),
    ContractCheck(
        "connections",
        (37, 62),
        "Connections that stay open do not use it up",
        "a step with many artifacts fails, and Argo's server stops after some requests",
        _connections,
        needs=("is-directory",),
    ),
    ContractCheck(
        "concurrency",
        (62,),
        "Calls at the same time do not disturb each other",
        "users of Argo's server get artifacts of others, or errors under load",
        _concurrency,
        needs=("file", "stream-cancel", "is-directory"),
    ),
    ContractCheck(
        "alive",
        (29, 52, 59),
        "After all of this it serves as before",
        "one bad call ends the plugin for the rest of the pod's life",
        _alive,
        needs=("file",),
    ),
)

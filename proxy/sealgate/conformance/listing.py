"""Checks of what is said about absent artifacts, of ListObjects and of IsDirectory."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from sealgate.argo import LARGEST_MESSAGE, RETRIED_TEXTS
from sealgate.conformance.checks import ContractCheck, NotChecked, Violation
from sealgate.conformance.client import IN_ANSWER, CallFailed
from sealgate.conformance.content import Content, kind_of, named
from sealgate.conformance.directories import STORED, TREE
from sealgate.conformance.workspace import SMALL, Workspace

_LONGEST_TEXT = 4096
"""Bytes. Kubernetes keeps no more of a container's last words, where Argo puts the text."""
_LONG_SEGMENT = 230
"""Bytes of one segment of a key. File systems accept 255."""
_SEGMENTS = 3


def _failed_load(workspace: Workspace) -> CallFailed:
    """Load an artifact that was never saved, and return how that failed."""
    try:
        workspace.client.load(workspace.key("never-saved"), workspace.target())
    except CallFailed as fault:
        return fault
    raise NotChecked("Load of an absent artifact did not fail")


def _absent_load(workspace: Workspace) -> str:
    target = workspace.target()
    try:
        workspace.client.load(workspace.key("never-saved"), target)
    except CallFailed as fault:
        return f"it failed: {fault.text}"
    raise Violation(f"Load of an absent artifact reported success and created {kind_of(target)}")


def _absent_clean(workspace: Workspace) -> str:
    target = workspace.target()
    with suppress(CallFailed):
        workspace.client.load(workspace.key("never-saved"), target)
    if left := sorted(path.name for path in target.parent.iterdir()):
        raise Violation(f"a Load that failed left {left[0]}")
    return "a Load that failed left nothing"


def _absent_answer(workspace: Workspace) -> str:
    fault = _failed_load(workspace)
    if fault.code != IN_ANSWER:
        raise Violation(f"Load of an absent artifact ended with the status {fault.code}: {fault.text}")
    return "the refusal was in the answer"


def _absent_text(workspace: Workspace) -> str:
    fault = _failed_load(workspace)
    if not fault.text.strip():
        raise Violation("Load of an absent artifact failed without a text")
    if (size := len(fault.text.encode())) > _LONGEST_TEXT:
        raise Violation(f"the text has {size} bytes; Kubernetes keeps {_LONGEST_TEXT}")
    return f"the text has {size} bytes"


def _absent_retried(workspace: Workspace) -> str:
    fault = _failed_load(workspace)
    if found := [text for text in RETRIED_TEXTS if text in fault.text]:
        raise Violation(f'the text for an absent artifact contains "{found[0]}": {fault.text}')
    return "the text contains nothing that Argo retries"


def _list(workspace: Workspace) -> str:
    key = workspace.key(STORED)
    expected = {f"{key}/{name}" for name in TREE}
    listed = workspace.client.list_objects(key)
    parts = {
        "missing": sorted(expected - set(listed)),
        "not saved": sorted(set(listed) - expected),
        "twice": sorted(name for name, count in Counter(listed).items() if count > 1),
    }
    if wrong := [f"{what}: {named(names)}" for what, names in parts.items() if names]:
        raise Violation("of the full keys, " + "; ".join(wrong))
    return f"listed the full keys of {len(listed)} objects"


def _list_absent(workspace: Workspace) -> str:
    if listed := workspace.client.list_objects(workspace.key("never-saved")):
        raise Violation(f"the listing of an absent key has {len(listed)} objects: {named(listed)}")
    return "the listing of an absent key is empty"


def _list_beside(workspace: Workspace) -> str:
    key = workspace.saved_tree("beside", {"inside": b"1"})
    workspace.saved_tree("beside-other", {"outside": b"2"})
    workspace.saved("beside.txt", Content(SMALL))
    if more := [name for name in workspace.client.list_objects(key) if not name.startswith(f"{key}/")]:
        raise Violation(f"the listing contains objects of other artifacts: {named(more)}")
    return "the listing contains no object of another artifact"


def _list_large(workspace: Workspace) -> str:
    parts = "/".join("n" * _LONG_SEGMENT for _ in range(_SEGMENTS))
    tree = {f"{parts}/{number:06d}": b"" for number in range(workspace.extent.files)}
    if sum(len(workspace.run_key) + len(name) for name in tree) < LARGEST_MESSAGE:
        raise NotChecked("needs --files 6000 or more")
    key = workspace.saved_tree("large-listing", tree)
    try:
        size = workspace.client.listing(key).ByteSize()
    except CallFailed as fault:
        return f"a listing of more than 4 MiB is an error: {fault.text}"
    if size > LARGEST_MESSAGE:
        raise Violation(f"the listing has {size} bytes; Argo accepts up to {LARGEST_MESSAGE}")
    raise Violation(f"the listing of {len(tree)} objects has {size} bytes and is not complete")


def _is_directory(workspace: Workspace) -> str:
    workspace.saved_tree("file-other", {"outside": b"2"})
    wrong = []
    for what, name, expected in (("file", "file", False), ("directory", STORED, True)):
        if workspace.client.is_directory(workspace.key(name)) is not expected:
            wrong.append(f"the answer for a {what} is {str(not expected).lower()}")
    if wrong:
        raise Violation("; ".join(wrong))
    return "false for a file, true for a directory"


def _is_directory_absent(workspace: Workspace) -> str:
    if workspace.client.is_directory(workspace.key("never-saved")):
        raise Violation("the answer for an absent key is true")
    return "false for an absent key"


ABSENT_CHECKS = (
    ContractCheck(
        "absent-load",
        (27,),
        "Load of an absent artifact fails",
        "the step runs with an input that is missing or empty",
        _absent_load,
        needs=("connect",),
    ),
    ContractCheck(
        "absent-clean",
        (21,),
        "A Load that fails leaves nothing at the path and beside it",
        "what it left is taken for an input, or makes the next attempt fail",
        _absent_clean,
        needs=("absent-load",),
    ),
    ContractCheck(
        "absent-answer",
        (27,),
        "The refusal is in the answer, and not a gRPC status",
        "the user reads gRPC's words before those of the plugin, as after a crash",
        _absent_answer,
        needs=("absent-load",),
    ),
    ContractCheck(
        "absent-text",
        (27, 35),
        "The refusal says why, in at most 4096 bytes",
        "the user reads that the Load failed, and not why",
        _absent_text,
        needs=("absent-load",),
    ),
    ContractCheck(
        "absent-retried",
        (65,),
        "The refusal contains no text for which Argo retries a step",
        "with `retryPolicy: OnTransientError`, Argo runs the step again and again although nothing can change",
        _absent_retried,
        needs=("absent-load",),
    ),
)
LISTING_CHECKS = (
    ContractCheck(
        "list",
        (41,),
        "ListObjects returns the full key of every file of a directory",
        "the user interface shows a directory without some files, or links that lead nowhere",
        _list,
        needs=("directory",),
    ),
    ContractCheck(
        "list-absent",
        (43,),
        "The listing of a key with nothing beneath it is empty, and not an error",
        "the user interface shows HTTP 500",
        _list_absent,
        needs=("connect",),
    ),
    ContractCheck(
        "list-beside",
        (41,),
        "ListObjects returns no object of an artifact whose key begins with the same letters",
        "the user interface shows files of other artifacts",
        _list_beside,
        needs=("list",),
    ),
    ContractCheck(
        "list-large",
        (42,),
        "A listing of more than 4 MiB is an error that says so",
        "the user interface shows HTTP 500 with an error of gRPC, or a part of the files as if it were all",
        _list_large,
        needs=("list",),
    ),
    ContractCheck(
        "is-directory",
        (44, 45),
        "IsDirectory is false for a file and true for a directory",
        "the user interface shows a listing instead of a file, or an error instead of a listing",
        _is_directory,
        needs=("directory",),
    ),
    ContractCheck(
        "is-directory-absent",
        (44,),
        "IsDirectory of an absent key is false, and not an error",
        "the user interface shows HTTP 500 before it tries to open a file",
        _is_directory_absent,
        needs=("connect",),
    ),
)

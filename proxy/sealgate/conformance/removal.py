"""Checks of Delete."""

from __future__ import annotations

from contextlib import suppress

from sealgate.conformance.checks import ContractCheck, Violation
from sealgate.conformance.client import CallFailed
from sealgate.conformance.content import Content, named
from sealgate.conformance.workspace import SMALL, Workspace

_ATTEMPTS = 5
"""How often Argo calls Delete until it succeeds."""


def _delete(workspace: Workspace) -> str:
    content = Content(SMALL, 30)
    key = workspace.saved("deleted", content)
    workspace.client.delete(key)
    if not workspace.fault(key, content):
        raise Violation("Delete reported success, and the artifact can still be loaded")
    return "a deleted artifact cannot be loaded"


def _absent(workspace: Workspace) -> str:
    workspace.client.delete(workspace.key("never-saved"))
    return "Delete of an absent artifact succeeded"


def _again(workspace: Workspace) -> str:
    key = workspace.saved("deleted-again", Content(SMALL, 31))
    for _ in range(_ATTEMPTS):
        workspace.client.delete(key)
    return f"{_ATTEMPTS} calls of Delete succeeded"


def _directory(workspace: Workspace) -> str:
    tree = {"a": b"1", "b/c": b"2", "b/d/e": b"3"}
    key = workspace.saved_tree("deleted-directory", tree)
    workspace.client.delete(key)
    left: list[str] = []
    with suppress(CallFailed):  # an error for an absent key is what list-absent reports
        left = workspace.client.list_objects(key)
    if left:
        raise Violation(f"after Delete of a directory, {len(left)} of {len(tree)} objects are listed: {named(left)}")
    for name in tree:
        if workspace.is_stored(f"{key}/{name}"):
            raise Violation(f"after Delete of a directory, KEY/{name} can still be loaded")
    return f"Delete removed all {len(tree)} objects of a directory"


def _beside(workspace: Workspace) -> str:
    key = workspace.saved_tree("neighbour", {"a": b"1"})
    content = Content(SMALL, 32)
    beside = [workspace.saved(name, content) for name in ("neighbour.txt", "neighbour-2", "neighbours/file")]
    workspace.client.delete(key)
    if gone := [other.removeprefix(key) for other in beside if workspace.fault(other, content)]:
        raise Violation(f"Delete of KEY removed other artifacts, too: KEY{gone[0]}")
    return "Delete left artifacts whose keys begin with the same letters"


CHECKS = (
    ContractCheck(
        "delete",
        (40,),
        "Delete removes a file",
        "garbage collection reports success, and the artifact stays in storage",
        _delete,
        needs=("file",),
    ),
    ContractCheck(
        "delete-absent",
        (39,),
        "Delete of an absent artifact succeeds",
        "garbage collection fails for artifacts that are gone, and the workflow cannot be deleted",
        _absent,
        needs=("connect",),
    ),
    ContractCheck(
        "delete-again",
        (39,),
        "Delete of an artifact that was just deleted succeeds",
        "garbage collection fails after a retry, and the workflow cannot be deleted",
        _again,
        needs=("file", "delete-absent"),
    ),
    ContractCheck(
        "delete-directory",
        (40,),
        "Delete removes everything of a directory, whose key comes without a slash",
        "garbage collection reports success, and the files stay in storage",
        _directory,
        needs=("directory", "directory-child", "absent-load", "delete"),
    ),
    ContractCheck(
        "delete-beside",
        (40,),
        "Delete removes nothing of artifacts whose keys begin with the same letters",
        "garbage collection of one workflow destroys artifacts of another",
        _beside,
        needs=("directory",),
    ),
)

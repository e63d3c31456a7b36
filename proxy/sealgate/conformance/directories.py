"""Checks of Save and Load of directories."""

from __future__ import annotations

import stat
from pathlib import Path

from sealgate.conformance.checks import ContractCheck, NotApplicable, Violation
from sealgate.conformance.client import CallFailed
from sealgate.conformance.content import Content, file_chunks, kind_of, read_tree, tree_difference
from sealgate.conformance.files import FOREIGN_FILE, READABLE, is_foreign
from sealgate.conformance.workspace import SMALL, Workspace

TREE = {
    "file": b"the first file",
    "empty": b"",
    "with spaces in it.txt": b"spaces",
    "deeper/and deeper/größe-尺寸.bin": bytes(range(256)) * 100,
    "deeper/file": b"another file of this name",
    ".hidden": b"hidden",
}
"""Files at several depths, in other scripts, hidden and empty."""
_ENTERABLE = READABLE | stat.S_IXGRP | stat.S_IXOTH
STORED = "stored-tree"
"""The last segment of the key under which the first check saves `TREE`. No other key begins with it."""
_LINK = "link"


def _directory(workspace: Workspace) -> str:
    key = workspace.saved_tree(STORED, TREE)
    if difference := workspace.tree_difference(key, TREE):
        raise Violation(f"Load created {difference}")
    return f"saved and loaded a directory with {len(TREE)} files at several depths"


def _child(workspace: Workspace) -> str:
    key = workspace.key(STORED)
    wrong = []
    for name in ("file", "deeper/and deeper/größe-尺寸.bin"):
        target = workspace.target()
        try:
            workspace.client.load(f"{key}/{name}", target)
        except CallFailed as fault:
            wrong.append(str(fault))
            continue
        if kind_of(target) != "a file" or b"".join(file_chunks(target)) != TREE[name]:
            wrong.append(f"Load of KEY/{name} created {kind_of(target)} with other content")
    if wrong:
        raise Violation("; ".join(wrong))
    return "two files of a directory opened by their own keys"


def _readable(workspace: Workspace) -> str:
    target = workspace.target()
    workspace.client.load(workspace.key(STORED), target)
    for path in (target, *target.rglob("*")):
        needed = _ENTERABLE if path.is_dir() else READABLE
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & needed != needed:
            name = path.relative_to(target.parent)
            raise Violation(f"{name} has mode {mode:04o}")
    return "others can read every file and enter every directory"


def _empty(workspace: Workspace) -> str:
    lost, refused = [], ""
    for name, tree in (("empty", {}), ("holds-empty", {"file": b"one", "nothing/in it": None})):
        try:
            key = workspace.saved_tree(f"empty-directories/{name}", tree)
        except CallFailed as fault:
            if not fault.text.strip():
                raise Violation("Save of an empty directory failed without a text") from None
            refused = fault.text
            continue
        try:
            difference = workspace.tree_difference(key, tree)
        except CallFailed as fault:
            difference = str(fault)
        if difference:
            lost.append(f"Save reported success, and {difference}")
    if lost:
        raise Violation("; ".join(lost))
    return f"Save refuses empty directories and says so: {refused}" if refused else "empty directories came back"


def _many(workspace: Workspace) -> str:
    count = workspace.extent.files
    tree = {f"part-{number % 10}/{number:06d}.txt": str(number).encode() for number in range(count)}
    key = workspace.saved_tree("many", tree)
    if difference := workspace.tree_difference(key, tree):
        raise Violation(f"of {count} files, {difference}")
    return f"saved and loaded a directory with {count} files"


def _links(workspace: Workspace) -> str:
    if not Path(FOREIGN_FILE).exists():
        raise NotApplicable(f"there is no {FOREIGN_FILE} here")
    source = workspace.source_tree({"file": b"beside the link"})
    (source / _LINK).symlink_to(FOREIGN_FILE)
    key, target = workspace.key("linked-directory"), workspace.target()
    try:
        workspace.client.save(key, source)
    except CallFailed as fault:
        return f"Save refused a directory with a symbolic link: {fault.text}"
    workspace.client.load(key, target)
    if is_foreign(target / _LINK):
        raise Violation(f"Save followed a symbolic link and stored the plugin's own {FOREIGN_FILE}")
    if kind_of(target / _LINK) == "a symbolic link":
        raise Violation("Load created a symbolic link that leads out of the artifact")
    return "Save did not follow a symbolic link in the directory"


def _over_directory(workspace: Workspace) -> str:
    workspace.saved_tree("replaced-directory", {"a": b"old", "old": b"old", "only/old": b"old"})
    new = {"a": b"new", "new": b"new"}
    key = workspace.saved_tree("replaced-directory", new)
    if difference := workspace.tree_difference(key, new):
        raise Violation(f"after a second Save of a directory, {difference}")
    return "a second directory replaced all files of the first"


def _over_file(workspace: Workspace) -> str:
    workspace.saved("directory-over-file", Content(SMALL, 20))
    tree = {"a": b"1", "b/c": b"2"}
    key = workspace.saved_tree("directory-over-file", tree)
    if difference := workspace.tree_difference(key, tree):
        raise Violation(f"after a Save of a directory over a file, Load created {difference}")
    return "a directory replaced a file of the same key"


def _file_over(workspace: Workspace) -> str:
    workspace.saved_tree("file-over-directory", {"a": b"1", "b/c": b"2"})
    content = Content(SMALL, 21)
    key = workspace.saved("file-over-directory", content)
    if difference := workspace.difference(key, content):
        raise Violation(f"after a Save of a file over a directory, Load created {difference}")
    for name in ("a", "b/c"):
        if workspace.is_stored(f"{key}/{name}"):
            raise Violation(f"after a Save of a file over a directory, KEY/{name} can still be loaded")
    return "a file replaced a directory of the same key"


def _load_inside(workspace: Workspace) -> str:
    target = workspace.target()
    workspace.client.load(workspace.key(STORED), target)
    if more := sorted(path.name for path in target.parent.iterdir() if path != target):
        raise Violation(f"Load left {more[0]} beside the path")
    odd = sorted(name for name, found in read_tree(target).items() if isinstance(found, str))
    if odd:
        raise Violation(f"Load created something that is neither a file nor a directory: {odd[0]}")
    if difference := tree_difference(TREE, target):
        raise Violation(f"Load created {difference}")
    return "Load created files and directories beneath the path alone"


CHECKS = (
    ContractCheck(
        "directory",
        (23, 30),
        "A directory comes back with the same files",
        "later steps lack files, or read wrong ones",
        _directory,
        needs=("file",),
    ),
    ContractCheck(
        "directory-beside",
        (20, 21),
        "Load of a directory creates files and directories beneath the path alone",
        "files that no step asked for stay in the directory of inputs",
        _load_inside,
        needs=("directory",),
    ),
    ContractCheck(
        "directory-child",
        (28,),
        "A file of a directory opens by its own key",
        "`subPath`, and a click on the file in the user interface, fail",
        _child,
        needs=("directory",),
    ),
    ContractCheck(
        "directory-readable",
        (23, 25),
        "Others can read the files and enter the directories",
        "a step that runs as another user cannot read its input",
        _readable,
        needs=("directory",),
    ),
    ContractCheck(
        "directory-empty",
        (30,),
        "Empty directories come back, or Save refuses them with a text",
        "a later step fails because a directory is missing, and nothing says why",
        _empty,
        needs=("directory",),
    ),
    ContractCheck(
        "directory-many",
        (30,),
        "A directory with many files comes back whole",
        "later steps lack files, and Argo reports no error",
        _many,
        needs=("directory",),
    ),
    ContractCheck(
        "directory-links",
        (32,),
        "Save does not follow symbolic links in a directory",
        "an author can store and read the plugin's own files, with its credentials",
        _links,
        needs=("directory",),
    ),
    ContractCheck(
        "directory-over-directory",
        (34,),
        "A second directory under the same key replaces all files of the first",
        "after a retry, later steps read files of the failed attempt",
        _over_directory,
        needs=("directory",),
    ),
    ContractCheck(
        "directory-over-file",
        (34,),
        "A directory replaces a file of the same key",
        "after a retry, later steps read the output of the failed attempt",
        _over_file,
        needs=("directory",),
    ),
    ContractCheck(
        "file-over-directory",
        (34, 45),
        "A file replaces a directory of the same key, with all its files",
        "later steps read the older output, and the user interface shows a listing instead of the file",
        _file_over,
        needs=("directory", "directory-child", "absent-load"),
    ),
)

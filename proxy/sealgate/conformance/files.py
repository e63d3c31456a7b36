"""Checks of Save and Load of single files."""

from __future__ import annotations

import stat
import time
from contextlib import suppress
from pathlib import Path

from sealgate.conformance.checks import ContractCheck, NotApplicable, Violation
from sealgate.conformance.client import CallFailed
from sealgate.conformance.content import Content, file_chunks, kind_of
from sealgate.conformance.workspace import SMALL, Workspace

SIZES = tuple(
    sorted(
        {1, (4 << 30) + 1}
        | {size + more for size in (1 << 16, 1 << 20, 4 << 20) for more in (-1, 0, 1)}
        | {(33 << 20) + 17, (256 << 20) + 17}
    )
)
"""Bytes: around the sizes of frames, segments and messages that plugins use, and above what 32 bits hold.
Artifacts of 0 bytes have checks of their own."""
READABLE = stat.S_IRGRP | stat.S_IROTH
FOREIGN_FILE = "/proc/self/status"
"""A file of the plugin's own process: harmless, never in an allowed directory, and with a known beginning."""
_FOREIGN_BEGINS = b"Name:\t"
_CANCEL_AFTER = (0.0, 0.002, 0.01, 0.05)
_NOTICED_SECONDS = 10.0
"""Within this time a plugin has removed what a cancelled Load left."""


def sizes(workspace: Workspace) -> list[int]:
    """Return the sizes of this run, in bytes."""
    return [size for size in SIZES if size <= workspace.extent.largest]


def is_foreign(path: Path) -> bool:
    """Return whether the file at `path` begins as `FOREIGN_FILE` does."""
    return kind_of(path) == "a file" and next(file_chunks(path), b"").startswith(_FOREIGN_BEGINS)


def _file(workspace: Workspace) -> str:
    content = Content(SMALL)
    key = workspace.saved("file", content)
    if difference := workspace.difference(key, content):
        raise Violation(f"Load created {difference}")
    return f"saved and loaded {SMALL} bytes"


def _sizes(workspace: Workspace) -> str:
    wrong = []
    for size in sizes(workspace):
        content = Content(size, size)
        try:
            key = workspace.saved(f"sizes/{size}.bin", content)
            difference = workspace.difference(key, content)
        except CallFailed as fault:
            difference = str(fault)
        if difference:
            wrong.append(f"of {size} bytes: {difference}")
    if wrong:
        raise Violation("; ".join(wrong))
    return f"saved and loaded {len(sizes(workspace))} sizes up to {sizes(workspace)[-1]} bytes"


def _empty(workspace: Workspace) -> str:
    key, source = workspace.key("empty.log"), workspace.source(Content(0))
    workspace.client.save(key, source, name="main-logs")
    target = workspace.target()
    workspace.client.load(key, target)
    if kind_of(target) != "a file" or target.stat().st_size:
        raise Violation(f"Load reported success and created {kind_of(target)} that is not an empty file")
    return "a log of 0 bytes became an empty file"


def _beside(workspace: Workspace) -> str:
    key, target = workspace.key("file"), workspace.target()
    workspace.client.load(key, target)
    if more := sorted(path.name for path in target.parent.iterdir() if path != target):
        raise Violation(f"Load left {more[0]} beside the path")
    return "Load created the path alone"


def _readable(workspace: Workspace) -> str:
    key, target = workspace.key("file"), workspace.target()
    workspace.client.load(key, target)
    mode = stat.S_IMODE(target.stat().st_mode)
    if mode & READABLE != READABLE:
        raise Violation(f"the loaded file has mode {mode:04o}")
    return f"the loaded file has mode {mode:04o}"


def _load_link(workspace: Workspace) -> str:
    content = Content(SMALL)
    key = workspace.saved("link-target", content)
    victim, target = workspace.source(Content(SMALL, 1)), workspace.target()
    target.symlink_to(victim)
    with suppress(CallFailed):
        workspace.client.load(key, target)
    if Content(SMALL, 1).difference(file_chunks(victim)):
        raise Violation("Load wrote through the symbolic link at its path")
    return "Load did not write through a symbolic link at its path"


def _part_at(target: Path, content: Content) -> str:
    """Return the name of what is at `target` or beside it; empty if nothing is, or exactly `content` at `target`."""
    left = sorted(target.parent.iterdir())
    if left == [target] and kind_of(target) == "a file" and not content.difference(file_chunks(target)):
        return ""
    return left[0].name if left else ""


def _load_cancelled(workspace: Workspace) -> str:
    content = Content(sizes(workspace)[-1], sizes(workspace)[-1])
    key = workspace.saved("cancelled.bin", content)
    targets = [workspace.target() for _ in _CANCEL_AFTER]
    for target, seconds in zip(targets, _CANCEL_AFTER, strict=True):
        workspace.client.cancelled_load(key, target, seconds)
    for target in targets:
        # A plugin need not notice the end of a call at once.
        until = time.monotonic() + min(_NOTICED_SECONDS, workspace.extent.seconds)
        while (left := _part_at(target, content)) and time.monotonic() < until:
            time.sleep(workspace.extent.settle)
        if left:
            raise Violation(f"a Load that was cancelled left a part of the artifact as {left}")
        workspace.discard(target)
    if difference := workspace.difference(key, content):
        raise Violation(f"after cancelled Loads, a Load created {difference}")
    return "cancelled Loads left no part, and the next one worked"


def _keeps_source(workspace: Workspace) -> str:
    content = Content(SMALL, 2)
    key, source = workspace.key("source"), workspace.source(content)
    source.chmod(0o644)
    before = source.stat()
    workspace.client.save(key, source)
    if kind_of(source) != "a file":
        raise Violation("Save removed the local file")
    after = source.stat()
    if content.difference(file_chunks(source)) or (after.st_mode, after.st_ino) != (before.st_mode, before.st_ino):
        raise Violation("Save changed the local file")
    return "Save left the local file as it was"


def _replaces(workspace: Workspace) -> str:
    for number, size in enumerate((SMALL * 3, SMALL, SMALL * 2)):
        content = Content(size, number)
        key = workspace.saved("replaced", content)
        if difference := workspace.difference(key, content):
            raise Violation(f"after Save number {number + 1} under one key, Load created {difference}")
    return "each Save under one key replaced the artifact"


def _missing(workspace: Workspace) -> str:
    key, missing = workspace.key("missing"), workspace.target()
    try:
        workspace.client.save(key, missing)
    except CallFailed as fault:
        if not fault.text.strip():
            raise Violation("Save of a path that does not exist failed without a text") from None
        return f"Save of a path that does not exist failed: {fault.text}"
    raise Violation("Save of a path that does not exist reported success")


def _file_link(workspace: Workspace) -> str:
    if not Path(FOREIGN_FILE).exists():
        raise NotApplicable(f"there is no {FOREIGN_FILE} here")
    link = workspace.new_directory() / "source.bin"
    link.symlink_to(FOREIGN_FILE)
    key = workspace.key("foreign")
    try:
        workspace.client.save(key, link)
        target = workspace.target()
        workspace.client.load(key, target)
    except CallFailed as fault:
        return f"it was refused: {fault.text}"
    if is_foreign(target):
        raise Violation(f"Save followed a symbolic link and stored the plugin's own {FOREIGN_FILE}")
    return f"it did not store {FOREIGN_FILE}"


CHECKS = (
    ContractCheck(
        "file",
        (20, 35),
        "Save stores a file, and Load creates it with the same bytes",
        "steps get other bytes than were saved, or none",
        _file,
        needs=("connect",),
    ),
    ContractCheck(
        "file-sizes",
        (20, 24, 30),
        "Files of every size come back bit for bit",
        "the step that loads such an artifact works with wrong bytes, and Argo reports no error",
        _sizes,
        needs=("file",),
    ),
    ContractCheck(
        "file-empty",
        (22, 36),
        "A file of 0 bytes becomes an empty file",
        "a step without output fails although its work is done, because its log has 0 bytes",
        _empty,
        needs=("file",),
    ),
    ContractCheck(
        "load-beside",
        (20, 21),
        "Load creates the path that Argo names, and nothing beside it",
        "files that no step asked for stay in the directory of inputs",
        _beside,
        needs=("file",),
    ),
    ContractCheck(
        "load-readable",
        (25,),
        "Others can read a loaded file",
        "in a pod without init containers Argo runs as another user, cannot read the input and fails the step",
        _readable,
        needs=("file",),
    ),
    ContractCheck(
        "load-link",
        (26,),
        "Load does not write through a symbolic link at the path",
        "an author's link has the plugin overwrite a file of its own container",
        _load_link,
        needs=("file",),
    ),
    ContractCheck(
        "load-cancel",
        (21, 29),
        "A cancelled Load leaves no part of the artifact",
        "Argo cancels a Load when another one fails, and the part takes space or is read as if it were whole",
        _load_cancelled,
        needs=("file-sizes", "load-beside"),
    ),
    ContractCheck(
        "save-source",
        (33,),
        "Save leaves the local file as it is",
        "a file on the step's own volume is changed or gone after the step",
        _keeps_source,
        needs=("file",),
    ),
    ContractCheck(
        "save-replaces",
        (34,),
        "A second Save under the same key replaces the artifact",
        "after a retry, later steps read the output of the failed attempt, or a mixture",
        _replaces,
        needs=("file",),
    ),
    ContractCheck(
        "save-missing",
        (35,),
        "Save of a path that does not exist fails with a text",
        "Argo reports the output as saved, and it is lost",
        _missing,
        needs=("connect",),
    ),
    ContractCheck(
        "save-link",
        (31,),
        "Save does not follow a symbolic link to a file of the plugin's container",
        "an author can store and read the plugin's own files, with its credentials",
        _file_link,
        needs=("file",),
    ),
)

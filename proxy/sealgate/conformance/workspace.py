"""The keys and the local paths of one run. Nothing outside them is written or deleted."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sealgate.conformance.client import ArgoClient, CallFailed
from sealgate.conformance.content import Content, Tree, file_difference, kind_of, tree_difference, write_tree
from sealgate.conformance.program import PluginProcess, Program

_OPEN_DIRECTORY = 0o777
"""The plugin may run as another user, and creates files in this directory. So it is in a pod."""
_SHOWN_LEFT = 20
_NOTHING = ("nothing", 0)
_NO_ANSWER = ("DEADLINE_EXCEEDED", "UNAVAILABLE")
SMALL = 1000
"""The bytes of an artifact whose size is not what a check is about."""
LONG_KEY = 5000
"""The bytes of a key that plugins may refuse. Object stores accept 1024."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a run moves, and how long it waits."""

    largest: int = (33 << 20) + 17
    """The bytes of the largest artifact."""
    files: int = 1000
    """The files of the largest directory."""
    seconds: float = 60.0
    """The time limit of each call and of each start."""
    settle: float = 0.5
    """Seconds after which a plugin has noticed that a caller went away."""


class Workspace:
    """Where the checks of one run work.

    Args:
        extent: how much they move.
        parent: the directory for local files, which the plugin sees at the same path; None for the system's.
        prefix: the beginning of every key. A random segment is added to it, so that no existing artifact is touched.
        connect: returns a client for a socket.
    """

    def __init__(
        self,
        extent: Extent,
        parent: Path | None,
        prefix: str,
        connect: Callable[[str], ArgoClient],
    ) -> None:
        self.extent = extent
        self.program: Program | None = None
        """The plugin as a program; None if only its socket is known."""
        self.process: PluginProcess | None = None
        """The process that is called, if this program started it."""
        self.run_key = f"{prefix}/{secrets.token_hex(6)}"
        self.canary = f"sealgate-conformance-{secrets.token_hex(12)}"
        """A text that must not get from a configuration into an error or a log."""
        self._connect = connect
        self._client: ArgoClient | None = None
        self._numbers = itertools.count()
        self._keys: dict[str, None] = {}
        self.directory = Path(tempfile.mkdtemp(prefix="sealgate-conformance-", dir=parent))
        self.directory.chmod(0o755)

    # --- the plugin ---------------------------------------------------------------------------------------

    def use(self, socket: str) -> None:
        """Call the plugin at `socket` from now on."""
        self._client = self._connect(socket)

    def client_of(self, socket: str) -> ArgoClient:
        """Return a client of another process of the plugin. The caller closes it."""
        return self._connect(socket)

    @property
    def has_client(self) -> bool:
        """Whether there is a plugin to call."""
        return self._client is not None

    @property
    def client(self) -> ArgoClient:
        """The client of the plugin."""
        assert self._client is not None  # noqa: S101 - every check that calls needs one that connects
        return self._client

    # --- keys and local paths -----------------------------------------------------------------------------

    def key(self, name: str) -> str:
        """Return the key `name` of this run. It is deleted at the end."""
        key = f"{self.run_key}/{name}"
        self._keys[key] = None
        return key

    def new_directory(self) -> Path:
        """Return a new local directory, in which the plugin may create files."""
        path = self.directory / f"{next(self._numbers)}"
        path.mkdir()
        path.chmod(_OPEN_DIRECTORY)
        return path

    def target(self) -> Path:
        """Return a local path that does not exist, alone in a new directory, as Argo names one for a Load."""
        return self.new_directory() / "loaded"

    def source(self, content: Content) -> Path:
        """Return a new local file with `content`."""
        path = self.new_directory() / "source.bin"
        content.write(path)
        return path

    def source_tree(self, tree: Tree) -> Path:
        """Return a new local directory with `tree`."""
        path = self.new_directory() / "source"
        write_tree(path, tree)
        return path

    def discard(self, path: Path) -> None:
        """Remove a local path that `source` or `target` returned, to save space."""
        shutil.rmtree(path.parent, ignore_errors=True)

    # --- artifacts ----------------------------------------------------------------------------------------

    def saved(self, name: str, content: Content) -> str:
        """Save `content` under the key `name`, and return the key."""
        key, source = self.key(name), self.source(content)
        self.client.save(key, source)
        self.discard(source)
        return key

    def saved_tree(self, name: str, tree: Tree) -> str:
        """Save `tree` under the key `name`, and return the key."""
        key, source = self.key(name), self.source_tree(tree)
        self.client.save(key, source)
        self.discard(source)
        return key

    def difference(self, key: str, content: Content) -> str:
        """Load `key` and say how it differs from `content`; empty if it does not.

        Raises:
            CallFailed: the Load failed.
        """
        return self._seen(key, partial(file_difference, content))

    def fault(self, key: str, content: Content) -> str:
        """Do the same as `difference`, and return the text of a Load that failed."""
        try:
            return self.difference(key, content)
        except CallFailed as fault:
            return str(fault)

    def tree_difference(self, key: str, tree: Tree) -> str:
        """Load `key` and say how the directory differs from `tree`; empty if it does not.

        Raises:
            CallFailed: the Load failed.
        """
        return self._seen(key, partial(tree_difference, tree))

    def is_stored(self, key: str) -> bool:
        """Return whether a Load of `key` creates something."""
        return self._created(key) != _NOTHING

    def _created(self, key: str) -> tuple[str, int]:
        """Return the kind of what a Load of `key` creates, and its bytes."""
        with suppress(CallFailed):
            return self._seen(key, _kind_and_size)
        return _NOTHING

    def _seen(self, key: str, look: Callable[[Path], Found]) -> Found:
        """Load `key`, return what `look` says of the path, and remove what is there: it can be large."""
        target = self.target()
        try:
            self.client.load(key, target)
            return look(target)
        finally:
            self.discard(target)

    # --- the end ------------------------------------------------------------------------------------------

    def close(self) -> list[str]:
        """Delete every key and every local path of this run, and return a sentence for each that is left."""
        left = self._delete_keys() if self.has_client else []
        if self._client is not None:
            self._client.close()
        if self.program is not None:
            self.program.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            left.append(f"the local directory {self.directory}, whose files belong to another user")
        return left

    def _delete_keys(self) -> list[str]:
        refused = set()
        for number, key in enumerate(keys := list(self._keys)):
            try:
                self.client.delete(key)
            except CallFailed as fault:
                if fault.code in _NO_ANSWER:  # each further call would take as long
                    return ["the plugin no longer answers, so it keeps what was stored of:", *_sentences(keys[number:])]
                refused.add(key)
        with suppress(CallFailed):
            for key in self._listed():
                self.client.delete(key)
            self.client.delete(self.run_key)  # a plugin on a file system may have left empty directories
        listed: list[str] = []
        with suppress(CallFailed):
            listed = self._listed()
        # A listing need not show a key such as odd//double.
        doubtful = [key for key in keys if (key in refused or not _is_normal(key)) and key not in listed]
        # Some plugins create an empty file for a key that is absent.
        absent = {_NOTHING, self._created(f"{self.run_key}/never-saved")} if doubtful else {_NOTHING}
        return _sentences([*(key for key in doubtful if self._created(key) not in absent), *listed])

    def _listed(self) -> list[str]:
        """Return the listed keys that are beneath that of this run, also for a plugin that resolves `..`."""
        listed = self.client.list_objects(self.run_key)
        return [key for key in listed if key.startswith(f"{self.run_key}/") and _is_normal(key)]


def _kind_and_size(path: Path) -> tuple[str, int]:
    kind = kind_of(path)
    return (kind, path.lstat().st_size) if kind == "a file" else (kind, 0)


def _is_normal(key: str) -> bool:
    return os.path.normpath(key) == key


def _sentences(keys: list[str]) -> list[str]:
    """Return a sentence for each of the first `keys`, and one for the number of the others."""
    left = [f"the artifact {key}" for key in keys[:_SHOWN_LEFT]]
    return [*left, f"{len(keys) - _SHOWN_LEFT} more artifacts"] if len(keys) > _SHOWN_LEFT else left

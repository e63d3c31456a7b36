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
from pathlib import Path

from sealgate.conformance.client import ArgoClient, CallFailed
from sealgate.conformance.content import Content, Tree, file_chunks, kind_of, tree_difference, write_tree
from sealgate.conformance.program import PluginProcess, Program

_OPEN_DIRECTORY = 0o777
"""The plugin may run as another user, and creates files in this directory. So it is in a pod."""
_SHOWN_LEFT = 20
_NO_ANSWER = ("DEADLINE_EXCEEDED", "UNAVAILABLE")
SMALL = 1000
"""The bytes of an artifact whose size is not what a check is about."""


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
        if self._client is not None:
            self._client.close()
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
        target = self.target()
        self.client.load(key, target)
        if (kind := kind_of(target)) != "a file":
            return f"{kind} and not a file"
        difference = content.difference(file_chunks(target))
        self.discard(target)
        return difference

    def tree_difference(self, key: str, tree: Tree) -> str:
        """Load `key` and say how the directory differs from `tree`; empty if it does not.

        Raises:
            CallFailed: the Load failed.
        """
        target = self.target()
        self.client.load(key, target)
        difference = tree_difference(tree, target)
        self.discard(target)
        return difference

    def is_stored(self, key: str) -> bool:
        """Return whether a Load of `key` creates something."""
        target = self.target()
        try:
            self.client.load(key, target)
        except CallFailed:
            return False
        return kind_of(target) != "nothing"

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
        failed = []
        for number, key in enumerate(keys := list(self._keys)):
            try:
                self.client.delete(key)
            except CallFailed as fault:
                if fault.code in _NO_ANSWER:  # each further call would take as long
                    return ["the plugin no longer answers, so it keeps what was stored of:", *_sentences(keys[number:])]
                if self.is_stored(key):
                    failed.append(key)
        with suppress(CallFailed):
            beneath = [key for key in self.client.list_objects(self.run_key) if self._is_own(key)]
            if beneath:
                for key in beneath:
                    self.client.delete(key)
                failed = [key for key in self.client.list_objects(self.run_key) if self._is_own(key)]
            self.client.delete(self.run_key)  # a plugin on a file system may have left empty directories
        return _sentences(failed)

    def _is_own(self, key: str) -> bool:
        """Return whether a listed key is beneath that of this run, also for a plugin that resolves `..`."""
        return key.startswith(f"{self.run_key}/") and os.path.normpath(key) == key


def _sentences(keys: list[str]) -> list[str]:
    """Return a sentence for each of the first `keys`, and one for the number of the others."""
    left = [f"the artifact {key}" for key in keys[:_SHOWN_LEFT]]
    return [*left, f"{len(keys) - _SHOWN_LEFT} more artifacts"] if len(keys) > _SHOWN_LEFT else left

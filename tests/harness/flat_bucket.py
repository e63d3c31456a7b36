"""A bucket with flat keys in a directory: an object at `t` and objects beneath `t/` can exist at the same time.

An object is the file of the same name where a file system permits that, so that tests can read and change it. An object
whose name is that of a directory waits in a second directory.
"""

from __future__ import annotations

import shutil
import threading
import urllib.parse
from pathlib import Path


class FlatBucket:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = root.with_name(f"{root.name}-aside")
        self._aside.mkdir(exist_ok=True)
        self._lock = threading.RLock()

    def file(self, key: str) -> Path | None:
        """Return the file with the object at `key`; None if there is no such object."""
        with self._lock:
            place = self._root / key
            if not key.endswith("/") and place.is_file():
                return place
            aside = self._aside_of(key)
            return aside if aside.is_file() else None

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of all objects that begin with `prefix`."""
        with self._lock:
            stored = {path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file()}
            aside = {urllib.parse.unquote(path.name) for path in self._aside.iterdir()}
        return sorted(key for key in stored | aside if key.startswith(prefix))

    def put(self, key: str, source: Path) -> None:
        with self._lock:
            for parent in list((self._root / key).relative_to(self._root).parents)[:-1]:
                if (self._root / parent).is_file():
                    (self._root / parent).rename(self._aside_of(parent.as_posix()))
            place = self._root / key
            self._remove_empty(place)
            target = self._aside_of(key) if place.is_dir() else place
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = self._aside / f".{urllib.parse.quote(key, safe='')}"
            shutil.copyfile(source, partial)
            partial.replace(target)

    def delete(self, key: str) -> None:
        """Delete the object at exactly this key, if there is one."""
        with self._lock:
            found = self.file(key)
            if found is not None:
                found.unlink()
            for parent in (self._root / key, *(self._root / key).parents):
                if parent == self._root:
                    return
                self._remove_empty(parent)
                waiting = self._aside_of(parent.relative_to(self._root).as_posix())
                if waiting.is_file() and not parent.exists():
                    waiting.rename(parent)

    def _aside_of(self, key: str) -> Path:
        return self._aside / urllib.parse.quote(key, safe="")

    @staticmethod
    def _remove_empty(directory: Path) -> None:
        """Remove the directory if it contains directories alone: a bucket has none."""
        if directory.is_dir() and not any(path.is_file() for path in directory.rglob("*")):
            shutil.rmtree(directory)

"""A store with a prefix, used by exact keys. Every failure in it is a `PluginError`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import obstore
from obstore.store import AzureStore

from sealgate.backend import keys
from sealgate.backend.directory import DirectoryStore
from sealgate.backend.errors import Missing, NotOffered, store_errors
from sealgate.backend.in_flight import run
from sealgate.backend.parallel import each
from sealgate.backend.raw import RawKeys
from sealgate.backend.reading import ObjectReading, in_order
from sealgate.backend.spare import SpareMemory
from sealgate.backend.writing import write
from sealgate.call import Call
from sealgate.errors import AlreadyStored, BadRequest, NotConfigured, PluginError
from sealgate.log_event import LogEvent
from sealgate.plugin import Chunk
from sealgate.storage.local_paths import write_all

if TYPE_CHECKING:
    from collections.abc import Generator

    from obstore.store import ObjectStore

log = logging.getLogger("sealgate.backend")

_PAGE = 1000
_DELETERS, _SHARE = 6, 10
"""How many threads delete objects one by one, and how many each takes, which the library deletes at once."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing."""

    key: str
    size: int
    """In bytes."""


class Bucket:
    """Objects by key, in one store and beneath one prefix.

    Args:
        store: obstore's client of the store.
        prefix: precedes each key in the store; empty, or ends in `/`.
        spare: the memory that its transfers share with others.
        directory: the store's directory, if the store is a local directory.
        bulk: returns a client of the same store that deletes many objects with one request, if there is a separate one.
        raw: reaches objects whose keys the library cannot name, if anything does.
        workers: how many objects should be moved at once.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        prefix: str = "",
        spare: SpareMemory,
        directory: DirectoryStore | None = None,
        bulk: Callable[[], ObjectStore] | None = None,
        raw: RawKeys | None = None,
        workers: int = 1,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._directory = directory
        self._bulk = bulk
        self._raw = raw
        self._spare = spare
        self.is_directory = directory is not None
        """Whether the store is a local directory."""
        self.has_raw = raw is not None
        """Whether `beneath_raw` and `delete` work with keys that the library cannot name."""
        self._creates: bool | None = None
        self._is_azure = isinstance(store, AzureStore)
        self.workers = workers

    def exists(self, key: str) -> bool:
        """Return whether an object of this key is stored."""
        try:
            with store_errors():
                obstore.head(self._store, self._name(key))
        except Missing:
            return False
        return True

    def beneath(self, call: Call, key: str) -> Generator[ListedObject]:
        """Yield the objects whose keys begin with `key` and a slash, in any order; all objects if `key` is empty.

        The library lists an object whose key ends in a slash without that slash. Only for the object `key/` itself
        that is certain, and it is yielded as it is.

        Raises:
            NotAPath: there is an object whose key the library cannot name at all.
        """
        if self._directory:
            yield from self._beneath_directory(call, key)
            return
        start = self._start(key)
        try:
            with store_errors():
                pages = iter(obstore.list(self._store, start[:-1] or None, chunk_size=_PAGE))
            while True:
                call.check()
                with store_errors():
                    page = next(pages, None)
                if page is None:
                    return
                for meta in page:
                    name = start if meta["path"] == start[:-1] else meta["path"]
                    yield ListedObject(name.removeprefix(self._prefix), meta["size"])
        except Missing:
            return

    def _beneath_directory(self, call: Call, key: str) -> Iterator[ListedObject]:
        for path, size in self._directory.beneath(call, key) if self._directory else ():
            name = keys.from_file(path)
            if keys.as_file(name) == path:  # else it is the file of no object
                yield ListedObject(name, size)

    def beneath_raw(self, call: Call, key: str) -> Iterator[ListedObject]:
        """Yield the same as `beneath`, each key exactly as it is, if `has_raw`."""
        if self._raw:
            for name, size in self._raw.objects(call, self._start(key)):
                yield ListedObject(name.removeprefix(self._prefix), size)

    def delete(self, call: Call, doomed: Collection[str]) -> None:
        """Remove the objects of the keys `doomed`, in bulk if the store can. An absent object is not an error."""
        if self._raw and (odd := [f"{self._prefix}{key}" for key in doomed if keys.flaw(key)]):
            self._raw.delete(call, odd)
            doomed = [key for key in doomed if not keys.flaw(key)]
        names = iter([self._name(key) for key in doomed])
        while batch := list(islice(names, _PAGE)):
            if len(batch) == 1 or not self._delete_in_bulk(batch):
                shares = [batch[start : start + _SHARE] for start in range(0, len(batch), _SHARE)]
                each(self._delete_each, iter(shares), min(_DELETERS, len(shares)))
        self._remove_empty_directories(doomed)

    def delete_while_awaited(self, call: Call, doomed: Iterable[str]) -> None:
        """Remove objects as `delete` does, until the call ends."""
        waiting = iter(doomed)
        while batch := list(islice(waiting, _PAGE)):
            call.check()
            self.delete(call, batch)

    def _delete_in_bulk(self, names: list[str]) -> bool:
        """Delete the objects `names` with one request; return False if the store did not delete all of them."""
        if (bulk := self._bulk) is None:
            return False
        try:
            with store_errors():
                obstore.delete(bulk(), names)
        except PluginError as fault:
            log.warning(LogEvent("a deletion in bulk failed, and goes on one by one", objects=len(names)))
            if isinstance(fault, NotConfigured):  # it does not offer that operation, or does not allow it
                self._bulk = None
            return False
        return True

    def _delete_each(self, names: list[str]) -> None:
        try:
            with store_errors():
                obstore.delete(self._store, names)
        except Missing:  # the others may or may not be removed
            for name in names:
                with suppress(Missing), store_errors():
                    obstore.delete(self._store, name)

    def delete_directory(self, call: Call, key: str) -> None:
        """Remove everything beneath `key` in a store that is a local directory."""
        if self._directory:
            self._directory.remove_beneath(call, key)

    def rename(self, source: str, target: str) -> None:
        """Change the key of an object. Most stores copy the object for it."""
        with store_errors(writing=True):
            obstore.rename(self._store, self._name(source), self._name(target))
        self._remove_empty_directories([source])

    def is_flat(self, call: Call, near: str) -> bool:
        """Return whether objects `a` and `a/b` can exist together; a store that is a file system refuses that.

        This is found out with two objects whose keys begin with `near`; they are removed again.
        """
        probe = keys.beside(near)
        probes = [probe, f"{probe}/probe"]
        try:
            for key in probes:
                self.put(call, key, [])
        except PluginError:
            call.check()  # else the end of the call would look like a refusal
            return False
        finally:
            with suppress(PluginError):
                self.delete(call, probes)
        return True

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, call: Call, key: str) -> Generator[memoryview]:
        """Yield the bytes of an object in order, while the next ones are already requested.

        The generator ends normally only after the last byte. Closing it ends every request.

        Raises:
            Missing: there is no such object.
        """
        call.check()
        name = self._name(key)
        if self._directory:
            return self._directory.read(call, name)
        return in_order(call, self._store, name, self._spare)

    async def load(self, call: Call, key: str, new_file: Callable[[], AbstractContextManager[int]]) -> None:
        """Write the bytes of an object to a new file. A large one arrives in several ranges at once.

        Args:
            call: the call that the object is for.
            key: the key of the object.
            new_file: creates the file, and yields its descriptor.

        Raises:
            Missing: there is no such object. No file was created then.
        """
        call.check()
        name = self._name(key)
        if self._directory:
            with closing(self._directory.read(call, name)) as parts:
                first = next(parts, b"")
                with new_file() as fd:
                    for part in chain([first], parts):
                        write_all(fd, part)
            return
        reading = await ObjectReading.begin(self._store, name)
        with new_file() as fd:
            await reading.to_file(call, fd)

    # --- writing ------------------------------------------------------------------------------------------

    def put(
        self, call: Call, key: str, chunks: Iterable[Chunk], *, size: int | None = None, only_new: bool = False
    ) -> None:
        """Store one object as `write` does, or as `create` does with `only_new`."""
        if self._directory:  # an event loop takes a quarter of the time of a small file, and would wait for nothing
            call.check()
            self._directory.write(self._name(key), chunks, only_new=only_new)
        else:
            run(call, self._write(key, chunks, size, only_new=only_new))

    async def write(self, key: str, chunks: Iterable[Chunk], *, size: int | None = None) -> None:
        """Store the bytes that `chunks` yields once it has ended normally. If it raises, nothing is stored.

        Args:
            key: the key of the object.
            chunks: its bytes.
            size: roughly how many bytes there will be, if that is known. It decides the size of a part.

        Raises:
            LimitReached: there are more bytes than one upload may have.
        """
        await self._write(key, chunks, size, only_new=False)

    async def create(self, key: str, chunks: Iterable[Chunk], *, size: int | None = None) -> None:
        """Store an object as `write` does, if nothing is stored under its key at the end.

        Raises:
            AlreadyStored: an object is stored under the key. It stays as it is.
        """
        await self._write(key, chunks, size, only_new=True)

    async def _write(self, key: str, chunks: Iterable[Chunk], size: int | None, *, only_new: bool) -> None:
        name = self._name(key)
        if self._directory:
            self._directory.write(name, chunks, only_new=only_new)
        else:
            await write(self._store, name, chunks, self._spare, size=size, only_new=only_new)

    def creates(self, call: Call, near: str) -> bool:
        """Return whether `create` refuses to replace an object; found out once, with an object beside `near`."""
        if self._creates is None:
            probe = keys.beside(near)
            try:
                self.put(call, probe, [], only_new=True)
                self.put(call, probe, [], only_new=True)
                self._creates = False
            except AlreadyStored:
                self._creates = True
            except NotOffered:
                self._creates = False
            finally:
                with suppress(PluginError):
                    self.delete(call, [probe])
            if not self._creates:
                log.warning(
                    LogEvent(
                        "the store has no create-only writes",
                        effect="overwrite: deny checks before it writes, and two Saves of a key at once may succeed",
                    )
                )
        return self._creates

    # --- names --------------------------------------------------------------------------------------------

    def _start(self, key: str) -> str:
        """Return how the names of the objects beneath `key` begin."""
        return f"{self._prefix}{key}/" if key else self._prefix

    def _name(self, key: str) -> str:
        """Return the name of the object `key` in the store."""
        name = f"{self._prefix}{key}"
        if flaw := keys.flaw(name):
            raise BadRequest(f"the key with the store's prefix cannot be used: {flaw}")
        if self._is_azure and "\\" in name:
            raise BadRequest("the key cannot be used: Azure reads a backslash as a slash", remedy="Choose another key")
        return keys.as_file(name) if self._directory else name

    def _remove_empty_directories(self, gone: Iterable[str]) -> None:
        if self._directory:
            self._directory.remove_empty_directories(self._name(key) for key in gone)

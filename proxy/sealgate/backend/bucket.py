"""A store with a prefix, used by exact keys. Every failure in it is a `PluginError`."""

from __future__ import annotations

import mmap
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import obstore

from sealgate.backend import keys
from sealgate.backend.directory import DirectoryStore
from sealgate.backend.errors import SAYS, Missing, store_errors
from sealgate.backend.raw import RawKeys
from sealgate.call import Call
from sealgate.errors import BadRequest, LimitReached, PluginError, Unavailable
from sealgate.plugin import Chunk

if TYPE_CHECKING:
    from collections.abc import Generator

    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import ObjectStore

_MIB = 1 << 20
_PART, _PARTS_AT_ONCE = 2 * _MIB, 6
"""The size of a part, in bytes, and how many parts are requested at once when an object is read.

Measured with an S3 server on the same machine: more at once is hardly faster. It takes twice the memory that the
figures suggest, because the library collects a whole part before it returns it."""
READING = _PART * (_PARTS_AT_ONCE + 1)
"""The most memory that reading an object takes, in bytes."""
WRITING = 40 * _MIB
"""The most memory that writing an object below 390 GiB takes, in bytes."""
_MOST_PARTS = 10_000
"""How many parts one upload may have on S3."""
_SMALLEST_PART, _STREAM_PART = 8 * _MIB, 16 * _MIB
_PAGE = 1000
_MAPPED = 1 << 17
"""From this many bytes on, memory is mapped from the system instead of allocated with malloc."""


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
        directory: the store's directory, if the store is a local directory.
        raw: reaches objects whose keys the library cannot name, if anything does.
        workers: how many threads should move small objects at once.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        prefix: str = "",
        directory: DirectoryStore | None = None,
        raw: RawKeys | None = None,
        workers: int = 1,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._directory = directory
        self._raw = raw
        self.is_directory = directory is not None
        """Whether the store is a local directory."""
        self.has_raw = raw is not None
        """Whether `beneath_raw` and `delete` work with keys that the library cannot name."""
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
        """Yield the objects whose keys begin with `key` and a slash, in any order.

        The library lists an object whose key ends in a slash without that slash. Only for the object `key/` itself
        that is certain, and it is yielded as it is.

        Raises:
            NotAPath: there is an object whose key the library cannot name at all.
        """
        if self._directory:
            yield from self._beneath_directory(call, key)
            return
        start = f"{self._prefix}{key}/"
        try:
            with store_errors():
                pages = iter(obstore.list(self._store, start[:-1], chunk_size=_PAGE))
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
            for name, size in self._raw.objects(call, f"{self._prefix}{key}/"):
                yield ListedObject(name.removeprefix(self._prefix), size)

    def delete(self, call: Call, doomed: Collection[str]) -> None:
        """Remove the objects of the keys `doomed`, in bulk if the store can. An absent object is not an error."""
        if self._raw and (odd := [f"{self._prefix}{key}" for key in doomed if keys.flaw(key)]):
            self._raw.delete(call, odd)
            doomed = [key for key in doomed if not keys.flaw(key)]
        names = iter([self._name(key) for key in doomed])
        while batch := list(islice(names, _PAGE)):
            try:
                with store_errors():
                    # A single object is removed without the bulk operation, which not every store has.
                    obstore.delete(self._store, batch if len(batch) > 1 else batch[0])
            except Missing:  # the others of the batch may or may not be removed
                for name in batch:
                    with suppress(Missing), store_errors():
                        obstore.delete(self._store, name)
        self._remove_empty_directories(doomed)

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
        probe = f"{near}.sealgate-{secrets.token_hex(6)}"
        probes = [probe, f"{probe}/probe"]
        try:
            for key in probes:
                self.write(key, [])
        except PluginError:
            return False
        finally:
            with suppress(PluginError):
                self.delete(call, probes)
        return True

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, call: Call, key: str) -> Generator[memoryview]:
        """Yield the bytes of an object in parts of at most 2 MiB, while the next parts are already requested.

        The generator ends normally only after the last byte. Closing it ends every request.

        Raises:
            Missing: there is no such object.
        """
        call.check()
        name = self._name(key)
        if self._directory:
            yield from self._directory.read(call, name)
            return
        with store_errors():
            result = obstore.get(self._store, name)
            meta = result.meta
        if meta["size"] > _PART:
            del result
            yield from self._parts(call, name, meta)
        elif meta["size"]:
            yield _whole(result, meta["size"])

    def _parts(self, call: Call, name: str, meta: ObjectMeta) -> Generator[memoryview]:
        size, version = meta["size"], meta["e_tag"]

        def fetch(offset: int) -> memoryview:
            end = min(offset + _PART, size)
            options: GetOptions = {"range": (offset, end)}
            if version:
                options["if_match"] = version
            try:
                with store_errors():
                    result = obstore.get(self._store, name, options=options)
                return _whole(result, end - offset)
            except Missing:
                raise Unavailable("the object was deleted while it was read", says=SAYS) from None

        offsets = iter(range(0, size, _PART))
        window: deque[Future[memoryview]] = deque()
        with ThreadPoolExecutor(_PARTS_AT_ONCE, "backend") as pool:
            try:
                for offset in islice(offsets, _PARTS_AT_ONCE):
                    window.append(pool.submit(fetch, offset))
                while window:
                    part = window.popleft().result()
                    call.check()
                    yield part
                    del part  # frees its memory before the next part is requested
                    window.extend(pool.submit(fetch, offset) for offset in islice(offsets, 1))
            finally:
                for future in window:
                    future.cancel()

    # --- writing ------------------------------------------------------------------------------------------

    def write(self, key: str, chunks: Iterable[Chunk], *, size: int | None = None) -> None:
        """Store the bytes that `chunks` yields once it has ended normally. If it raises, nothing is stored.

        Args:
            key: the key of the object.
            chunks: its bytes.
            size: roughly how many bytes there will be, if that is known. It decides the size of a part.

        Raises:
            LimitReached: there are more bytes than one upload may have.
        """
        name = self._name(key)
        if self._directory:
            self._directory.write(name, chunks)
            return
        part = _STREAM_PART if size is None else max(_SMALLEST_PART, -(-size // _MOST_PARTS // _MIB) * _MIB + _MIB)
        with store_errors(writing=True):
            writer = obstore.open_writer(self._store, name, buffer_size=part, max_concurrency=max(1, WRITING // part))
        try:
            for chunk in _bounded(chunks, part * _MOST_PARTS):
                copy = _copied(chunk)
                with store_errors(writing=True):
                    writer.write(copy)
        except BaseException as error:
            with suppress(PluginError), store_errors():
                writer.__exit__(type(error), error, error.__traceback__)  # aborts the upload in the store
            raise
        with store_errors(writing=True):
            writer.close()

    # --- names --------------------------------------------------------------------------------------------

    def _name(self, key: str) -> str:
        """Return the name of the object `key` in the store."""
        name = f"{self._prefix}{key}"
        if flaw := keys.flaw(name):
            raise BadRequest(f"the key with the store's prefix cannot be used: {flaw}")
        return keys.as_file(name) if self._directory else name

    def _remove_empty_directories(self, gone: Iterable[str]) -> None:
        if self._directory:
            self._directory.remove_empty_directories(self._name(key) for key in gone)


def _bounded(chunks: Iterable[Chunk], most: int) -> Iterator[Chunk]:
    written = 0
    for chunk in chunks:
        written += len(chunk)
        if written > most:
            raise LimitReached(f"an object of more than {most} bytes cannot be stored")
        yield chunk


def _copied(chunk: Chunk) -> Chunk:
    """Return a copy of `chunk`, whose own buffer may be used again before the library has sent it.

    A mapping returns to the system as soon as the library drops it. malloc keeps freed memory, separately for each
    thread: with a directory of large files it kept three times the memory in use.
    """
    if isinstance(chunk, bytes) or len(chunk) < _MAPPED:
        return bytes(chunk)
    copy = mmap.mmap(-1, len(chunk))
    copy[:] = chunk
    return memoryview(copy)


def _whole(result: GetResult, size: int) -> memoryview:
    """Return all bytes of an answer, which must be `size`."""
    with store_errors():
        data = result.bytes()
    if len(data) != size:
        raise Unavailable(f"the store sent {len(data)} of {size} bytes", says=SAYS)
    return memoryview(data)

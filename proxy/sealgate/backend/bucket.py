"""A place in an object store, spoken to by exact keys; all that goes wrong in it is a `PluginError`."""

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
from sealgate.call import Call
from sealgate.errors import BadRequest, LimitReached, PluginError, Unavailable
from sealgate.plugin import Chunk

if TYPE_CHECKING:
    from collections.abc import Generator

    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import ObjectStore

_MIB = 1 << 20
_PART, _PARTS_AT_ONCE = 2 * _MIB, 6
"""How an object is read. Measured against an S3 server on the same machine: more at once is hardly faster,
and takes twice as much memory as it seems to, for the library gathers a part before it hands it out."""
READING = _PART * (_PARTS_AT_ONCE + 1)
"""The most memory that reading takes, in bytes."""
WRITING = 40 * _MIB
"""The most memory that writing takes, in bytes, for any object below 390 GiB."""
_MOST_PARTS = 10_000
"""Of one upload, on S3."""
_SMALLEST_PART, _STREAM_PART = 8 * _MIB, 16 * _MIB
_PAGE = 1000
_MAPPED = 1 << 17
"""Above this size memory comes from the system itself."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing."""

    key: str
    size: int


class Bucket:
    """Objects by key, in one store and beneath one prefix.

    Args:
        store: where the objects are.
        prefix: what goes before each key in the store.
        directory: the store itself, where it is a local directory.
        workers: how many small objects are best moved at once.
    """

    def __init__(
        self, store: ObjectStore, *, prefix: str = "", directory: DirectoryStore | None = None, workers: int = 1
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._directory = directory
        self.workers = workers

    def exists(self, key: str) -> bool:
        """Tell whether there is an object of this key."""
        try:
            with store_errors():
                obstore.head(self._store, self._name(key))
        except Missing:
            return False
        return True

    def beneath(self, call: Call, key: str) -> Generator[ListedObject]:
        """The objects whose keys begin with `key` and a slash, in any order."""
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
                # A store lists an object `key/`, which others make for a directory, as `key`.
                yield from (self._stored(meta) for meta in page if meta["path"].startswith(start))
        except Missing:  # in a store that is a directory, where the key is a file
            return

    def delete(self, doomed: Collection[str]) -> None:
        """Remove objects, in bulk where the store can. Absent ones are no error."""
        names = iter([self._name(key) for key in doomed])
        while batch := list(islice(names, _PAGE)):
            try:
                with store_errors():
                    # One alone goes without the bulk operation, which not every store has.
                    obstore.delete(self._store, batch if len(batch) > 1 else batch[0])
            except Missing:  # and who knows what happened to the others
                for name in batch:
                    with suppress(Missing), store_errors():
                        obstore.delete(self._store, name)
        self._prune(doomed)

    def rename(self, source: str, target: str) -> None:
        """Give an object another key; most stores copy it for that."""
        with store_errors(writing=True):
            obstore.rename(self._store, self._name(source), self._name(target))
        self._prune([source])

    def is_flat(self, near: str) -> bool:
        """Tell whether an object may have others beneath it, by trying; those that are file systems refuse."""
        probe = f"{near}.sealgate-{secrets.token_hex(6)}"
        probes = [probe, f"{probe}/probe"]
        try:
            for key in probes:
                self.write(key, [])
        except PluginError:
            return False
        finally:
            with suppress(PluginError):
                self.delete(probes)
        return True

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, call: Call, key: str) -> Generator[memoryview]:
        """Yield an object in runs of a few MiB, each with the next ones already on their way.

        Ends normally only after the last byte. Closing it ends every request.

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
                    del part  # the next one takes its place in memory
                    window.extend(pool.submit(fetch, offset) for offset in islice(offsets, 1))
            finally:
                for future in window:
                    future.cancel()

    # --- writing ------------------------------------------------------------------------------------------

    def write(self, key: str, chunks: Iterable[Chunk], *, size: int | None = None) -> None:
        """Store what `chunks` yields, once it has ended normally. If it raises, nothing is stored.

        Args:
            key: the object's.
            chunks: its bytes.
            size: about how many there will be, where that is known.
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
                own = _copied(chunk)
                with store_errors(writing=True):
                    writer.write(own)
        except BaseException as error:
            with suppress(PluginError), store_errors():
                writer.__exit__(type(error), error, error.__traceback__)  # ends the upload in the store
            raise
        with store_errors(writing=True):
            writer.close()

    # --- names --------------------------------------------------------------------------------------------

    def _name(self, key: str) -> str:
        name = f"{self._prefix}{key}"
        if flaw := keys.flaw(name):
            raise BadRequest(f"a key cannot be used: {flaw}")
        return keys.as_file(name) if self._directory else name

    def _stored(self, meta: ObjectMeta) -> ListedObject:
        path = keys.from_file(meta["path"]) if self._directory else meta["path"]
        return ListedObject(path.removeprefix(self._prefix), meta["size"])

    def _prune(self, gone: Iterable[str]) -> None:
        if self._directory:
            self._directory.prune(self._name(key) for key in gone)


def _bounded(chunks: Iterable[Chunk], most: int) -> Iterator[Chunk]:
    written = 0
    for chunk in chunks:
        written += len(chunk)
        if written > most:
            raise LimitReached(f"an object of more than {most} bytes cannot be stored")
        yield chunk


def _copied(chunk: Chunk) -> Chunk:
    """The same bytes, to be kept until they are sent; a chunk's buffer may be used again before that.

    A mapping goes back to the system as soon as the library drops it. What is malloc's, malloc keeps, for each
    thread apart: measured with a directory of large files, three times the memory that is in use.
    """
    if isinstance(chunk, bytes) or len(chunk) < _MAPPED:
        return bytes(chunk)
    copy = mmap.mmap(-1, len(chunk))
    copy[:] = chunk
    return memoryview(copy)


def _whole(result: GetResult, size: int) -> memoryview:
    with store_errors():
        data = result.bytes()
    if len(data) != size:
        raise Unavailable(f"the store sent {len(data)} bytes of {size}", says=SAYS)
    return memoryview(data)

"""Writes one object, a large one in several parts that are in flight at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

import obstore
from obstore.store import AzureStore

from sealgate.backend.buffers import bounded, copied
from sealgate.backend.errors import store_errors
from sealgate.backend.spare import Share, SpareMemory
from sealgate.errors import PluginError
from sealgate.plugin import Chunk

if TYPE_CHECKING:
    from obstore import AsyncWritableFile
    from obstore.store import ObjectStore

_MIB = 1 << 20
WRITING = 40 * _MIB
"""The most memory that writing an object below 390 GiB takes, in bytes."""
_OWN = 16 * _MIB
"""What of this each upload has. The rest it takes from the spare memory of the process, if that is free."""
_MOST_PARTS = 10_000
"""How many parts one upload may have on S3."""
_SMALLEST_PART, _STREAM_PART = 8 * _MIB, 16 * _MIB
_SMALL = _MIB
"""Up to this many bytes, an object is written by one request. A server may close the connection of a larger one before
it has read the body, and its refusal is then lost."""

_LAST_ANSWER = 5.0
"""Seconds that a write which was cancelled waits for the answer to its last request, if it must replace nothing."""


async def write(
    store: ObjectStore,
    name: str,
    chunks: Iterable[Chunk],
    spare: SpareMemory,
    *,
    size: int | None = None,
    only_new: bool = False,
) -> None:
    """Store the bytes that `chunks` yields once it has ended normally. If it raises, nothing is stored.

    If the work is cancelled in its last request, the object may be stored or not, but never in part. With `only_new`,
    that request is waited for up to `_LAST_ANSWER`, and the object that it created is deleted.

    Args:
        store: the library's store.
        name: the object's name in it.
        chunks: its bytes. Waiting for them holds up the thread.
        spare: the memory for parts that are in flight beyond `_OWN`.
        size: roughly how many bytes there will be, if that is known. It decides the size of a part.
        only_new: whether an object that is already stored stays as it is. One of several parts gets its name in two
            steps: an empty object is created, and then replaced.

    Raises:
        AlreadyStored: there is such an object, and `only_new` is set.
        LimitReached: there are more bytes than one upload may have.
    """
    waiting = iter(chunks)
    first = bytearray()
    for chunk in waiting:
        first += chunk
        if len(first) > _SMALL:
            part = _part_size(size)
            most = WRITING // part if size is None else min(WRITING // part, -(-size // part))
            with Share(spare, part) as share:
                at_once = max(1, _OWN // part)
                while at_once < most and share.take():
                    at_once += 1
                upload = _UploadInParts(store, name, part, at_once, only_new=only_new)
                await upload.send(chain([bytes(first)], waiting))
            return
    await _put(store, name, bytes(first), only_new=only_new)


async def _put(store: ObjectStore, name: str, content: bytes, *, only_new: bool) -> None:
    with store_errors(writing=True):
        if not only_new:
            await obstore.put_async(store, name, content, mode="overwrite", use_multipart=False)
            return
        request = asyncio.ensure_future(_create(store, name, content))
        try:
            await _answered(request)
        except asyncio.CancelledError:
            # Otherwise no create-only write of this key could succeed later.
            if request.done() and not request.cancelled() and not request.exception():
                await _remove(store, name)
            raise


async def _create(store: ObjectStore, name: str, content: bytes) -> None:
    await obstore.put_async(store, name, content, mode="create", use_multipart=False)


async def _remove(store: ObjectStore, name: str) -> None:
    """Remove an object, also if the work is cancelled meanwhile: then within `_LAST_ANSWER`. A failure is ignored."""

    async def remove() -> None:
        with suppress(PluginError), store_errors():
            await obstore.delete_async(store, name)

    removal = asyncio.ensure_future(remove())
    try:
        await asyncio.shield(removal)
    except asyncio.CancelledError:
        await asyncio.wait([removal], timeout=_LAST_ANSWER)
        removal.cancel()
        raise


async def _close(writer: AsyncWritableFile) -> None:
    await writer.close()


async def _answered(request: asyncio.Task[None]) -> None:
    """Wait for the answer to a request, for up to `_LAST_ANSWER` even if the work is cancelled meanwhile."""
    try:
        await asyncio.shield(request)
    except asyncio.CancelledError:
        await asyncio.wait([request], timeout=_LAST_ANSWER)
        request.cancel()
        raise


def _part_size(size: int | None) -> int:
    """Return how many bytes a part of an object has that has about `size` bytes."""
    return _STREAM_PART if size is None else max(_SMALLEST_PART, -(-size // _MOST_PARTS // _MIB) * _MIB + _MIB)


class _UploadInParts:
    """An object that is uploaded in parts of `part` bytes, of which `at_once` are in memory."""

    def __init__(self, store: ObjectStore, name: str, part: int, at_once: int, *, only_new: bool) -> None:
        self._part = part
        self._at_once = at_once
        self._store = store
        self._name = name
        self._only_new = only_new
        self._is_azure = isinstance(store, AzureStore)

    async def send(self, chunks: Iterable[Chunk]) -> None:
        if self._is_azure:  # there, a new object discards the parts of an upload, so it comes first
            await self._reserve()
        with store_errors(writing=True):
            writer = obstore.open_writer_async(
                self._store, self._name, buffer_size=self._part, max_concurrency=self._at_once
            )
        try:
            for chunk in bounded(chunks, self._part * _MOST_PARTS):
                copy = copied(chunk)
                with store_errors(writing=True):
                    await writer.write(copy)
            if not self._is_azure:
                await self._reserve()
        except BaseException as error:
            await self._abort(writer, error)
            if self._is_azure:
                await self._release()
            raise
        try:
            with store_errors(writing=True):
                if self._only_new:
                    await _answered(asyncio.ensure_future(_close(writer)))
                else:
                    await writer.close()
        except BaseException:
            await self._release()
            raise

    async def _abort(self, writer: AsyncWritableFile, error: BaseException) -> None:
        with suppress(PluginError), store_errors():
            await writer.__aexit__(type(error), error, error.__traceback__)

    async def _reserve(self) -> None:
        """Create the empty object that the upload is going to replace, if it must replace nothing else."""
        if self._only_new:
            await _put(self._store, self._name, b"", only_new=True)

    async def _release(self) -> None:
        """Remove that empty object."""
        if self._only_new:
            await _remove(self._store, self._name)

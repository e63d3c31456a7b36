"""Stores an artifact only if nothing is stored under its key: a write that replaces nothing (`Call.only_new`).

Each object is created by a request that the store itself refuses if the object exists. A file and a directory of the
same key have no object in common. So each write checks afterwards whether the other kind is stored, too. Of two writes
at the same time, at least one then finds the other one, and takes back what it stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress

from sealgate import envelope
from sealgate.backend.beneath import Beneath
from sealgate.backend.bucket import Bucket
from sealgate.backend.errors import SAYS
from sealgate.backend.in_flight import run
from sealgate.backend.trees import open_files, planned_keys, store_each
from sealgate.call import Call
from sealgate.errors import AlreadyStored, PluginError
from sealgate.plugin import Chunk


def create_file(bucket: Bucket, call: Call, key: str, chunks: Iterable[Chunk], size: int | None = None) -> None:
    """Store what `chunks` yields as the object `key`.

    Raises:
        AlreadyStored: something is stored under the key, or beneath it. It stays as it is.
    """
    run(call, bucket.create(key, chunks, size=size))
    directory, _, name = key.rpartition("/")
    is_taken = bucket.exists(directory) if directory and name == envelope.MANIFEST else False
    if is_taken or Beneath(bucket, call, key).is_any():
        _take_back(bucket, call, {key})


def create_tree(bucket: Bucket, call: Call, key: str, root: int) -> None:
    """Store the directory open as `root` beneath `key`.

    Raises:
        AlreadyStored: something is stored under the key, or an object of the directory. It stays as it is.
    """
    planned_keys(call, key, root)
    stored: set[str] = set()

    async def create(key: str, chunks: Iterable[Chunk], *, size: int | None = None) -> None:
        await bucket.create(key, chunks, size=size)
        stored.add(key)

    try:
        with closing(open_files(key, root, set())) as files:
            run(call, store_each(bucket, call, create, files))
    except BaseException:
        with suppress(PluginError):
            bucket.delete(call, stored)
        raise
    if bucket.exists(key):
        _take_back(bucket, call, stored)


def _take_back(bucket: Bucket, call: Call, stored: set[str]) -> None:
    bucket.delete(call, stored)
    raise AlreadyStored(says=SAYS)

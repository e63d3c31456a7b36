"""Files and directories on their way between a bucket and the local disk."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

from sealgate import envelope
from sealgate.backend import keys, local
from sealgate.backend.beneath import Beneath, Contents, is_over_limit
from sealgate.backend.bucket import Bucket
from sealgate.backend.errors import SAYS, Missing
from sealgate.backend.in_flight import each_at_once, run
from sealgate.backend.parallel import Budget
from sealgate.backend.reading import READING
from sealgate.backend.replace import replacing
from sealgate.backend.writing import WRITING
from sealgate.call import Call
from sealgate.errors import DataLoss, LimitReached, shown_key
from sealgate.plugin import Chunk
from sealgate.storage.destination import Destination
from sealgate.storage.local_paths import read_chunks


class Store(Protocol):
    """Stores one object: `Bucket.write` or `Bucket.create`."""

    def __call__(self, key: str, chunks: Iterable[Chunk], *, size: int | None = None) -> Coroutine[Any, Any, None]:
        """Store the bytes that `chunks` yields under `key`."""


def save_tree(bucket: Bucket, call: Call, key: str, root: int) -> None:
    """Store the directory open as `root` beneath `key`, and remove everything else that is stored there.

    Raises:
        BadRequest: the directory has an entry that cannot be stored. Nothing was stored then.
        LimitReached: it has more than `envelope.MOST_ENTRIES` files.
    """
    planned = planned_keys(call, key, root)
    with replacing(bucket, call, key, planned) as stored, closing(open_files(key, root, stored)) as files:
        run(call, store_each(bucket, call, bucket.write, files))


async def store_each(bucket: Bucket, call: Call, store: Store, files: Iterator[tuple[str, int]]) -> None:
    """Store files, several at once.

    Args:
        bucket: where they are stored.
        call: the call that stores them.
        store: `bucket.write` or `bucket.create`.
        files: the key of each, and its descriptor, which is closed.
    """
    budget = Budget(WRITING)

    async def one(item: tuple[str, int]) -> None:
        key, fd = item
        try:
            size = os.fstat(fd).st_size
            async with budget.of(size):
                await store(key, read_chunks(fd, call.check), size=size)
        finally:
            os.close(fd)

    await each_at_once(one, files, bucket.workers)


def planned_keys(call: Call, key: str, root: int) -> set[str]:
    """Return the keys of all objects of a directory. This finds what cannot be stored before anything is stored."""
    planned: set[str] = set()
    with closing(local.entries(root)) as entries:
        for entry in entries:
            call.check()
            planned.add(f"{key}/{entry.path}")
            if is_over_limit(planned, key):
                raise LimitReached(f"the directory has more than {envelope.MOST_ENTRIES} files")
    return planned


def open_files(key: str, root: int, stored: set[str]) -> Generator[tuple[str, int]]:
    """Yield the key of each file with its descriptor, which the caller closes.

    Each key is added to `stored` before it is yielded.
    """
    with closing(local.entries(root)) as entries:
        for entry in entries:
            target = f"{key}/{entry.path}"
            fd = entry.open()
            stored.add(target)
            yield target, fd


def load_tree(bucket: Bucket, call: Call, key: str, destination: Destination) -> None:
    """Create the directory that is stored beneath `key` at `destination`. Objects that cannot be paths are left out.

    Raises:
        Missing: no file is stored there.
        DataLoss: one path is both a file and a directory.
    """
    beneath = Beneath(bucket, call, key)
    contents = _without_conflicts(beneath)
    left_out: list[str] = []
    with destination.new_directory(local.DIRECTORY_MODE) as root:

        async def load_all() -> None:
            budget = Budget(READING)

            async def load(item: tuple[str, int]) -> None:
                listed, size = item
                name = listed.removeprefix(f"{key}/")
                modes = (local.FILE_MODE, local.DIRECTORY_MODE)
                async with budget.of(size):
                    try:
                        await bucket.load(call, listed, lambda: envelope.create_beneath(root, name, modes))
                    except Missing:
                        if not beneath.has_other_name(listed):
                            raise
                        left_out.append(listed)

            await each_at_once(load, iter(contents.sizes.items()), bucket.workers)

        run(call, load_all())
        if len(left_out) == len(contents.sizes):
            raise Missing
    beneath.warn_of(contents.left_out + len(left_out))


def _without_conflicts(beneath: Beneath) -> Contents:
    """Return what is stored, without objects that stand for a directory of others.

    Other programs store an empty object for a directory, or one whose key ends in a slash.

    Raises:
        DataLoss: an object with content has the key of a directory of others.
    """
    contents = beneath.contents()
    if _conflicts(contents, beneath.key):
        contents = beneath.exact_contents() or contents
    for path in _conflicts(contents, beneath.key):
        if contents.sizes.pop(path) and beneath.bucket.exists(path):
            raise DataLoss(
                f'"{shown_key(path)}" in the store is both a file and a directory',
                says=SAYS,
                remedy="Delete the one that does not belong there, or load it with spool.transfer auto",
            )
    return contents


def _conflicts(contents: Contents, key: str) -> list[str]:
    """Return the keys that are also the beginnings of others."""
    directories: set[str] = set()
    for listed in contents.sizes:
        directories.update(keys.above(listed, key))
    return [path for path in directories if path in contents.sizes]

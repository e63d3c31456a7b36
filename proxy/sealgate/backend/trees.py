"""Files and directories on their way between a bucket and the local disk."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import closing

from sealgate import envelope
from sealgate.backend import keys, local
from sealgate.backend.bucket import READING, WRITING, Bucket
from sealgate.backend.errors import SAYS, Missing
from sealgate.backend.parallel import Budget, each
from sealgate.backend.replace import MOST_OBJECTS, replacing
from sealgate.call import Call
from sealgate.errors import DataLoss, LimitReached
from sealgate.plugin import Chunk
from sealgate.storage.local_paths import Destination, read_chunks, write_all


def save_file(bucket: Bucket, call: Call, key: str, fd: int) -> None:
    """Store the file open as `fd` as the object `key`."""
    bucket.write(key, read_chunks(fd, call.check), size=os.fstat(fd).st_size)


def save_tree(bucket: Bucket, call: Call, key: str, root: int) -> None:
    """Store the directory open as `root` beneath `key`, and remove everything else that is stored there.

    Raises:
        BadRequest: the directory has an entry that cannot be stored. Nothing was stored then.
        LimitReached: it has more than `MOST_OBJECTS` files.
    """
    planned = _plan(call, key, root)
    budget = Budget(WRITING)

    def save(item: tuple[str, int | None]) -> None:
        target, fd = item
        if fd is None:
            bucket.write(target, [])
            return
        try:
            with budget.of(os.fstat(fd).st_size):
                save_file(bucket, call, target, fd)
        finally:
            os.close(fd)

    with replacing(bucket, call, key, planned) as stored, closing(_open_files(key, root, stored)) as files:
        each(save, files, bucket.workers)


def _plan(call: Call, key: str, root: int) -> set[str]:
    """Return the keys of all objects of a directory. This finds what cannot be stored before anything is stored."""
    planned: set[str] = set()
    with closing(local.entries(root)) as entries:
        for entry in entries:
            call.check()
            planned.add(f"{key}/{entry.path}")
            if len(planned) > MOST_OBJECTS:
                raise LimitReached(f"the directory has more than {MOST_OBJECTS} files")
    return planned


def _open_files(key: str, root: int, stored: set[str]) -> Generator[tuple[str, int | None]]:
    """Yield the key of each file with its descriptor, which the caller closes; None for an empty directory's marker.

    Each key is added to `stored` before it is yielded.
    """
    with closing(local.entries(root)) as entries:
        for entry in entries:
            target = f"{key}/{entry.path}"
            fd = None if entry.is_marker else entry.open()
            stored.add(target)
            yield target, fd


def load_file(parts: Iterable[Chunk], fd: int) -> None:
    """Write the bytes of an object to the new file open as `fd`."""
    for part in parts:
        write_all(fd, part)


def load_tree(bucket: Bucket, call: Call, key: str, destination: Destination) -> None:
    """Create the directory that is stored beneath `key` at `destination`.

    Raises:
        Missing: no object is stored there.
        DataLoss: a key beneath it cannot be a path, or one path is both a file and a directory.
    """
    sizes, directories = _contents(bucket, call, key)
    budget = Budget(READING)
    with destination.new_directory(local.DIRECTORY_MODE) as root:
        local.create_directories(root, directories)

        def load(name: str) -> None:
            with (
                budget.of(sizes[name]),
                closing(bucket.read(call, f"{key}/{name}")) as parts,
                envelope.create_beneath(root, name, (local.FILE_MODE, local.DIRECTORY_MODE)) as fd,
            ):
                load_file(parts, fd)

        each(load, iter(sizes), bucket.workers)


def _contents(bucket: Bucket, call: Call, key: str) -> tuple[dict[str, int], set[str]]:
    """Return the files beneath `key` with their sizes in bytes, and the directories, all by relative paths."""
    sizes: dict[str, int] = {}
    directories: set[str] = set()
    is_missing = True
    for stored in bucket.beneath(call, key):
        is_missing = False
        name = stored.key.removeprefix(f"{key}/")
        if flaw := keys.flaw(name):
            raise DataLoss(f"the store lists a key that cannot be a path: {flaw}", says=SAYS)
        directories.update(keys.above(name))
        if not keys.is_marker(name):
            sizes[name] = stored.size
        if len(sizes) > MOST_OBJECTS:
            raise LimitReached(f"more than {MOST_OBJECTS} objects are stored beneath the key")
    if is_missing:
        raise Missing
    for path in directories & sizes.keys():
        # Other programs store an empty object for a directory.
        if sizes.pop(path):
            raise DataLoss("one path in the store is both a file and a directory", says=SAYS)
    return sizes, directories

"""Files and directories on their way between a bucket and the local disk."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from sealgate.backend import keys, local
from sealgate.backend.bucket import READING, WRITING, Bucket
from sealgate.backend.errors import SAYS, Missing
from sealgate.backend.parallel import Budget, each
from sealgate.backend.replace import MOST_OBJECTS, replacing
from sealgate.call import Call
from sealgate.errors import BadRequest, DataLoss, LimitReached


def save_file(bucket: Bucket, call: Call, key: str, source: local.OpenSource) -> None:
    """Store an open file."""
    bucket.write(key, source.chunks(call), size=source.size)


def save_tree(bucket: Bucket, call: Call, key: str, source: local.OpenSource) -> None:
    """Store an open directory, and let nothing else remain beneath the key."""
    planned = _plan(call, key, source)
    budget = Budget(WRITING)

    def save(item: tuple[str, local.OpenSource | None]) -> None:
        target, file = item
        if file is None:
            bucket.write(target, [])
            return
        with closing(file), budget.of(file.size):
            save_file(bucket, call, target, file)

    with replacing(bucket, call, key, planned) as stored, closing(_files(key, source, stored)) as files:
        each(save, files, bucket.workers)


def _plan(call: Call, key: str, source: local.OpenSource) -> set[str]:
    """The keys that a directory will take. To find out what cannot be stored before anything is."""
    planned: set[str] = set()
    with closing(local.walk(source.fd)) as found:
        for file in found:
            call.check()
            planned.add(f"{key}/{file.path}")
            if len(planned) > MOST_OBJECTS:
                raise LimitReached(f"the directory holds more than {MOST_OBJECTS} files")
    return planned


def _files(key: str, source: local.OpenSource, stored: set[str]) -> Generator[tuple[str, local.OpenSource | None]]:
    """Each file, open, with its key; for an empty directory its marker's key, and nothing to read."""
    with closing(local.walk(source.fd)) as found:
        for file in found:
            target = f"{key}/{file.path}"
            opened = None if file.is_marker else local.opened(file.name, file.directory)
            if opened and opened.is_directory:
                opened.close()
                raise BadRequest("the directory changed while it was read")
            stored.add(target)
            yield target, opened


def load_tree(bucket: Bucket, call: Call, key: str, path: Path) -> None:
    """Create the directory that lies beneath `key`, at `path`.

    Raises:
        Missing: nothing lies there.
    """
    sizes, directories = _contents(bucket, call, key)
    local.create_directories(path, directories)
    budget = Budget(READING)

    def load(name: str) -> None:
        with budget.of(sizes[name]), closing(bucket.read(call, f"{key}/{name}")) as parts:
            local.create(path / name, parts)

    each(load, iter(sizes), bucket.workers)
    local.open_to_all(path)


def _contents(bucket: Bucket, call: Call, key: str) -> tuple[dict[str, int], set[str]]:
    """The files beneath a key with their sizes, and the directories, by relative paths."""
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
            raise LimitReached(f"more than {MOST_OBJECTS} objects lie beneath the key")
    if is_missing:
        raise Missing
    for both in directories & sizes.keys():
        # Empty objects stand for directories in stores that other programs write to.
        if sizes.pop(both):
            raise DataLoss("in the store, one path names both a file and a directory", says=SAYS)
    return sizes, directories

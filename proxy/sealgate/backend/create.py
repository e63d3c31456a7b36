"""Stores an artifact only if nothing is stored under its key: a write that replaces nothing (`Call.only_new`).

Each object is created by a request that the store itself refuses if the object exists. A file and a directory of the
same key have no object in common. So each write checks afterwards whether the other kind is stored, too. Of two writes
at the same time, at least one then finds the other one, and takes back what it stored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from sealgate import envelope
from sealgate.backend.beneath import Beneath
from sealgate.backend.bucket import Bucket
from sealgate.backend.errors import SAYS
from sealgate.backend.in_flight import run
from sealgate.backend.trees import open_files, planned_keys, store_each
from sealgate.call import Call
from sealgate.errors import AlreadyStored, PluginError
from sealgate.log_event import LogEvent
from sealgate.plugin import Chunk

log = logging.getLogger("sealgate.backend")


def create_file(bucket: Bucket, call: Call, key: str, chunks: Iterable[Chunk], size: int | None = None) -> None:
    """Store what `chunks` yields as the object `key`. If this raises after that, the object is taken back.

    Raises:
        AlreadyStored: something is stored under the key, or beneath it. It stays as it is.
    """
    bucket.put(call, key, chunks, size=size, only_new=True)
    directory, _, name = key.rpartition("/")
    with _taken_back(bucket, call, {key}):
        call.check()
        is_taken = bucket.exists(directory) if directory and name == envelope.MANIFEST else False
        if is_taken or Beneath(bucket, call, key).is_any():
            raise AlreadyStored(says=SAYS)


def create_tree(bucket: Bucket, call: Call, key: str, root: int) -> None:
    """Store the directory open as `root` beneath `key`. If this raises, what was stored is taken back.

    Raises:
        AlreadyStored: something is stored under the key, or an object of the directory. It stays as it is.
    """
    planned_keys(call, key, root)
    stored: set[str] = set()

    async def create(key: str, chunks: Iterable[Chunk], *, size: int | None = None) -> None:
        await bucket.create(key, chunks, size=size)
        stored.add(key)

    with _taken_back(bucket, call, stored):
        with closing(open_files(key, root, set())) as files:
            run(call, store_each(bucket, call, create, files))
        if bucket.exists(key):
            raise AlreadyStored(says=SAYS)


@contextmanager
def _taken_back(bucket: Bucket, call: Call, stored: set[str]) -> Iterator[None]:
    """Delete the objects `stored` if the body raises, as far as `Call.undoing` has time for it.

    What is left refuses a later write, so the log says it.
    """
    try:
        yield
    except BaseException:
        try:
            bucket.delete_while_awaited(call.undoing(), stored)
        except PluginError as fault:
            log.warning(
                LogEvent(
                    "not all objects of a write that failed were removed",
                    reason=fault.fact,
                    stored=len(stored),
                    decision_id=call.id,
                )
            )
        raise

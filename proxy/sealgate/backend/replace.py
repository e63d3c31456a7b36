"""Replacing an artifact: what was stored under the key before goes once the new one is stored, and not sooner.

In most stores a file `a` and a file `a/b` can lie beside each other. In one that is a file system they cannot,
so there the old files that stand in the way are moved aside first, to `<key>.sealgate-<random>/`, and moved
back if storing the new ones fails. Nothing is lost but by killing the process in between, and then it lies there.

What this cannot do is to replace a directory in one step: no store has that. A file that old and new have in
common is replaced when its turn comes, and stays so if a later one fails.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sealgate.backend import keys
from sealgate.backend.bucket import Bucket
from sealgate.call import Call
from sealgate.errors import LimitReached, PluginError

MOST_OBJECTS = 100_000
"""In one artifact."""


def keys_of(bucket: Bucket, call: Call, key: str) -> set[str]:
    """The keys of all objects beneath `key`.

    Raises:
        LimitReached: there are more than `MOST_OBJECTS`.
    """
    found: set[str] = set()
    for stored in bucket.beneath(call, key):
        found.add(stored.key)
        if len(found) > MOST_OBJECTS:
            raise LimitReached(f"more than {MOST_OBJECTS} objects lie beneath the key")
    return found


@contextmanager
def replacing(bucket: Bucket, call: Call, key: str, planned: set[str]) -> Iterator[set[str]]:
    """Have the body store an artifact, and clear away what else lay at its key.

    Args:
        bucket: where.
        call: on whose behalf.
        key: the artifact's.
        planned: the keys of the objects that the body is going to store.

    Yields:
        A set for the body to put each key into before it stores the object.
    """
    old = keys_of(bucket, call, key)
    if planned != {key} and bucket.exists(key):
        old.add(key)
    aside = _move_aside(bucket, key, _in_the_way(key, old, planned))
    stored: set[str] = set()
    try:
        yield stored
    except BaseException:
        with suppress(PluginError):
            bucket.delete(stored - (old - aside.keys()))
        _move_back(bucket, aside)
        raise
    bucket.delete([*(old - stored - aside.keys()), *aside.values()])


def _in_the_way(key: str, old: set[str], planned: set[str]) -> set[str]:
    """Those of the old that could not lie beside the new if keys were the paths of files."""
    directories = {above for new in planned for above in keys.above(new, key)}
    return {one for one in old if one in directories or not planned.isdisjoint(keys.above(one, key))}


def _move_aside(bucket: Bucket, key: str, obstacles: set[str]) -> dict[str, str]:
    """Where each obstacle went, of those that had to go."""
    moved: dict[str, str] = {}
    if not obstacles or bucket.is_flat(key):
        return moved
    aside = f"{key}.sealgate-{secrets.token_hex(6)}"
    try:
        for obstacle in obstacles:
            target = f"{aside}/was{obstacle.removeprefix(key)}"
            bucket.rename(obstacle, target)
            moved[obstacle] = target
    except BaseException:
        _move_back(bucket, moved)
        raise
    return moved


def _move_back(bucket: Bucket, moved: dict[str, str]) -> None:
    for original, target in moved.items():
        with suppress(PluginError):
            bucket.rename(target, original)

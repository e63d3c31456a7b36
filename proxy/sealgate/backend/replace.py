"""Replaces an artifact: objects of the old one are removed once the new one is stored, and not before.

In most stores the objects `a` and `a/b` can exist together. In a store that is a file system they cannot. There, the
old objects that are in the way are first moved to `<key>.sealgate-<random>/`, and moved back if storing the new ones
fails. If the process is killed in between, they remain there.

No store can replace a directory in one step. An object that the old and the new artifact have in common is replaced
when its turn comes, and stays replaced if a later object fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sealgate.backend import keys
from sealgate.backend.beneath import Beneath
from sealgate.backend.bucket import Bucket
from sealgate.call import Call
from sealgate.errors import PluginError


def is_vacant(call: Call, key: str) -> bool:
    """Return whether it is known that nothing is stored beneath `key`: it is a file of a directory that is new."""
    return bool(call.sealed.vacant) and key.startswith(f"{call.sealed.vacant}/")


@contextmanager
def replacing(bucket: Bucket, call: Call, key: str, planned: set[str]) -> Iterator[set[str]]:
    """Remove the old objects of an artifact after the body has stored the new ones.

    If the body raises, the new objects are removed, except those that replaced an old one.

    Args:
        bucket: where the artifact is stored.
        call: the call that stores it.
        key: the artifact's key.
        planned: the keys of the objects that the body is going to store.

    Yields:
        A set. The body adds each key to it before it stores the object.
    """
    beneath = Beneath(bucket, call, key)
    contents = beneath.contents()
    old = set(contents.sizes)
    if planned != {key} and bucket.exists(key):
        old.add(key)
    aside = _move_aside(bucket, call, key, _in_the_way(key, old, planned))
    stored: set[str] = set()
    try:
        yield stored
    except BaseException:
        with suppress(PluginError):
            bucket.delete(call, stored - (old - aside.keys()))
        _move_back(bucket, aside)
        raise
    bucket.delete(call, list(aside.values()))
    beneath.delete_old(contents, old - stored - aside.keys())


def _in_the_way(key: str, old: set[str], planned: set[str]) -> set[str]:
    """Return the old keys that could not exist together with the planned ones if keys were paths of files."""
    directories = {above for new in planned for above in keys.above(new, key)}
    return {one for one in old if one in directories or not planned.isdisjoint(keys.above(one, key))}


def _move_aside(bucket: Bucket, call: Call, key: str, obstacles: set[str]) -> dict[str, str]:
    """Move the obstacles out of the way if the store requires it, and return the new key of each moved one."""
    moved: dict[str, str] = {}
    if not obstacles or bucket.is_flat(call, key):
        return moved
    aside = keys.beside(key)
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

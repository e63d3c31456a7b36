"""What is stored beneath a key, including objects of other programs that the store library cannot name.

The library lists most keys as they are. It has no name for a key with an empty or relative segment or a control
character, and raises `NotAPath` for a listing that contains one. It lists `a/folder/`, which a console stores for a
folder, as `a/folder`. Where a store has a `RawKeys`, which is S3 alone, such a listing is made again with it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice

from sealgate import envelope
from sealgate.backend import keys
from sealgate.backend.bucket import Bucket, ListedObject
from sealgate.backend.errors import NotAPath
from sealgate.call import Call, logged_key
from sealgate.errors import LimitReached, NotConfigured
from sealgate.log_event import LogEvent

log = logging.getLogger("sealgate.backend")

_DELETED_AT_ONCE = 10_000
_REPLACED = "\ufffd"
"""What some stores list for each character that XML cannot contain."""


@dataclass(slots=True)
class Contents:
    """The objects beneath a key."""

    sizes: dict[str, int] = field(default_factory=dict)
    """The size in bytes of each object whose key can be a path, by its key."""
    left_out: int = 0
    """How many others there are. No Save stored them."""


@dataclass(frozen=True, slots=True)
class Beneath:
    """The objects beneath one key, for one call. An empty key, which only listings accept, is for the whole store."""

    bucket: Bucket
    call: Call
    key: str

    def is_any(self) -> bool:
        """Return whether there is an object."""
        own = f"{self.key}/"
        try:
            with closing(self.bucket.beneath(self.call, self.key)) as listed:
                # Where nothing can delete the object `key/`, it does not count either.
                return any(self.bucket.has_raw or one.key != own for one in listed)
        except NotAPath:
            return True

    def contents(self) -> Contents:
        """Return all objects. An object `key/` is among them as `key`, and reading that raises `Missing`.

        Raises:
            LimitReached: there are more than `envelope.MOST_ENTRIES`.
            NotAPath: there is an object that cannot be listed in this store.
        """
        try:
            return self._collected(self.bucket.beneath(self.call, self.key))
        except NotAPath:
            if not self.bucket.has_raw:
                raise
            return self._collected(self.bucket.beneath_raw(self.call, self.key))

    def exact_contents(self) -> Contents | None:
        """Return all objects that can be paths, none under another key; None if that cannot be found out."""
        if self.bucket.has_raw:
            with suppress(NotConfigured):  # a store may forbid presigned requests
                return self._collected(self.bucket.beneath_raw(self.call, self.key))
        return None

    def _collected(self, listed: Iterator[ListedObject]) -> Contents:
        contents = Contents()
        for one in listed:
            if keys.flaw(one.key):
                contents.left_out += 1
                continue
            contents.sizes[one.key] = one.size
            if is_over_limit(contents.sizes, self.key):
                where = "beneath the key" if self.key else "in the store"
                raise LimitReached(
                    f"more than {envelope.MOST_ENTRIES} objects are stored {where}",
                    remedy="Delete the artifact, which removes all of them, or what does not belong to it"
                    if self.key
                    else "List one key after the other",
                )
        return contents

    def warn_of(self, left_out: int) -> None:
        """Log that objects were left out of a listing or of a Load, if there were any."""
        if left_out:
            log.warning(
                LogEvent(
                    "objects were left out",
                    operation=self.call.operation,
                    key=logged_key(self.call, self.key),
                    reason="their keys cannot be paths",
                    objects=left_out,
                    decision_id=self.call.id,
                )
            )

    def has_other_name(self, key: str) -> bool:
        """Return whether a listing shows `key` because of an object with another key, such as `key/`."""
        if _REPLACED in key:
            return True
        folder = f"{key}/"
        try:
            with closing(self.bucket.beneath(self.call, key)) as listed:
                first = next(listed, None)
        except NotAPath:
            if not self.bucket.has_raw:
                raise
            first = next(self.bucket.beneath_raw(self.call, key), None)
        return first is not None and first.key == folder

    # --- removing -----------------------------------------------------------------------------------------

    def delete_all(self) -> None:
        """Remove every object.

        Raises:
            NotAPath: there is one that cannot be removed in this store.
        """
        if self.bucket.is_directory:
            self.bucket.delete_directory(self.call, self.key)
            return
        try:
            self._delete(one.key for one in self.bucket.beneath(self.call, self.key))
        except NotAPath:
            if not self.bucket.has_raw:
                raise
            self._delete(one.key for one in self.bucket.beneath_raw(self.call, self.key))
        if self.bucket.has_raw:
            self._delete_remaining(None)
        self._require_none()

    def delete_old(self, old: Contents, doomed: Collection[str]) -> None:
        """Remove the objects `doomed` of an artifact that was replaced, and all whose keys cannot be paths.

        Args:
            old: what was stored before.
            doomed: keys of it that the new artifact does not have.
        """
        self._delete(iter(doomed))
        if self.bucket.has_raw and (doomed or old.left_out):
            self._delete_remaining(set(doomed))

    def _delete_remaining(self, doomed: set[str] | None) -> None:
        """Remove what a listing shows under another key, after `doomed` was removed by the listed keys.

        Args:
            doomed: the keys; None for all.
        """
        try:
            remaining = [
                one.key if keys.flaw(one.key) else f"{one.key}/"
                for one in self.bucket.beneath(self.call, self.key)
                if doomed is None or one.key in doomed or keys.flaw(one.key)
            ]
        except NotAPath:
            self._delete(one.key for one in self.bucket.beneath_raw(self.call, self.key) if keys.flaw(one.key))
        else:
            self._delete(iter(remaining))

    def _require_none(self) -> None:
        """Raise `NotAPath` if an object is still listed that another call has not just stored."""
        for one in self.bucket.beneath(self.call, self.key):
            is_own_folder = one.key == f"{self.key}/"
            if self.bucket.has_raw if is_own_folder else not self.bucket.exists(one.key):
                raise NotAPath(one.key)

    def _delete(self, doomed: Iterator[str]) -> None:
        while batch := list(islice(doomed, _DELETED_AT_ONCE)):
            # Without a `RawKeys`, nothing can delete the object `key/`.
            self.bucket.delete(self.call, [key for key in batch if self.bucket.has_raw or not keys.flaw(key)])


def is_over_limit(stored: Collection[str], key: str) -> bool:
    """Return whether the artifact `key` has more objects than it may have. Sealgate's manifest is not counted."""
    return len(stored) > envelope.MOST_ENTRIES + (f"{key}/{envelope.MANIFEST}" in stored)

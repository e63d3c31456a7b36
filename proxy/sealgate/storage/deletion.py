"""Deletes artifacts so that nothing of them is left, whatever one Delete of the downstream does.

Some downstreams delete the object at the key alone and report success for a directory. So what is stored beneath the
key is listed, deleted object by object where one Delete is not enough, and listed again. A downstream in this process
can delete many objects at once.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace

from sealgate import envelope
from sealgate.call import Call
from sealgate.errors import DataLoss, DownstreamStatus, LimitReached, PluginError, Refused, UnclearAnswer
from sealgate.plugin import Artifact
from sealgate.storage.absence import explained
from sealgate.storage.stored_objects import StoredObjects

_MOST_REMEMBERED = 256
"""The number of configurations for which it is remembered how the downstream deletes."""
_REMEDY = "Give the downstream the right to delete, or delete the rest by hand"


@dataclass(slots=True)
class _Habits:
    """How the downstream has deleted so far with one configuration."""

    deletes_objects: bool = False
    """Objects that were listed and deleted are no longer listed."""
    leaves_beneath: bool = False
    """The Delete of a directory left objects beneath its key, or was refused."""
    lists: bool = False
    """A listing had keys beneath the artifact's key. Else a listing without such keys proves nothing."""


class Deleter:
    """Deletes through the downstream, and verifies what it did.

    It remembers for each configuration of an artifact how the downstream deletes, so that later Deletes need fewer
    requests. That is kept in the memory of this process alone.

    Args:
        stored: the objects in the downstream.
    """

    def __init__(self, stored: StoredObjects) -> None:
        self._stored = stored
        self._habits: OrderedDict[bytes, _Habits] = OrderedDict()
        self._lock = threading.Lock()

    def delete_artifact(self, call: Call, artifact: Artifact) -> None:
        """Delete the object at the artifact's key and every object beneath it. An absent artifact is not an error.

        The manifest of a directory is deleted first: nothing of the directory loads without it.

        Raises:
            DataLoss: the downstream reported success, and objects are left.
            UnclearAnswer: the downstream does not say whether objects are left.
        """
        if self._stored.replaces_whole(call):
            self._stored.delete(call, artifact)
            return
        habits = self._habits_of(artifact)
        try:
            beneath = self._beneath(call, artifact)
        except (Refused, DownstreamStatus, UnclearAnswer, LimitReached):
            is_answered = self._delete_without_listing(call, artifact)
        else:
            is_answered = self._delete_listed(call, artifact, beneath, habits)
        self.require_gone(call, artifact, is_answered=is_answered)

    def delete_objects(self, call: Call, artifact: Artifact, keys: AbstractSet[str]) -> None:
        """Delete the objects `keys` beneath the artifact's key, at once if the downstream can, else one by one.

        Raises:
            DataLoss: the downstream reported success, and one of the objects is left.
            UnclearAnswer: the downstream does not say whether objects are left.
        """
        if not keys:
            return
        at_once = self._delete_each(call, artifact, keys)
        left = keys & self._beneath(call, artifact)
        if left and at_once:
            # Such as a folder's marker, whose own key ends in a slash: it is listed without that.
            self._delete_one_by_one(call, artifact, left)
            left = keys & self._beneath(call, artifact)
        if left:
            raise _remains(len(left))

    def require_gone(self, call: Call, artifact: Artifact, *, is_answered: bool) -> None:
        """Check that no object is stored at the artifact's key.

        It is not read once the downstream has proved that it deletes objects, if `is_answered` is True: the result of
        `StoredObjects.delete`. A key at which nothing is found proves nothing: it may have been empty before.

        An empty stream counts as an absent object: a sealed object has a header, so it is never empty.

        Raises:
            DataLoss: the object is still there.
            UnclearAnswer: the downstream does not say whether it is.
        """
        habits = self._habits_of(artifact)
        if habits.deletes_objects and is_answered:
            return
        if self._stored.is_stored(call, artifact):
            raise DataLoss(
                "the downstream reported success, but the object can still be read", says="downstream", remedy=_REMEDY
            )

    def _may_be_stored(self, call: Call, artifact: Artifact) -> bool:
        """Return False if no object is stored at the artifact's key."""
        try:
            return self._stored.is_stored(call, artifact)
        except UnclearAnswer:
            return True

    def _delete_listed(self, call: Call, artifact: Artifact, beneath: frozenset[str], habits: _Habits) -> bool:
        """Delete an artifact with the objects `beneath` its key. Return the result of `StoredObjects.delete`."""
        manifest = f"{artifact.key}/{envelope.MANIFEST}"
        others = beneath - {manifest}
        if manifest in beneath:
            self._stored.delete(call, replace(artifact, key=manifest))
        if habits.leaves_beneath:
            self._delete_each(call, artifact, others)
        try:
            is_answered = self._stored.delete(call, artifact)
        except (Refused, DownstreamStatus):
            if not beneath:
                raise
            # Some plugins refuse to delete a key that is a directory. Then each object is deleted on its own.
            if not habits.leaves_beneath:
                self._delete_each(call, artifact, others)
                habits.leaves_beneath = True
            if self._may_be_stored(call, artifact):
                raise
            is_answered = True
        if beneath:
            habits.lists = True
            self._delete_rest(call, artifact, habits)
        elif not habits.lists:
            self._require_no_directory(call, artifact)
        return is_answered

    def _require_no_directory(self, call: Call, artifact: Artifact) -> None:
        """Check that nothing is left beneath a key for which an empty listing was sent, as far as the downstream says.

        Some downstreams list nothing, or list names that do not begin with the key.
        """
        is_directory = False
        with suppress(Refused, DownstreamStatus):
            is_directory = self._stored.is_directory(call, artifact)
        if is_directory:
            raise _remains(1)

    def _delete_rest(self, call: Call, artifact: Artifact, habits: _Habits) -> None:
        """Delete what one Delete has left beneath the key, and verify that."""
        left = self._beneath(call, artifact)
        if left and not habits.leaves_beneath:
            habits.leaves_beneath = True
            self._delete_each(call, artifact, left)
            left = self._beneath(call, artifact)
        if left:
            raise _remains(len(left))
        habits.deletes_objects = True

    def _delete_without_listing(self, call: Call, artifact: Artifact) -> bool:
        """Delete an artifact through a downstream that does not list. It must say that nothing is beneath the key.

        Return the result of `StoredObjects.delete`.
        """
        is_answered = self._stored.delete(call, artifact)
        try:
            is_directory = self._stored.downstream.is_directory(call, artifact)
        except (Refused, DownstreamStatus) as error:
            if self._stored.absence.of_all(error, artifact):
                return is_answered
            raise explained(error, "IsDirectory") from None
        if is_directory:
            raise _remains(1)
        return is_answered

    def _delete_each(self, call: Call, artifact: Artifact, keys: AbstractSet[str]) -> bool:
        """Delete the objects `keys`, and return whether the downstream has deleted exactly them at once."""
        if self._stored.downstream.delete_objects(call, artifact, keys):
            return True
        self._delete_one_by_one(call, artifact, keys)
        return False

    def _delete_one_by_one(self, call: Call, artifact: Artifact, keys: AbstractSet[str]) -> None:
        """Delete the objects `keys`. One beneath another goes first: the Delete of the other can delete both."""
        for key in sorted(keys, reverse=True):
            call.check()
            self._stored.delete(call, replace(artifact, key=key))

    def _beneath(self, call: Call, artifact: Artifact) -> frozenset[str]:
        """Return the keys beneath the artifact's key. A store that lists by prefix also lists keys beside it."""
        prefix = f"{artifact.key}/"
        return frozenset(key for key in self._stored.keys(call, artifact) if key.startswith(prefix))

    def _habits_of(self, artifact: Artifact) -> _Habits:
        place = hashlib.sha256(artifact.configuration.encode(errors="surrogatepass")).digest()
        with self._lock:
            habits = self._habits.setdefault(place, _Habits())
            self._habits.move_to_end(place)
            while len(self._habits) > _MOST_REMEMBERED:
                self._habits.popitem(last=False)
        return habits


def _remains(count: int) -> PluginError:
    fact = f"the downstream reported success, but objects are still stored beneath the key: at least {count}"
    return DataLoss(fact, says="downstream", remedy=_REMEDY)

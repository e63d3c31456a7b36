"""Moves stored objects to the newest version of the keys that wrap their data keys, without opening them.

Only the wrapped key in a header changes; the body is copied from the downstream to the downstream unchanged. A body
cannot be verified without its data key, and a downstream may truncate it without an error. Therefore an object is read
twice, and replaced by the second reading only if both are equal, byte for byte.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from sealgate import envelope
from sealgate.call import Call, Operation, WrappedKey
from sealgate.envelope import Header
from sealgate.errors import (
    BadRequest,
    Cancelled,
    DataLoss,
    DownstreamStatus,
    LimitReached,
    NotSealed,
    PluginError,
    Refused,
    Truncated,
    Unavailable,
    UnclearAnswer,
)
from sealgate.keys.provider import BATCH, KeyVersions, Rewrapper
from sealgate.plugin import Artifact, Chunk
from sealgate.policy import canonical_keys
from sealgate.rotation.patience import Pace, Patience
from sealgate.rotation.report import Report, StaleObject
from sealgate.storage.stored_objects import StoredObjects

_WINDOW = 100
"""Objects that are read before the stale ones among them are written."""
_MOST_PENDING = 1000
"""Stale objects that wait for a full batch."""
_THREADS = 4
"""Objects that are read or written at the same time."""
_REFUSES_EMPTY_KEY = {"INVALID_ARGUMENT", "UNIMPLEMENTED", UnclearAnswer.status}
"""Statuses by which a downstream refuses to list the whole store."""
_MOST_REMEMBERED = 10_000
"""Data keys whose new wrap is remembered, so that files of a directory that share a data key still share one."""


@dataclass(frozen=True, slots=True)
class _Stale:
    """An object that is sealed under an older key version, as it was read the first time."""

    index: int
    """The object's index in the list of all objects."""
    key: str
    header: Header
    digest: bytes
    """SHA-256 of the body."""


class Rotation:
    """One walk over stored objects that share an artifact configuration.

    Args:
        stored: lists, reads and writes the objects.
        keys: rewraps their data keys.
        artifact: the artifact of every request, apart from its key.
        pace: limits how fast objects are started.
        patience: cancels calls without progress, and stops the walk.
        dry_run: read the headers, and change nothing.
    """

    def __init__(
        self,
        stored: StoredObjects,
        keys: Rewrapper,
        artifact: Artifact,
        *,
        pace: Pace,
        patience: Patience,
        dry_run: bool = False,
    ) -> None:
        self._stored = stored
        self._keys = keys
        self._artifact = artifact
        self._pace = pace
        self._patience = patience
        self._dry_run = dry_run
        self._new_wraps: OrderedDict[WrappedKey, WrappedKey] = OrderedDict()
        self._versions: dict[str, KeyVersions | PluginError] = {}
        self._versions_lock = threading.Lock()
        self._lock = threading.Lock()
        self.report = Report()

    # --- the walk -----------------------------------------------------------------------------------------

    def objects(self, prefix: str) -> list[str]:
        """Return the keys of all objects beneath `prefix` and of one at `prefix` itself, sorted; [] if there is none.

        Args:
            prefix: the first segments of the keys, or one whole key. An empty one is for the whole store.

        Raises:
            BadRequest: the downstream does not list a whole store.
            DataLoss: the downstream lists an object that is not beneath `prefix`.
            LimitReached: there are more objects than the downstream lists at once.
        """
        listed = self._listed(prefix)
        if not prefix:
            return sorted(listed)
        if any(not key.startswith(f"{prefix}/") for key in listed):
            raise DataLoss("the downstream lists an object outside the prefix", says="downstream")
        if listed:
            return sorted(listed | {prefix} if self._is_readable(prefix) else listed)
        with self._patience.call(Operation.IS_DIRECTORY) as (call, _):
            is_directory = self._stored.is_directory(call, replace(self._artifact, key=prefix))
        is_object = self._is_readable(prefix) if is_directory else not self._is_absent(prefix)
        return [prefix] if is_object else []

    def _listed(self, prefix: str) -> set[str]:
        try:
            with self._patience.call(Operation.LIST_OBJECTS) as (call, _):
                return set(self._stored.keys(call, replace(self._artifact, key=prefix)))
        except (DownstreamStatus, LimitReached, UnclearAnswer) as fault:
            code = fault.code if isinstance(fault, DownstreamStatus) else fault.status
            if code == LimitReached.status:
                raise LimitReached(
                    "there are more objects than the downstream lists at once",
                    says="downstream",
                    remedy="Give longer prefixes; several are one run",
                ) from None
            if not prefix and code in _REFUSES_EMPTY_KEY:
                raise BadRequest(
                    "the downstream does not list a whole store",
                    says="downstream",
                    remedy="Give prefixes in place of --all, such as the first segment of every key",
                ) from None
            raise

    def _is_absent(self, key: str) -> bool:
        """Return whether the downstream says that no object is stored at `key`."""
        try:
            self._read(key)
        except (Refused, DownstreamStatus) as fault:
            return self._is_gone(key, fault)
        except (Cancelled, Unavailable):
            raise
        except PluginError:
            return False
        return False

    def _is_readable(self, key: str) -> bool:
        """Return whether an object is stored at `key`, which may also be a directory."""
        try:
            self._read(key)
        except Unavailable:
            raise
        except (Refused, DownstreamStatus, Truncated, BadRequest):
            return False
        except PluginError:
            return True
        return True

    def run(self, objects: Sequence[str], progress: Callable[[], None] = lambda: None) -> Report:
        """Move every object that is not current, in order. The report contains the error that ended it early, if any.

        Args:
            objects: the keys of the objects, sorted.
            progress: is called once for each object that was handled.
        """
        done = bytearray(len(objects))

        def finish(index: int) -> None:
            done[index] = True
            progress()

        try:
            with ThreadPoolExecutor(_THREADS, "sealgate-rotation") as pool:
                self._walk(pool, objects, finish)
        except Cancelled:
            pass  # the rotation was asked to stop
        except PluginError as fault:
            self.report.stopped_by = fault
        self.report.stale_objects.sort()
        count = done.find(0) if 0 in done else len(done)
        self.report.finished = self.report.whole = count == len(done)
        self.report.reached = objects[count - 1] if count else ""
        return self.report

    def _walk(self, pool: ThreadPoolExecutor, objects: Sequence[str], finish: Callable[[int], None]) -> None:
        pending: list[_Stale] = []
        for start in range(0, len(objects), _WINDOW):
            window = range(start, min(start + _WINDOW, len(objects)))
            inspected = pool.map(lambda index: self._inspect(index, objects[index], finish), window)
            pending += [stale for stale in inspected if stale]
            self._raise_if_all_keys_refused()
            is_last = window[-1] == len(objects) - 1
            while count := self._full_batch(pending) or (len(pending) if is_last else 0):
                self._move(pool, pending[:count], finish)
                del pending[:count]
            if self._patience.stop.is_set():
                return

    def _full_batch(self, pending: Sequence[_Stale]) -> int:
        """Return how many of the pending objects fill a request to the key service; 0 if they do not fill one."""
        keys: set[WrappedKey] = set()
        for count, stale in enumerate(pending):
            if stale.header.key not in self._new_wraps:
                keys.add(stale.header.key)
            if len(keys) > BATCH or count == _MOST_PENDING:
                return count
        return 0

    def _raise_if_all_keys_refused(self) -> None:
        """End the walk if the key service has refused every key so far: it would refuse the others, too."""
        refusals = [answer for answer in self._versions.values() if isinstance(answer, PluginError)]
        if refusals and not self.report.newest:
            raise refusals[0]

    # --- reading ------------------------------------------------------------------------------------------

    def _inspect(self, index: int, key: str, finish: Callable[[int], None]) -> _Stale | None:
        """Read an object and count it. Return it if it must be moved; else it is finished."""
        if self._patience.stop.is_set():
            return None
        self._pace.start()
        try:
            stale = self._read_if_stale(index, key)
        except (Cancelled, Unavailable):
            raise  # a service that is away for one object is away for the others
        except PluginError as fault:
            with self._lock:
                self.report.found += 1
                if isinstance(fault, NotSealed):
                    self.report.not_sealed += 1
                elif isinstance(fault, Refused | DownstreamStatus) and self._is_gone(key, fault):
                    self.report.gone += 1
                else:
                    self.report.fail(key, fault)
            stale = None
        if stale is not None and not self._dry_run:
            return stale
        if stale is not None:
            wrapped = stale.header.key
            with self._lock:
                self.report.stale_objects.append(StaleObject(key, wrapped.key_name, wrapped.key_version))
        finish(index)
        return None

    def _is_gone(self, key: str, fault: PluginError) -> bool:
        return self._stored.absence.of_object(fault, replace(self._artifact, key=key))

    def _read_if_stale(self, index: int, key: str) -> _Stale | None:
        """Read an object, and return it if it is sealed under an older key version."""
        if key.endswith("/"):
            raise NotSealed("a directory marker contains no data")
        if fault := canonical_keys.fault_of(key):
            raise BadRequest(fault)
        header, digest = self._read(key)
        with self._lock:
            self.report.found += 1
            self.report.current += digest is None
            self.report.versions[header.key.key_name, header.key.key_version] += 1
        return _Stale(index, key, header, digest) if digest is not None else None

    def _read(self, key: str) -> tuple[Header, bytes | None]:
        """Return the header of an object, and the SHA-256 of its body; None in its place if the object is current."""
        artifact = replace(self._artifact, key=key)
        with (
            self._patience.call(Operation.OPEN_STREAM) as (call, progress),
            closing(self._stored.read(call, artifact)) as chunks,
        ):
            header, body = envelope.split_stream(chunks)
            self._keys.require_own(header.key)
            if header.key.key_version == self._newest(header.key):
                return header, None
            digest = hashlib.sha256()
            if not self._dry_run:
                for chunk in body:
                    digest.update(chunk)
                    progress()
        return header, digest.digest()

    def _newest(self, wrapped: WrappedKey) -> int:
        """Return the newest version of the key that wraps `wrapped`.

        Raises:
            DataLoss: the header names a newer version than exists.
        """
        newest = self._versions_of(wrapped.key_name).newest
        if wrapped.key_version > newest:  # the key may have been rotated since the last request
            newest = self._versions_of(wrapped.key_name, again=True).newest
        if wrapped.key_version > newest:
            raise DataLoss(
                f"the header names version {wrapped.key_version} of key {wrapped.key_name}, and {newest} is the newest",
                remedy="Restore the object from a copy that was not changed",
            )
        return newest

    def _versions_of(self, key: str, *, again: bool = False) -> KeyVersions:
        """Return the versions of `key`. The key service is asked once, and `again` on demand; an error is kept, too."""
        with self._versions_lock:
            answer = None if again else self._versions.get(key)
            if answer is None:
                try:
                    answer = self._keys.versions(Call(Operation.LOAD), key)
                    with self._lock:
                        self.report.newest[key] = answer
                except Unavailable:
                    raise
                except PluginError as fault:
                    answer = fault
                self._versions[key] = answer
        if isinstance(answer, PluginError):
            raise type(answer)(answer.fact, says=answer.says, remedy=answer.remedy)
        return answer

    # --- moving -------------------------------------------------------------------------------------------

    def _move(self, pool: ThreadPoolExecutor, stale: Sequence[_Stale], finish: Callable[[int], None]) -> None:
        """Rewrap the data keys of `stale`, and rewrite the objects. Each distinct data key is rewrapped once."""
        old_keys = list(dict.fromkeys(each.header.key for each in stale if each.header.key not in self._new_wraps))
        outcomes = self._keys.rewrap_many(Call(Operation.SAVE), old_keys) if old_keys else []
        faults: dict[WrappedKey, PluginError] = {}
        for old, new in zip(old_keys, outcomes, strict=True):
            if isinstance(new, PluginError):
                faults[old] = new
            else:
                self._new_wraps[old] = new
        with self._patience.call(Operation.GET_CAPABILITIES) as (call, _):
            by_stream = self._stored.writes_by_stream(call)

        def move(each: _Stale) -> None:
            old = each.header.key
            if self._patience.stop.is_set():
                return
            if old in faults:
                with self._lock:
                    self.report.fail(each.key, faults[old])
            else:
                self._rewrite(each, self._new_wraps[old], by_stream=by_stream)
            finish(each.index)

        list(pool.map(move, stale))
        while len(self._new_wraps) > _MOST_REMEMBERED:
            self._new_wraps.popitem(last=False)

    def _rewrite(self, stale: _Stale, new: WrappedKey, *, by_stream: bool) -> None:
        """Read `stale` again, and store it with its new wrapped key."""
        self._pace.start()
        artifact = replace(self._artifact, key=stale.key)
        reading = Call(Operation.OPEN_STREAM)
        try:
            with self._patience.call(Operation.SAVE_STREAM, writes=True) as (writing, progress):
                writing.on_cancel(reading.cancel)
                chunks = self._read_with_new_key(reading, artifact, stale, new, progress)
                self._stored.write(writing, artifact, chunks, by_stream=by_stream)
        except (Cancelled, Unavailable):
            raise
        except PluginError as fault:
            with self._lock:
                self.report.fail(stale.key, fault)
            return
        finally:
            reading.cancel()
        with self._lock:
            self.report.moved += 1
            self.report.versions[stale.header.key.key_name, stale.header.key.key_version] -= 1
            self.report.versions[new.key_name, new.key_version] += 1

    def _read_with_new_key(
        self, call: Call, artifact: Artifact, stale: _Stale, new: WrappedKey, progress: Callable[[], None]
    ) -> Iterator[Chunk]:
        """Yield the object with the wrapped key `new` in its header.

        Raises:
            DataLoss: the object is not the one that was read the first time.
        """
        digest = hashlib.sha256()
        with closing(self._stored.read(call, artifact)) as chunks:
            header, body = envelope.split_stream(chunks)
            if header != stale.header:
                raise DataLoss("the object was replaced while it was moved", remedy="Run sealgate rewrap again")
            yield replace(header, key=new).encode()
            for chunk in body:
                digest.update(chunk)
                progress()
                yield chunk
        if digest.digest() != stale.digest:
            raise DataLoss(
                "the downstream returned other bytes on the second read; the object was left unchanged",
                says="downstream",
                remedy="Look at the downstream's log, and run sealgate rewrap again",
            )

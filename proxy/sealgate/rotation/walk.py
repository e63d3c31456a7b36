"""Moves stored artifacts to the newest version of the keys that wrap their data keys, without opening them.

Only the key envelope in a header changes: the body goes from the downstream back to the downstream as it is. Nobody
can verify a body without its data key, and a downstream that loses its end says so or not. So an object is read
twice, and replaced by the second reading only if that was the first one, byte for byte.
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
    NotSealed,
    PluginError,
    Refused,
    Truncated,
    Unavailable,
)
from sealgate.keys.provider import BATCH, KeyVersions, Rewrapper
from sealgate.plugin import Artifact, ArtifactPlugin, Chunk
from sealgate.policy import canonical_keys
from sealgate.rotation.patience import Pace, Patience
from sealgate.rotation.report import Report
from sealgate.storage.stored_objects import StoredObjects, says_absent

_WINDOW = 100
"""Objects that are looked at before those found stale may be written."""
_MOST_PENDING = 1000
"""Stale objects that wait for a batch to be full."""
_AT_ONCE = 4
"""Objects that are read or written at a time."""
_REMEMBERED = 10_000
"""Data keys whose new wrap is remembered: the files of a directory share one, and shall go on sharing one."""


@dataclass(frozen=True, slots=True)
class _Stale:
    """An object under an older version, as it was read."""

    place: int
    """In the list of all."""
    key: str
    header: Header
    digest: bytes
    """SHA-256 of the body."""


class Rotation:
    """One walk over the objects of one configuration of the downstream.

    Args:
        downstream: lists the objects.
        stored: reads and writes them.
        keys: wraps their data keys anew.
        artifact: what every request says of an artifact, but for the key.
        pace: how fast.
        patience: how long, and until when.
        dry_run: look, and change nothing.
    """

    def __init__(
        self,
        downstream: ArtifactPlugin,
        stored: StoredObjects,
        keys: Rewrapper,
        artifact: Artifact,
        *,
        pace: Pace,
        patience: Patience,
        dry_run: bool = False,
    ) -> None:
        self._downstream = downstream
        self._stored = stored
        self._keys = keys
        self._artifact = artifact
        self._pace = pace
        self._patience = patience
        self._dry_run = dry_run
        self._new_wraps: OrderedDict[WrappedKey, WrappedKey] = OrderedDict()
        self._versions: dict[str, KeyVersions | PluginError] = {}
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        self.report = Report()

    # --- the whole ----------------------------------------------------------------------------------------

    def objects(self, prefix: str) -> list[str]:
        """The keys of all objects beneath `prefix` and under it, sorted.

        Raises:
            DataLoss: the downstream lists what does not lie beneath it.
        """
        artifact = replace(self._artifact, key=prefix)
        with self._patience.call(Operation.LIST_OBJECTS) as (call, _):
            found = set(self._downstream.list_objects(call, artifact))
        if any(not key.startswith(f"{prefix}/") for key in found):
            raise DataLoss("the downstream lists an object outside the prefix", says="downstream")
        with self._patience.call(Operation.IS_DIRECTORY) as (call, _):
            alone = not found and not self._downstream.is_directory(call, artifact)
        return sorted(found | {prefix} if alone or self._is_readable(prefix) else found)

    def _is_readable(self, key: str) -> bool:
        """Whether an object lies under a key that is a directory, too."""
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
        """Move every object that is not current, in order. What ends it early is in the report."""
        done = bytearray(len(objects))

        def finish(place: int) -> None:
            done[place] = True
            progress()

        try:
            with ThreadPoolExecutor(_AT_ONCE, "sealgate-rotation") as pool:
                self._walk(pool, objects, finish)
        except Cancelled:
            pass  # the walk was asked to stop
        except PluginError as fault:
            self.report.stopped_by = fault
        count = done.find(0) if 0 in done else len(done)
        self.report.finished = self.report.whole = count == len(done)
        self.report.reached = objects[count - 1] if count else ""
        return self.report

    def _walk(self, pool: ThreadPoolExecutor, objects: Sequence[str], finish: Callable[[int], None]) -> None:
        pending: list[_Stale] = []
        for start in range(0, len(objects), _WINDOW):
            window = range(start, min(start + _WINDOW, len(objects)))
            looked = pool.map(lambda place: self._looked_at(place, objects[place], finish), window)
            pending += [found for found in looked if found]
            self._require_answers()
            is_last = window[-1] == len(objects) - 1
            while count := self._full_batch(pending) or (len(pending) if is_last else 0):
                self._move(pool, pending[:count], finish)
                del pending[:count]
            if self._patience.stop.is_set():
                return

    def _full_batch(self, pending: Sequence[_Stale]) -> int:
        """How many of the pending objects fill a request to the key service; 0 if they do not."""
        keys: set[WrappedKey] = set()
        for count, found in enumerate(pending):
            if found.header.key not in self._new_wraps:
                keys.add(found.header.key)
            if len(keys) > BATCH or count == _MOST_PENDING:
                return count
        return 0

    def _require_answers(self) -> None:
        """End a walk in which the key service has refused everything: it would do so for the rest, too."""
        refusals = [answer for answer in self._versions.values() if isinstance(answer, PluginError)]
        if refusals and not self.report.newest:
            raise refusals[0]

    # --- looking ------------------------------------------------------------------------------------------

    def _looked_at(self, place: int, key: str, finish: Callable[[int], None]) -> _Stale | None:
        if self._patience.stop.is_set():
            return None
        self._pace.start()
        try:
            found = self._look(place, key)
        except (Cancelled, Unavailable):
            raise  # what is not there for one is not there for the others
        except PluginError as fault:
            with self._lock:
                self.report.found += 1
                if isinstance(fault, NotSealed):
                    self.report.not_sealed += 1
                elif isinstance(fault, Refused | DownstreamStatus) and self._is_gone(key, fault):
                    self.report.gone += 1
                else:
                    self.report.fail(key, fault)
            found = None
        if found is None or self._dry_run:
            finish(place)
            return None
        return found

    def _is_gone(self, key: str, fault: PluginError) -> bool:
        return says_absent(fault, replace(self._artifact, key=key))

    def _look(self, place: int, key: str) -> _Stale | None:
        """An object that is not current."""
        if key.endswith("/"):
            raise NotSealed("a directory's marker holds nothing")
        if fault := canonical_keys.fault_of(key):
            raise BadRequest(fault)
        header, digest = self._read(key)
        with self._lock:
            self.report.found += 1
            self.report.current += digest is None
            self.report.versions[header.key.key_name, header.key.key_version] += 1
        return _Stale(place, key, header, digest) if digest is not None else None

    def _read(self, key: str) -> tuple[Header, bytes | None]:
        """The header of an object, and the digest of its body unless it is current."""
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
        """The newest version of the key that wraps it.

        Raises:
            DataLoss: the header names a newer one.
        """
        newest = self._known(wrapped.key_name).newest
        if wrapped.key_version > newest:  # the key may have been rotated since it was asked for
            newest = self._known(wrapped.key_name, again=True).newest
        if wrapped.key_version > newest:
            raise DataLoss(
                f"the header names version {wrapped.key_version} of key {wrapped.key_name}, and {newest} is the newest",
                remedy="Restore the object from a copy that was not changed",
            )
        return newest

    def _known(self, key: str, *, again: bool = False) -> KeyVersions:
        """What the key service says of a key: asked for once, whatever the answer."""
        with self._asking:
            found = None if again else self._versions.get(key)
            if found is None:
                try:
                    found = self._keys.versions(Call(Operation.LOAD), key)
                    with self._lock:
                        self.report.newest[key] = found
                except Unavailable:
                    raise
                except PluginError as fault:
                    found = fault
                self._versions[key] = found
        if isinstance(found, PluginError):
            raise type(found)(found.fact, says=found.says, remedy=found.remedy)
        return found

    # --- moving -------------------------------------------------------------------------------------------

    def _move(self, pool: ThreadPoolExecutor, stale: Sequence[_Stale], finish: Callable[[int], None]) -> None:
        """Rewrap and rewrite. Objects that share a data key go on sharing it, and cost the key service one."""
        wanted = list(dict.fromkeys(found.header.key for found in stale if found.header.key not in self._new_wraps))
        outcomes = self._keys.rewrap_many(Call(Operation.SAVE), wanted) if wanted else []
        faults: dict[WrappedKey, PluginError] = {}
        for old, new in zip(wanted, outcomes, strict=True):
            if isinstance(new, PluginError):
                faults[old] = new
            else:
                self._new_wraps[old] = new
        with self._patience.call(Operation.GET_CAPABILITIES) as (call, _):
            by_stream = self._stored.writes_by_stream(call)

        def move(found: _Stale) -> None:
            old = found.header.key
            if self._patience.stop.is_set():
                return
            if old in faults:
                with self._lock:
                    self.report.fail(found.key, faults[old])
            else:
                self._write(found, self._new_wraps[old], by_stream=by_stream)
            finish(found.place)

        list(pool.map(move, stale))
        while len(self._new_wraps) > _REMEMBERED:
            self._new_wraps.popitem(last=False)

    def _write(self, found: _Stale, new: WrappedKey, *, by_stream: bool) -> None:
        self._pace.start()
        artifact = replace(self._artifact, key=found.key)
        reading = Call(Operation.OPEN_STREAM)
        try:
            with self._patience.call(Operation.SAVE_STREAM, writes=True) as (writing, progress):
                writing.on_cancel(reading.cancel)
                chunks = self._exchanged(reading, artifact, found, new, progress)
                self._stored.write(writing, artifact, chunks, by_stream=by_stream)
        except (Cancelled, Unavailable):
            raise
        except PluginError as fault:
            with self._lock:
                self.report.fail(found.key, fault)
            return
        finally:
            reading.cancel()
        with self._lock:
            self.report.moved += 1
            self.report.versions[found.header.key.key_name, found.header.key.key_version] -= 1
            self.report.versions[new.key_name, new.key_version] += 1

    def _exchanged(
        self, call: Call, artifact: Artifact, found: _Stale, new: WrappedKey, progress: Callable[[], None]
    ) -> Iterator[Chunk]:
        """The object with its new key envelope; breaks off if it is not what was read before."""
        digest = hashlib.sha256()
        with closing(self._stored.read(call, artifact)) as chunks:
            header, body = envelope.split_stream(chunks)
            if header != found.header:
                raise DataLoss("the object was replaced while it was moved", remedy="Run sealgate rewrap again")
            yield replace(header, key=new).encode()
            for chunk in body:
                digest.update(chunk)
                progress()
                yield chunk
        if digest.digest() != found.digest:
            raise DataLoss(
                "the downstream gave other bytes when it was asked again; the object was left as it was",
                says="downstream",
                remedy="Look at the downstream's log, and run sealgate rewrap again",
            )

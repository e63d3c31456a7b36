"""Moves stored artifacts to the newest version of the keys that wrap their data keys, without opening them.

Only the key envelope in a header changes: the body goes from the downstream back to the downstream as it is. Nobody
can verify a body without its data key, and a downstream that loses its end says so or not. So an object is read
twice, and replaced by the second reading only if that was the first one, byte for byte.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

from policies import keys as canonical
from proxy import envelope
from proxy.envelope import Header
from proxy.keys.provider import KeyVersions, Rewrapper
from proxy.plugin import (
    Artifact,
    ArtifactPlugin,
    BadRequest,
    Call,
    Chunk,
    DataLoss,
    NotSealed,
    Operation,
    PluginError,
    Unavailable,
    WrappedKey,
)
from proxy.stored import Stored

BATCH = 100
"""Data keys to one request of the key service (docs/vault.md)."""
_WINDOW = 100
"""Objects that are looked at before those found stale may be written."""
_MOST_PENDING = 1000
"""Stale objects that wait for a batch to be full."""
_AT_ONCE = 4
"""Objects that are read or written at a time."""
_REMEMBERED = 10_000
"""Data keys whose new wrap is remembered: the files of a directory share one, and shall go on sharing one."""
_MOST_FAULTS = 100
"""That a report spells out."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One object that was left as it was."""

    key: str
    fact: str
    remedy: str


@dataclass(slots=True)
class Report:
    """What a rotation found and did."""

    found: int = 0
    """Objects that were looked at."""
    moved: int = 0
    current: int = 0
    not_sealed: int = 0
    failed: int = 0
    faults: list[Fault] = field(default_factory=list)
    """The first hundred."""
    versions: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How many objects lie under which version of which key now."""
    newest: dict[str, KeyVersions] = field(default_factory=dict)
    """The versions of each key that was met."""
    finished: bool = False
    """Whether everything that was asked for was looked at."""
    whole: bool = False
    """Whether that was everything there is."""
    reached: str = ""
    """Everything up to this key was done."""
    stopped_by: PluginError | None = None

    @property
    def stale(self) -> int:
        """How many objects lie under an older version still."""
        return sum(count for (key, version), count in self.versions.items() if version < self.newest[key].newest)

    def under(self, key: str) -> dict[int, int]:
        """How many objects lie under each version of a key."""
        found = sorted(self.versions.items())
        return {version: count for (name, version), count in found if name == key and count}

    def may_be_raised_to(self, key: str) -> int | None:
        """The `min_decryption_version` that leaves none of these objects behind; None if that is not known."""
        if not self.whole or self.failed:
            return None
        return min(self.under(key), default=None)


class Pace:
    """At most so many starts in a second, whoever asks."""

    def __init__(
        self, rate: float, wait: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._wait = wait
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            now = self._clock()
            turn = max(self._next, now)
            self._next = turn + self._interval
        if turn > now:
            self._wait(turn - now)


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
        stop: ends the walk after the objects that are at work.
        dry_run: look, and change nothing.
    """

    def __init__(
        self,
        downstream: ArtifactPlugin,
        stored: Stored,
        keys: Rewrapper,
        artifact: Artifact,
        *,
        pace: Pace,
        stop: threading.Event,
        dry_run: bool = False,
    ) -> None:
        self._downstream = downstream
        self._stored = stored
        self._keys = keys
        self._artifact = artifact
        self._pace = pace
        self._stop = stop
        self._dry_run = dry_run
        self._new_wraps: OrderedDict[WrappedKey, WrappedKey] = OrderedDict()
        self._versions: dict[tuple[str, str, str], KeyVersions | PluginError] = {}
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        self.report = Report()

    def objects(self, prefix: str) -> list[str]:
        """The keys of all objects beneath `prefix`, sorted; `prefix` itself if it is one object.

        Raises:
            DataLoss: the downstream lists what does not lie beneath it.
        """
        artifact = replace(self._artifact, key=prefix)
        found = self._downstream.list_objects(Call(Operation.LIST_OBJECTS), artifact)
        if any(not key.startswith(f"{prefix}/") for key in found):
            raise DataLoss("the downstream lists an object outside the prefix", says="downstream")
        if not found and not self._downstream.is_directory(Call(Operation.IS_DIRECTORY), artifact):
            return [prefix]
        return sorted(set(found))

    def run(self, objects: Sequence[str], progress: Callable[[], None] = lambda: None) -> Report:
        """Move every object that is not current, in order. What ends it early is in the report."""
        pending: list[_Stale] = []
        try:
            with ThreadPoolExecutor(_AT_ONCE, "sealgate-rotation") as pool:
                for start in range(0, len(objects), _WINDOW):
                    window = objects[start : start + _WINDOW]
                    looked = list(pool.map(self._looked_at, range(start, start + len(window)), window))
                    pending += [found for found in looked if found]
                    for _ in range(looked.count(None)):
                        progress()
                    while (count := self._full_batch(pending)) or (pending and window[-1] == objects[-1]):
                        self._move(pool, pending[: count or len(pending)], progress)
                        del pending[: count or len(pending)]
                    if self._stop.is_set():
                        break
                    done = pending[0].place if pending else start + len(window)
                    self.report.reached = objects[done - 1] if done else ""
        except PluginError as fault:
            self.report.stopped_by = fault
        ended = self._stop.is_set() or self.report.stopped_by is not None
        self.report.finished = self.report.found == len(objects) and not ended
        self.report.whole = self.report.finished
        return self.report

    def _full_batch(self, pending: Sequence[_Stale]) -> int:
        """How many of the pending objects fill a request to the key service; 0 if they do not."""
        keys: set[WrappedKey] = set()
        for count, found in enumerate(pending):
            if found.header.key not in self._new_wraps:
                keys.add(found.header.key)
            if len(keys) > BATCH or count == _MOST_PENDING:
                return count
        return 0

    # --- looking ------------------------------------------------------------------------------------------

    def _looked_at(self, place: int, key: str) -> _Stale | None:
        if self._stop.is_set():
            return None
        self._pace.start()
        try:
            if fault := canonical.fault_of(key):
                raise BadRequest(fault)
            header, digest = self._read(key)
        except NotSealed:
            with self._lock:
                self.report.found += 1
                self.report.not_sealed += 1
            return None
        except Unavailable:
            raise  # what is not there for one is not there for the others
        except PluginError as fault:
            self._failed(key, fault)
            return None
        with self._lock:
            self.report.found += 1
            self.report.current += digest is None
            self.report.versions[header.key.key_name, header.key.key_version] += 1
        return _Stale(place, key, header, digest) if digest is not None else None

    def _read(self, key: str) -> tuple[Header, bytes | None]:
        """The header of an object, and the digest of its body unless it is current."""
        call = Call(Operation.OPEN_STREAM)
        with closing(self._stored.read(call, replace(self._artifact, key=key))) as chunks:
            header, body = envelope.split_stream(chunks)
            if header.key.key_version >= self._newest(call, header.key).newest:
                return header, None
            digest = hashlib.sha256()
            if not self._dry_run:
                for chunk in body:
                    digest.update(chunk)
        return header, digest.digest()

    def _newest(self, call: Call, key: WrappedKey) -> KeyVersions:
        """Asked for once for each key, whatever the answer."""
        identity = (key.provider, key.mount, key.key_name)
        with self._asking:
            found = self._versions.get(identity)
            if found is None:
                try:
                    found = self.report.newest[key.key_name] = self._keys.versions(call, key)
                except Unavailable:
                    raise
                except PluginError as fault:
                    found = fault
                self._versions[identity] = found
        if isinstance(found, PluginError):
            raise type(found)(found.fact, says=found.says, remedy=found.remedy)
        return found

    # --- moving -------------------------------------------------------------------------------------------

    def _move(self, pool: ThreadPoolExecutor, stale: Sequence[_Stale], progress: Callable[[], None]) -> None:
        """Rewrap and rewrite. Objects that share a data key go on sharing it, and cost the key service one."""
        if self._dry_run:
            for _ in stale:
                progress()
            return
        wanted = list(dict.fromkeys(found.header.key for found in stale if found.header.key not in self._new_wraps))
        outcomes = self._keys.rewrap_many(Call(Operation.SAVE), wanted) if wanted else []
        faults: dict[WrappedKey, PluginError] = {}
        for old, new in zip(wanted, outcomes, strict=True):
            if isinstance(new, PluginError):
                faults[old] = new
            else:
                self._new_wraps[old] = new
        by_stream = bool(stale) and self._stored.writes_by_stream(Call(Operation.SAVE_STREAM))

        def move(found: _Stale) -> None:
            old = found.header.key
            if old in faults:
                self._failed(found.key, faults[old], seen=True)
            elif not self._stop.is_set():
                self._write(found, self._new_wraps[old], by_stream=by_stream)
            progress()

        list(pool.map(move, stale))
        while len(self._new_wraps) > _REMEMBERED:
            self._new_wraps.popitem(last=False)

    def _write(self, found: _Stale, new: WrappedKey, *, by_stream: bool) -> None:
        self._pace.start()
        reading, writing = Call(Operation.OPEN_STREAM), Call(Operation.SAVE_STREAM)
        artifact = replace(self._artifact, key=found.key)
        try:
            self._stored.write(writing, artifact, self._exchanged(reading, artifact, found, new), by_stream=by_stream)
        except Unavailable:
            raise
        except PluginError as fault:
            self._failed(found.key, fault, seen=True)
            return
        finally:
            reading.cancel()
        with self._lock:
            self.report.moved += 1
            self.report.versions[found.header.key.key_name, found.header.key.key_version] -= 1
            self.report.versions[new.key_name, new.key_version] += 1

    def _exchanged(self, call: Call, artifact: Artifact, found: _Stale, new: WrappedKey) -> Iterator[Chunk]:
        """The object with its new key envelope; breaks off if it is not what was read before."""
        digest = hashlib.sha256()
        with closing(self._stored.read(call, artifact)) as chunks:
            header, body = envelope.split_stream(chunks)
            if header != found.header:
                raise DataLoss("the object was replaced while it was moved", remedy="Run sealgate rewrap again")
            yield replace(header, key=new).encode()
            for chunk in body:
                digest.update(chunk)
                yield chunk
        if digest.digest() != found.digest:
            raise DataLoss(
                "the downstream gave other bytes when it was asked again; the object was left as it was",
                says="downstream",
                remedy="Look at the downstream's log, and run sealgate rewrap again",
            )

    def _failed(self, key: str, fault: PluginError, *, seen: bool = False) -> None:
        with self._lock:
            self.report.found += not seen
            self.report.failed += 1
            if len(self.report.faults) < _MOST_FAULTS:
                self.report.faults.append(Fault(key, fault.fact, fault.remedy))

"""The meter of a governed call: it judges each object when it begins, and again with each run of its bytes.

Most objects are within their bounds (`sealgate.policy.bounds`), and then there is nothing to judge. `Sealed` reports to
the meter through the protocol `sealgate.meter.Meter`. The meter asks the storage through the call's probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from typing_extensions import override

from sealgate.layers.ruling import Ruling
from sealgate.layers.storage_probe import StorageProbe
from sealgate.meter import Meter
from sealgate.policy.bounds import PART, Bounds, bounds_of, least_measures
from sealgate.policy.decision import Decision, Measures
from sealgate.policy.engine import Matched
from sealgate.storage.stored_objects import is_manifest


class PolicyMeter(Meter):
    """Judges every object that flows. It raises `Denied` as soon as no policy allows an object any longer."""

    def __init__(self, ruling: Ruling, probe: StorageProbe) -> None:
        self._ruling = ruling
        self._probe = probe
        self._replaced = set(ruling.stored_beneath)
        """Stored objects beneath the artifact's key that this call has not written again so far."""
        self._is_own = ruling.writes
        self._key = ""
        self._object: _Growing | None = None
        """The rules that apply to the current object."""
        self._whole: _Growing | None = None
        """The rules that apply to the artifact itself, if it is a directory."""
        self._bytes = self._total = self._files = 0
        self._sealed: bool | None = None
        self._exists: bool | None = None
        self._pending: frozenset[str] = frozenset()

    @override
    def dry_run(self) -> PolicyMeter:
        return PolicyMeter(self._ruling, self._probe)

    @override
    def resolved_path(self, path: str) -> None:
        self._ruling.resolved_path(path)

    @override
    def next_object(self, key: str, size: int | None, *, sealed: bool) -> None:
        self._key, self._sealed = key, sealed
        self._files += 1
        self._bytes = size or 0
        self._total += size or 0
        self._replaced.discard(key)
        bounds = self._ruling.bounds_of_part(key)
        self._exists, self._pending = None, frozenset()
        if bounds and (self._ruling.nothing_stored or not bounds.new):
            self._object = _Growing(bounds, lambda: self._ruling.rules_for_part(key))
            self._exists = False if bounds.new else None
        else:
            matched = self._ruling.rules_for_part(key)
            self._object = _Growing(None, lambda: matched)
            self._exists, self._pending = self._probe.exists(key, matched)
        if key == self._ruling.artifact_key:
            self._whole = None
        elif self._whole is None:
            own = self._ruling.rules_for(self._ruling.artifact_key)
            self._whole = _Growing(bounds_of(own, PART), lambda: own, PART)
        self._judge(complete=size is not None)

    @override
    def will_replace(self, *, is_directory: bool) -> None:
        self._require_removable([*sorted(self._replaced), *([self._ruling.artifact_key] if is_directory else [])])

    @override
    def will_remove(self, keys: Iterable[str]) -> None:
        self._require_removable(sorted(key for key in keys if not is_manifest(key)))

    def _require_removable(self, removed: list[str]) -> None:
        self._probe.require_removable([key for key in removed if key not in self._ruling.removable])
        self._ruling.removable.update(removed)

    @override
    def add_bytes(self, size: int) -> None:
        self._bytes += size
        self._total += size
        self._judge(complete=False)

    @override
    def finish(self) -> None:
        self._judge(complete=True)

    def _judge(self, *, complete: bool) -> None:
        """Judge the current object, and then the directory that it is a part of, by what is known so far."""
        if self._object is None:
            return
        if not self._object.contains(
            self._bytes, self._total, self._files, sealed=self._sealed is not False, complete=complete
        ):
            measures = Measures(
                bytes=self._bytes,
                total=self._total,
                files=self._files,
                sealed=self._sealed,
                exists=self._exists,
                complete=complete,
                pending=self._pending,
            )
            self._object.judge(measures, lambda decision: self._probe.require(decision, self._key, is_own=self._is_own))
        if self._whole and not self._whole.contains(0, self._total, self._files):
            self._whole.judge(Measures(total=self._total, files=self._files, pending=PART), self._ruling.require)


class _Growing:
    """A match whose measures grow. It is judged whenever they are not within its bounds.

    Args:
        bounds: those of the match; None if it is always judged.
        match: returns the match. It is called only if it has to be judged.
        pending: the measures that are pending while it is within its bounds.
    """

    def __init__(
        self, bounds: Bounds | None, match: Callable[[], Matched], pending: frozenset[str] = frozenset()
    ) -> None:
        self._bounds = bounds
        self._match = match
        self._pending = pending
        self._was_contained = False
        self._matched: Matched | None = None

    def contains(self, size: int, total: int, files: int, *, sealed: bool = True, complete: bool = False) -> bool:
        """Return whether the match is allowed with these measures, and nothing has to be recorded for it."""
        if self._bounds is None or not self._bounds.contain(size, total, files, sealed=sealed, complete=complete):
            return False
        self._was_contained = True
        return True

    def judge(self, measures: Measures, require: Callable[[Decision], None]) -> None:
        """Have `require` act on the decision, and continue with the grants that are left."""
        matched = self._matched or self._match()
        if self._was_contained:  # every decision before was the same as one with the least measures
            matched = matched.surviving(least_measures(self._pending))
        require(matched.judge(measures))
        self._matched = matched.surviving(measures)
        if self._matched is not matched:
            bounds = bounds_of(self._matched, self._pending)
            self._bounds = bounds if bounds and (measures.exists is False or not bounds.new) else None

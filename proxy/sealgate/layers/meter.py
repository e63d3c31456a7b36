"""The meter of a governed call: it judges each object when it begins, and again with each run of its bytes.

`Sealed` reports to it through the protocol `sealgate.meter.Meter`. It asks the storage through the call's probe.
"""

from __future__ import annotations

from typing_extensions import override

from sealgate.layers.ruling import Ruling
from sealgate.layers.storage_probe import StorageProbe
from sealgate.meter import Meter
from sealgate.policy.decision import Measures
from sealgate.policy.engine import Matched


class PolicyMeter(Meter):
    """Judges every object that flows. It raises `Denied` as soon as no policy allows an object any longer."""

    def __init__(self, ruling: Ruling, probe: StorageProbe) -> None:
        self._ruling = ruling
        self._probe = probe
        self._replaced = set(ruling.stored_beneath)
        """Stored objects beneath the artifact's key that this call has not written again so far."""
        self._is_own = ruling.writes
        self._key = ""
        self._object: Matched | None = None
        """The rules that apply to the current object."""
        self._whole: Matched | None = None
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
        self._object = self._ruling.rules_for_part(key)
        is_whole = key == self._ruling.artifact_key
        self._whole = None if is_whole else self._whole or self._ruling.rules_for(self._ruling.artifact_key)
        self._replaced.discard(key)
        self._exists, self._pending = self._probe.exists(key)
        self._judge(complete=size is not None)

    @override
    def will_replace(self, *, is_directory: bool) -> None:
        removed = [*sorted(self._replaced), *([self._ruling.artifact_key] if is_directory else [])]
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
        measures = Measures(
            bytes=self._bytes,
            total=self._total,
            files=self._files,
            sealed=self._sealed,
            exists=self._exists,
            complete=complete,
            pending=self._pending,
        )
        self._probe.require(self._object.judge(measures), self._key, is_own=self._is_own)
        self._object = self._object.surviving(measures)
        if self._whole:
            measures = Measures(total=self._total, files=self._files, pending=frozenset({"object", "exists"}))
            self._ruling.require(self._whole.judge(measures))
            self._whole = self._whole.surviving(measures)

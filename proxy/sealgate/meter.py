"""The meter: how the layer that seals reports each object and each run of bytes to the layer that decides.

Data flows down through the layers; this is the one arrow that goes back up. `Governed` puts a meter into the call,
`Sealed` reports to it, and the meter raises `Denied` as soon as no policy allows the object any longer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Protocol

from typing_extensions import override


class Meter(Protocol):
    """Judges what flows while it flows. Each method raises `Denied` when a policy refuses."""

    @abstractmethod
    def dry_run(self) -> Meter:
        """Return a meter with the same limits that starts at zero, to try a whole request before it is carried out."""

    @abstractmethod
    def resolved_path(self, path: str) -> None:
        """Report the local path with every symbolic link resolved. This may change the call's instructions."""

    @abstractmethod
    def next_object(self, key: str, size: int | None, *, sealed: bool) -> None:
        """Report the next object.

        Args:
            key: its artifact key.
            size: its plaintext size in bytes, or None if that is not known yet.
            sealed: whether it is, or will be, sealed in storage.
        """

    @abstractmethod
    def will_replace(self, *, is_directory: bool) -> None:
        """Report that the stored objects which were not reported, and so not written again, are about to be removed.

        Args:
            is_directory: whether a directory is stored, so that an object at the artifact's own key is removed, too.
        """

    @abstractmethod
    def will_remove(self, keys: Iterable[str]) -> None:
        """Report that the stored objects `keys` beneath the artifact's key are about to be removed."""

    @abstractmethod
    def add_bytes(self, size: int) -> None:
        """Report `size` further plaintext bytes of the current object."""

    @abstractmethod
    def finish(self) -> None:
        """Report that the current object, whose size was not known before, is complete."""


class Unlimited(Meter):
    """The meter of a call without limits: no policy applies."""

    @override
    def dry_run(self) -> Unlimited:
        return self

    @override
    def resolved_path(self, path: str) -> None: ...

    @override
    def next_object(self, key: str, size: int | None, *, sealed: bool) -> None: ...

    @override
    def will_replace(self, *, is_directory: bool) -> None: ...

    @override
    def will_remove(self, keys: Iterable[str]) -> None: ...

    @override
    def add_bytes(self, size: int) -> None: ...

    @override
    def finish(self) -> None: ...

"""What the layer that decides and the layer that seals agree on in one call.

`Governed` writes the terms and knows no bytes; `Sealed` obeys them and knows no rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Meter(Protocol):
    """Told what flows while it flows. Each method raises `Denied` as soon as nothing grants it any more."""

    def rehearsal(self) -> Meter:
        """A meter of the same limits that begins at nothing, to try a request before it is carried out."""

    def reached(self, path: str) -> None:
        """The local path that is used, with every symbolic link on the way resolved. The call's terms may change."""

    def object(self, key: str, size: int | None, *, sealed: bool) -> None:
        """One more object: its key, its plaintext size if that is known, and whether it lies sealed in storage."""

    def surveyed(self, *, is_directory: bool) -> None:
        """A rehearsal has come to its end: what is stored and was not among its objects is going to be removed."""

    def count(self, size: int) -> None:
        """So many further bytes of plaintext of the last object."""

    def end(self) -> None:
        """The last object, whose size was not known, is whole."""


class Unmetered:
    """The meter where nothing is limited."""

    def rehearsal(self) -> Unmetered:
        """See `Meter.rehearsal`."""
        return self

    def reached(self, path: str) -> None:
        """See `Meter.reached`."""

    def object(self, key: str, size: int | None, *, sealed: bool) -> None:
        """See `Meter.object`."""

    def surveyed(self, *, is_directory: bool) -> None:
        """See `Meter.surveyed`."""

    def count(self, size: int) -> None:
        """See `Meter.count`."""

    def end(self) -> None:
        """See `Meter.end`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What `Governed` decided and `Sealed` obeys. As it is by default where nobody decides."""

    key: str = ""
    """The name of the key that wraps a new data key; empty: the provider's own."""
    author_keys: Mapping[str, str] = field(default_factory=dict)
    """The names that a workflow's author may choose from instead, by each way to write one."""
    opens: frozenset[str] = frozenset()
    """The names of the keys that what is read may be sealed under; empty: any that the provider opens."""
    context: tuple[tuple[str, str], ...] = ()
    """Goes into the authenticated header on writing, and must be in it on reading."""
    reads_plaintext: bool = False
    """What was never sealed is read as it is."""
    passthrough: bool = False
    """What is written is stored as it is."""
    skips_links: bool = False
    """Symbolic links in a directory that is saved are left out instead of refused."""
    meter: Meter = field(default_factory=Unmetered)

"""The protocol of what reaches objects whose keys the store library cannot name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Protocol

from sealgate.call import Call


class RawKeys(Protocol):
    """Lists and deletes objects by their names in the store, exactly as they are."""

    @abstractmethod
    def objects(self, call: Call, start: str) -> Iterator[tuple[str, int]]:
        """Yield name and size in bytes of each object whose name begins with `start`."""

    @abstractmethod
    def delete(self, call: Call, names: Iterable[str]) -> None:
        """Delete the objects `names`. An absent object is not an error."""

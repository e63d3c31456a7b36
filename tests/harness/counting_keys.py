"""A real local key provider that counts the requests it receives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sealgate.keys.local import LocalKeys


class CountingKeys(LocalKeys):
    """The local provider, with the number of requests for each operation in `requests`."""

    def __init__(self, keyring: Path) -> None:
        super().__init__(keyring)
        self.requests: Counter[str] = Counter()

    def new_data_key(self, call, key=""):
        self.requests["new_data_key"] += 1
        return super().new_data_key(call, key)

    def unwrap(self, call, wrapped):
        self.requests["unwrap"] += 1
        return super().unwrap(call, wrapped)

"""The second vendor's plugin in a cluster, where its bucket is one of an object store: `vendor SOCKET`.

VENDOR_URL is the address of the bucket. The store's library reads its credentials from the environment.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import obstore
from obstore.store import from_url

os.environ.setdefault("VENDOR_ROOT", "/nonexistent")  # the module of the first vendor reads it

from harness.second_vendor import SecondVendor
from harness.vendor import serve


class StoredBucket:
    """What `FlatBucket` is in a directory, in an object store."""

    def __init__(self, url: str) -> None:
        self._store = from_url(url)
        self._place = Path(tempfile.mkdtemp())

    def file(self, key: str) -> Path | None:
        try:
            content = obstore.get(self._store, key).bytes()
        except FileNotFoundError:
            return None
        handle, name = tempfile.mkstemp(dir=self._place)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return Path(name)

    def keys(self, prefix: str) -> list[str]:
        listed = obstore.list(self._store, prefix.rstrip("/")).collect()
        return sorted(found["path"] for found in listed if found["path"].startswith(prefix))

    def put(self, key: str, source: Path) -> None:
        obstore.put(self._store, key, source)

    def delete(self, key: str) -> None:
        obstore.delete(self._store, key)


def main() -> None:
    """Serve on the socket that the last argument names."""
    serve(SecondVendor(StoredBucket(os.environ["VENDOR_URL"])), sys.argv[-1])

"""Finds secrets in output, in every encoding that a program commonly uses."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator


class Secrets:
    """The secrets that must not appear, by name."""

    def __init__(self) -> None:
        self._forms: dict[bytes, str] = {}

    def add(self, name: str, value: bytes | str) -> None:
        data = value.encode() if isinstance(value, str) else value
        assert len(data) >= 16, "a shorter value could appear by chance"
        self._forms |= dict.fromkeys(forms(data), name)

    def names(self) -> set[str]:
        return set(self._forms.values())

    def found_in(self, *written: bytes | str) -> set[str]:
        texts = [text.encode() if isinstance(text, str) else text for text in written]
        return {name for form, name in self._forms.items() if any(form in text for text in texts)}


def forms(data: bytes) -> Iterator[bytes]:
    yield data
    yield data.hex().encode()
    yield data.hex().upper().encode()
    yield data.hex(":").encode()
    yield repr(data)[2:-1].encode()
    yield repr(list(data))[1:-1].encode()
    yield json.dumps(data.decode("latin-1"))[1:-1].encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Within longer data, a value has three encodings, and its first and last characters depend on its neighbours.
        for before in range(3):
            yield encode(bytes(before) + data)[4 if before else 0 : -4]

"""One data key of a key provider, made and opened again."""

from __future__ import annotations

from sealgate.call import Call, WrappedKey
from sealgate.keys import KeyProvider


def make_and_open(keys: KeyProvider, call: Call) -> WrappedKey:
    """Make a data key, open it again, and return it wrapped."""
    made = keys.new_data_key(call)
    assert keys.unwrap(call, made.wrapped) == made.plaintext
    return made.wrapped

"""Keys: which ones a store accepts, and how a store that is a directory writes them."""

from __future__ import annotations

import hashlib
import re
import secrets

from sealgate.errors import BadRequest

_MOST_BYTES = 1024
"""S3's limit for a key, the lowest of all stores."""
LONGEST_SEGMENT = 255
"""Bytes. The limit of file systems."""
_SPARE = 64
"""Bytes that a key of `beside` leaves for what follows it."""
_IMPOSSIBLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""obstore accepts no control characters. XML, in which S3 lists and deletes, has none of the others."""
_NOT_A_FILE_NAME = re.compile(r"(#\d+|[A-Za-z][:|])\+*$")


def flaw(key: str) -> str:
    """Return why no store accepts `key`; empty if all stores do."""
    if not key:
        return "it is empty"
    if _IMPOSSIBLE.search(key):
        return "it contains a control character, an unpaired surrogate or a non-character"
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        return "it contains an empty or relative segment"
    if (size := len(key.encode())) > _MOST_BYTES:
        return f"it has {size} bytes; at most {_MOST_BYTES} are allowed"
    return ""


def has_impossible(name: str) -> bool:
    """Return whether `name` has a character that XML, in which S3 takes names, cannot contain."""
    return _IMPOSSIBLE.search(name) is not None


def checked(key: str) -> str:
    """Return `key` unchanged.

    Raises:
        BadRequest: no store accepts it.
    """
    if problem := flaw(key):
        raise BadRequest(f"the key cannot be used: {problem}", remedy="Choose another key")
    return key


def as_file(name: str) -> str:
    """Return the path of the file that holds the object `name`, in a store that is a directory.

    obstore reserves file names that end in `#` and digits, and reads names that end like `C:` as a drive. A `+` is
    appended to such names, and to the names that result from it.
    """
    return f"{name}+" if _NOT_A_FILE_NAME.search(name) else name


def from_file(path: str) -> str:
    """Return the name of the object in the file `path`: the inverse of `as_file`."""
    return path[:-1] if path.endswith("+") and _NOT_A_FILE_NAME.search(path) else path


def beside(key: str) -> str:
    """Return a new key that begins as `key` does, ends in random digits, and is valid in every store if `key` is.

    >>> beside("a/b")[:-12], beside("a/" + "b" * 255)[:-12]
    ('a/b.sealgate-', 'a/7bfe48f617b2a0a5.sealgate-')
    """
    suffix = f".sealgate-{secrets.token_hex(6)}"
    directory, slash, name = key.rpartition("/")
    if len(f"{name}{suffix}".encode()) > LONGEST_SEGMENT:
        name = shortened(name)
    if len(f"{directory}/{name}{suffix}".encode()) > _MOST_BYTES - _SPARE:
        return f"{shortened(key)}{suffix}"
    return f"{directory}{slash}{name}{suffix}"


def shortened(name: str) -> str:
    """Return 16 digits that stand for a name that is too long."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def above(key: str, top: str = "") -> list[str]:
    """Return the directories that contain `key`, outermost first, from `top` or else from just below the root.

    >>> above("a/b/c"), above("a/b/c", "a")
    (['a', 'a/b'], ['a', 'a/b'])
    """
    segments = key.split("/")
    first = top.count("/") + 1 if top else 1
    return ["/".join(segments[:count]) for count in range(first, len(segments))]

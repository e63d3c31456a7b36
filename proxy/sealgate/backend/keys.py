"""Keys: which ones a store can hold, and the name that stands for an empty directory."""

from __future__ import annotations

import re

from sealgate.errors import BadRequest

MARKER = ".sealgate-directory"
"""The name of the empty object that keeps an empty directory. It is never listed."""

_MOST_BYTES = 1024
"""S3's limit for a key, and the lowest among the stores."""
_IMPOSSIBLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""obstore takes no control characters, and XML, in which S3 lists and deletes, has none of the others."""
_NO_FILE = re.compile(r"(#\d+|[A-Za-z][:|])\+*$")


def flaw(key: str) -> str:
    """What makes `key` unusable in a store, or an empty text."""
    if not key:
        return "it is empty"
    if _IMPOSSIBLE.search(key):
        return "it holds a control character or half a character"
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        return "it holds an empty or a relative segment"
    if (size := len(key.encode())) > _MOST_BYTES:
        return f"it has {size} bytes, and {_MOST_BYTES} are possible"
    return ""


def checked(key: str) -> str:
    """The key as it was given.

    Raises:
        BadRequest: no store can hold it, or it names a marker.
    """
    found = flaw(key)
    if not found and MARKER in key.split("/"):
        found = f"the name {MARKER} stands for an empty directory"
    if found:
        raise BadRequest(f"the key cannot be used: {found}", remedy="Choose another key")
    return key


def is_marker(key: str) -> bool:
    """Tell whether `key` is that of a marker."""
    return key.rpartition("/")[2] == MARKER


def as_file(name: str) -> str:
    """The path of the file that holds an object, where the store is a directory.

    There obstore keeps names that end in `#` and digits to itself, and takes those that end like `C:` for a
    drive's. So they, and what this function makes of them, get a `+` more.
    """
    return f"{name}+" if _NO_FILE.search(name) else name


def from_file(path: str) -> str:
    """The inverse of `as_file`."""
    return path[:-1] if path.endswith("+") and _NO_FILE.search(path) else path


def above(key: str, top: str = "") -> list[str]:
    """The directories that a key lies in, from just below the root, or from `top`, downwards.

    >>> above("a/b/c"), above("a/b/c", "a")
    (['a', 'a/b'], ['a', 'a/b'])
    """
    segments = key.split("/")
    first = top.count("/") + 1 if top else 1
    return ["/".join(segments[:count]) for count in range(first, len(segments))]

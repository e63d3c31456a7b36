"""Turns the errors of obstore, and of the file system of a store that is a directory, into `PluginError`s.

A text of the library may contain an address, a signature or an answer of the store. It is read here to distinguish
causes, and never becomes part of an error.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from obstore import exceptions

from sealgate.errors import (
    BadRequest,
    DataLoss,
    LimitReached,
    NotConfigured,
    PluginError,
    Refused,
    TimedOut,
    Unavailable,
    shown_key,
)

SAYS = "the store"
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_NOT_A_PATH = re.compile(r'Path "(.*?)"(?: contained|: Encountered)', re.DOTALL)
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_NO_BUCKET = ("<Code>NoSuchBucket<", "<Code>ContainerNotFound<")
_CREDENTIAL_SERVICES = (
    "169.254.1",
    "/latest/meta-data/",
    "/latest/api/token",
    "/computeMetadata/",
    "/metadata/identity",
)
"""Where platforms provide credentials. The library asks there last, if no credentials are configured."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_WRONG_KIND = {errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}


class Missing(Refused):
    """Nothing is stored under the key. The caller gets it as an answer, `success: false`, not as a status."""

    def __init__(self) -> None:
        super().__init__("not found: nothing is stored under the artifact's key", says=SAYS)


class NotAPath(DataLoss):
    """The store has an object beneath the key whose own key cannot be a path, so the library cannot name it."""

    def __init__(self, key: str) -> None:
        named = f'the object "{shown_key(key)}"' if key else "an object"
        super().__init__(
            f"the store has {named}, whose key cannot be a path",
            says=SAYS,
            remedy="Delete it with the store's own tool",
        )


@contextmanager
def store_errors(*, writing: bool = False) -> Iterator[None]:
    """Turn what obstore or the file system raises in the body into a `PluginError`.

    Args:
        writing: whether the body writes. Only while reading does an absent object become `Missing`.
    """
    try:
        yield
    except PluginError:
        raise
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise _named(error, str(error), writing=writing) from None
    except BaseException as error:
        # A panic in the library is not an `Exception`, and its class cannot be imported.
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise PluginError("the store library failed", says=SAYS) from None


def _named(error: Exception, text: str, *, writing: bool) -> PluginError:
    if number := _os_error(error, text):
        is_missing = number == errno.ENOENT and not writing
        return Missing() if is_missing else _by_number(number, writing=writing)
    if any(mark in text for mark in _CREDENTIAL_SERVICES):
        return _no_credentials()
    if any(mark in text for mark in _NO_BUCKET) or (writing and isinstance(error, FileNotFoundError)):
        return by_status(404)
    if isinstance(error, exceptions.InvalidPathError):
        key = _NOT_A_PATH.search(text)
        return NotAPath(key[1] if key else "")
    for known, fault in _BY_TYPE.items():
        if isinstance(error, known):
            return fault()
    return _by_text(text)


def _os_error(error: Exception, text: str) -> int | None:
    """Return the error number of a failed system call, from the exception or from the library's text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    # Reading a credential from a file can fail in the same way, and that says nothing about the object.
    found = _OS_ERROR.search(text) if isinstance(error, FileNotFoundError) or "LocalFileSystem" in text else None
    return int(found[1]) if found else None


_BY_TYPE: dict[type[Exception], Callable[[], PluginError]] = {
    FileNotFoundError: Missing,
    exceptions.PreconditionError: lambda: Unavailable("the object was replaced while it was read", says=SAYS),
}


def _by_text(text: str) -> PluginError:
    if "kind: Timeout" in text:
        return TimedOut("the store did not answer in time", says=SAYS)
    if found := _STATUS.search(text):
        # 404 means that the bucket is missing only for a listing. Otherwise it came from a credential service.
        return by_status(int(found[1])) if found[1] != "404" or "list request" in text else _no_credentials()
    if "HTTP error" in text or "kind: " in text:
        return Unavailable("the store cannot be reached", says=SAYS)
    return PluginError("the store failed for an unknown reason", says=SAYS)


def _no_credentials() -> PluginError:
    return NotConfigured("no credentials for the store were found", remedy="Configure them")


def by_status(status: int) -> PluginError:
    """Return the error for an answer of the store with the HTTP status `status`."""
    match status:
        case 401 | 403:
            return NotConfigured(
                "the store refused the credentials, or they lack a right",
                says=SAYS,
                remedy="Check the credentials and their rights to list, read, write and delete",
            )
        case 404:
            return NotConfigured("the bucket does not exist", says=SAYS, remedy="Create it, or correct the url")
        case 301 | 302 | 303 | 307 | 308 | 400:
            return NotConfigured(
                f"the store rejected the request (status {status})",
                says=SAYS,
                remedy="Check the region, the endpoint and the options",
            )
        case 409:
            return BadRequest(
                "another object in the store is in the way",
                says=SAYS,
                remedy="Delete it, or choose another key",
            )
        case 507:
            return LimitReached("the store is full", says=SAYS)
        case _:
            return Unavailable(f"the store answered with status {status}", says=SAYS)


def _by_number(number: int, *, writing: bool) -> PluginError:
    """Return the error for the error number `number` in a store that is a directory."""
    if number in _NO_SPACE:
        return LimitReached("the store is full", says=SAYS)
    if number in _NOT_ALLOWED:
        return NotConfigured("this process lacks the right to do that in the store's directory", says=SAYS)
    if number == errno.ENAMETOOLONG:
        return BadRequest("a segment of the key is too long for the store's file system", says=SAYS)
    if number in _WRONG_KIND:
        return by_status(409) if writing else Missing()
    if number == errno.ENOENT:
        return Unavailable("a directory of the store was removed during the operation", says=SAYS)
    return PluginError(f"the store's file system failed ({errno.errorcode.get(number, number)})", says=SAYS)

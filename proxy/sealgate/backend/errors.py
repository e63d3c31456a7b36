"""What the store library and the local file system raise, as errors of ours.

A library's text may hold an address, a signature or an answer of the store. It is read here to tell causes
apart, and goes no further.
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
)

SAYS = "the store"
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_NO_BUCKET = ("<Code>NoSuchBucket<", "<Code>ContainerNotFound<")
_CREDENTIAL_SERVICES = (
    "169.254.1",
    "/latest/meta-data/",
    "/latest/api/token",
    "/computeMetadata/",
    "/metadata/identity",
)
"""Where the platforms hand out credentials: the last resort when none are configured."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_OTHER_KIND = {errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}


class Missing(Refused):
    """Nothing lies at the key. An answer, not a fault: it reaches the caller as `success: false`."""

    def __init__(self) -> None:
        super().__init__("not found: nothing is stored under the artifact's key", says=SAYS)


@contextmanager
def store_errors(*, writing: bool = False) -> Iterator[None]:
    """Turn what obstore raises in the body into a `PluginError`; where nothing lies, into `Missing`."""
    try:
        yield
    except PluginError:
        raise
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise _named(error, str(error), writing=writing) from None
    except BaseException as error:
        # A panic in the library is no `Exception`, and its class cannot be imported.
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
        return _by_status(404)
    for known, fault in _BY_TYPE.items():
        if isinstance(error, known):
            return fault()
    return _by_text(text)


def _os_error(error: Exception, text: str) -> int | None:
    """The number of a system call's error: the operating system's own, or one in the library's text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    # A credential that is read from a file can fail so too, and says nothing of the object.
    found = _OS_ERROR.search(text) if isinstance(error, FileNotFoundError) or "LocalFileSystem" in text else None
    return int(found[1]) if found else None


_BY_TYPE: dict[type[Exception], Callable[[], PluginError]] = {
    FileNotFoundError: Missing,
    exceptions.PreconditionError: lambda: Unavailable("the object was replaced while it was read", says=SAYS),
    exceptions.InvalidPathError: lambda: DataLoss("something with a name that is no path lies there", says=SAYS),
}


def _by_text(text: str) -> PluginError:
    if "kind: Timeout" in text:
        return TimedOut("the store did not answer in time", says=SAYS)
    if found := _STATUS.search(text):
        # Only a listing can miss the bucket and be told apart in no other way.
        return _by_status(int(found[1])) if found[1] != "404" or "list request" in text else _no_credentials()
    if "HTTP error" in text or "kind: " in text:
        return Unavailable("the store cannot be reached", says=SAYS)
    return PluginError("the store failed, and in no way that is known here", says=SAYS)


def _no_credentials() -> PluginError:
    return NotConfigured("no credentials for the store were found", remedy="Configure them")


def _by_status(status: int) -> PluginError:
    match status:
        case 401 | 403:
            return NotConfigured(
                "the store refused the credentials, or what they may do",
                says=SAYS,
                remedy="Check the credentials and their rights to list, read, write and delete",
            )
        case 404:
            return NotConfigured("there is no such bucket", says=SAYS, remedy="Create it, or correct the url")
        case 301 | 307 | 400:
            return NotConfigured(
                f"the store did not take the request (status {status})",
                says=SAYS,
                remedy="Check the region, the endpoint and the options",
            )
        case 409:
            return BadRequest(
                "the store has something else there that stands in the way",
                says=SAYS,
                remedy="Delete it, or choose another key",
            )
        case 507:
            return LimitReached("the store is full", says=SAYS)
        case _:
            return Unavailable(f"the store answered with status {status}", says=SAYS)


def _by_number(number: int, *, writing: bool) -> PluginError:
    """The cause of a failure in a store that is a directory."""
    if number in _NO_SPACE:
        return LimitReached("the store is full", says=SAYS)
    if number in _NOT_ALLOWED:
        return NotConfigured("this process may not do that in the store's directory", says=SAYS)
    if number == errno.ENAMETOOLONG:
        return BadRequest("a part of the key is too long for the store's file system", says=SAYS)
    if number in _OTHER_KIND:
        return _by_status(409) if writing else Missing()
    if number == errno.ENOENT:
        return Unavailable("a directory of the store was removed at the same time", says=SAYS)
    return PluginError(f"the store's file system failed ({errno.errorcode.get(number, number)})", says=SAYS)


@contextmanager
def local_errors(what: str = "the local file or directory") -> Iterator[None]:
    """Turn an `OSError` of the body, about a local path of the request, into a `PluginError`."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        if number in _NO_SPACE:
            raise LimitReached(f"no space is left for {what}") from None
        if number == errno.ENOENT:
            raise BadRequest(f"{what} does not exist") from None
        if number == errno.ELOOP:
            raise BadRequest(f"{what} is a symbolic link") from None
        raise BadRequest(f"{what} cannot be used ({errno.errorcode.get(number, number)})") from None

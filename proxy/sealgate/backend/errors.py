"""Turns the errors of obstore, and of the file system of a store that is a directory, into `PluginError`s.

A text of the library may contain an address, a signature or an answer of the store. It is read here to distinguish
causes, and never becomes part of an error.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from contextlib import AbstractContextManager

from obstore import exceptions

from sealgate.errors import (
    AlreadyStored,
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
_IN_THE_WAY = re.compile("<Code>(ObjectParentIsFile|ObjectExistsAsDirectory|ExistingObjectIsDirectory)")
"""How S3 servers that keep objects as files report that a key cannot be both a file and a directory."""
_NO_BUCKET = ("<Code>NoSuchBucket<", "<Code>ContainerNotFound<")
_NO_TLS = "InvalidContentType"
"""How the TLS library reports that a server does not answer by TLS."""
NO_CREDENTIALS = "sealgate found no credentials of the platform"
"""The text of an exception that a provider of credentials raises. The library repeats it in its own error."""
_CREDENTIAL_SERVICES = (
    NO_CREDENTIALS,
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


class NotOffered(NotConfigured):
    """The store rejects an operation or does not know it."""


def store_errors(*, writing: bool = False) -> AbstractContextManager[None]:
    """Turn what obstore or the file system raises in the body into a `PluginError`.

    Args:
        writing: whether the body writes. Only while reading does an absent object become `Missing`.
    """
    return _WRITING if writing else _READING


class _StoreErrors(AbstractContextManager[None]):
    """The body of `store_errors`. It has no state, so that a small object need not wait for several new ones."""

    def __init__(self, *, writing: bool) -> None:
        self._writing = writing

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, PluginError):
            return
        if isinstance(error, exceptions.BaseError | OSError | ValueError | NotImplementedError):
            raise _named(error, str(error), writing=self._writing) from None
        # A panic in the library is not an `Exception`, and its class cannot be imported.
        if type(error).__module__ == "pyo3_runtime":
            raise PluginError("the store library failed", says=SAYS) from None


_READING, _WRITING = _StoreErrors(writing=False), _StoreErrors(writing=True)


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
    return next((fault(text) for known, fault in _BY_TYPE.items() if isinstance(error, known)), None) or _by_text(text)


def _os_error(error: Exception, text: str) -> int | None:
    """Return the error number of a failed system call, from the exception or from the library's text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    # Reading a credential from a file can fail in the same way, and that says nothing about the object.
    found = _OS_ERROR.search(text) if isinstance(error, FileNotFoundError) or "LocalFileSystem" in text else None
    return int(found[1]) if found else None


_BY_TYPE: dict[type[Exception], Callable[[str], PluginError | None]] = {
    FileNotFoundError: lambda _: Missing(),
    exceptions.NotSupportedError: lambda _: _not_offered("does not offer this operation"),
    NotImplementedError: lambda _: _not_offered("does not offer this operation"),
    exceptions.PreconditionError: lambda _: Unavailable(
        "the object was replaced or deleted while it was read", says=SAYS
    ),
    exceptions.AlreadyExistsError: lambda text: None if _IN_THE_WAY.search(text) else AlreadyStored(says=SAYS),
}


def _by_text(text: str) -> PluginError:
    if "kind: Timeout" in text:
        return TimedOut("the store did not answer in time", says=SAYS)
    if found := _STATUS.search(text):
        # 404 means that the bucket is missing only for a listing. Otherwise it came from a credential service.
        return by_status(int(found[1])) if found[1] != "404" or "list request" in text else _no_credentials()
    if _NO_TLS in text:
        remedy = "Begin the endpoint with http:// and set allow_http, or name a port with TLS"
        return NotConfigured("the store speaks http, and the endpoint is https://", says=SAYS, remedy=remedy)
    if "HTTP error" in text or "kind: " in text:
        return Unavailable("the store cannot be reached", says=SAYS)
    return PluginError("the store failed for an unknown reason", says=SAYS)


def _no_credentials() -> PluginError:
    return NotConfigured("no credentials for the store were found", remedy="Configure them")


_NOT_OFFERED = dict.fromkeys((301, 302, 303, 307, 308, 400), "rejected the request") | dict.fromkeys(
    (405, 501), "does not offer this operation"
)


def _not_offered(fault: str) -> NotOffered:
    return NotOffered(f"the store {fault}", says=SAYS, remedy="Check the region, the endpoint and the options")


def by_status(status: int) -> PluginError:
    """Return the error for an answer of the store with the HTTP status `status`."""
    if status in _NOT_OFFERED:
        return _not_offered(f"{_NOT_OFFERED[status]} (status {status})")
    match status:
        case 401 | 403:
            fault = "the store refused the credentials, or they lack a right"
            remedy = "Check the credentials and their rights to list, read, write and delete"
            return NotConfigured(fault, says=SAYS, remedy=remedy)
        case 404:
            return NotConfigured("the bucket does not exist", says=SAYS, remedy="Create it, or correct the url")
        case 409:
            fault, remedy = "another object in the store is in the way", "Delete it, or choose another key"
            return BadRequest(fault, says=SAYS, remedy=remedy)
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

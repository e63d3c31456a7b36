"""S3 objects whose keys the store library cannot name: `a//b`, `a/./b`, `a/folder/`, or with a control character.

Consoles and other programs create such objects: a "folder" of a console is an empty object whose key ends in a slash.
The library does not list a page that contains an empty or relative segment, lists `a/folder/` as `a/folder`, and can
neither read nor delete any of them. This module lists and deletes by requests that carry each key as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from typing_extensions import override

from sealgate.backend import keys
from sealgate.backend.errors import SAYS
from sealgate.backend.parallel import each
from sealgate.backend.raw import RawKeys
from sealgate.backend.s3_requests import S3Requests
from sealgate.call import Call
from sealgate.errors import BadRequest, NotConfigured, PluginError, shown_key

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_PAGE = 1000
"""How many keys S3 lists or deletes with one request."""
_WORKERS = 8


class RawS3(RawKeys):
    """The objects of one bucket, by their names as they are.

    Args:
        requests: sends requests to the bucket.
        in_bulk: whether the store can delete many objects with one request.
    """

    def __init__(self, requests: S3Requests, *, in_bulk: bool = True) -> None:
        self._requests = requests
        self._in_bulk = in_bulk

    @override
    def objects(self, call: Call, start: str) -> Iterator[tuple[str, int]]:
        query = f"?list-type=2&encoding-type=url&prefix={_quoted(start)}"
        token = ""
        while True:
            following = f"&continuation-token={_quoted(token)}" if token else ""
            page = _ListingPage.of(self._requests.send(call, "GET", f"{query}{following}"))
            yield from page.objects()
            if not page.is_truncated:
                return
            if not page.token or page.token == token:
                raise _unreadable()
            token = page.token

    @override
    def delete(self, call: Call, names: Iterable[str]) -> None:
        """Delete objects, up to 1,000 with one request if the store can, and else each with a request of its own.

        Raises:
            BadRequest: a name can be in neither kind of request.
        """
        waiting = iter(names)
        while batch := list(islice(waiting, _PAGE)):
            in_bulk = [name for name in batch if self._in_bulk and not keys.has_impossible(name)]
            if in_bulk and not self._delete_in_bulk(call, in_bulk):
                in_bulk = []
            others = set(batch).difference(in_bulk)
            each(lambda name: self._delete_one(call, name), iter(others), _WORKERS if len(others) > 1 else 1)

    def _delete_one(self, call: Call, name: str) -> None:
        if not {".", ".."}.isdisjoint(name.split("/")):  # every client of HTTP normalises such a path
            raise BadRequest(
                f'the object "{shown_key(name)}" cannot be deleted: its key has a relative segment',
                says=SAYS,
                remedy="Delete it with the store's own tool",
            )
        self._requests.send(call, "DELETE", f"/{quote(name, safe='/')}")

    def _delete_in_bulk(self, call: Call, names: list[str]) -> bool:
        """Delete objects with one request; return False if the store did not delete all of them."""
        objects = "".join(f"<Object><Key>{escape(name)}</Key></Object>" for name in names)
        body = f'<Delete xmlns="{_NAMESPACE}"><Quiet>true</Quiet>{objects}</Delete>'.encode()
        try:
            answer = _parsed(self._requests.send(call, "POST", "?delete", body))
        except NotConfigured:  # the store does not offer that operation, or does not allow it
            self._in_bulk = False
            return False
        return {_text(entry, "Code") for entry in answer if _local(entry) == "Error"} <= {"NoSuchKey"}


class _ListingPage:
    """One page of a listing."""

    def __init__(self, root: ET.Element) -> None:
        self._root = root
        self.is_truncated = _text(root, "IsTruncated") == "true"
        self.token = _text(root, "NextContinuationToken")

    @classmethod
    def of(cls, text: bytes) -> _ListingPage:
        root = _parsed(text)
        if _local(root) != "ListBucketResult":
            raise _unreadable()
        return cls(root)

    def objects(self) -> Iterator[tuple[str, int]]:
        """Yield name and size of each object."""
        is_quoted = _text(self._root, "EncodingType") == "url"
        for entry in self._root:
            if _local(entry) == "Contents":
                name, size = _text(entry, "Key"), _text(entry, "Size")
                if not name or not size.isdecimal():
                    raise _unreadable()
                yield unquote_plus(name) if is_quoted else name, int(size)


def _parsed(text: bytes) -> ET.Element:
    try:
        return ET.fromstring(text, ET.XMLParser(target=_Tree()))  # noqa: S314 - bounded, and `_Tree` refuses a DTD
    except (ET.ParseError, _HasDtd):
        raise _unreadable() from None


class _HasDtd(Exception):
    """A document type could define entities that make a small text large."""


class _Tree(ET.TreeBuilder):
    def doctype(self, *_: object) -> None:
        raise _HasDtd


def _local(element: ET.Element) -> str:
    """Return an element's name without its namespace, which not every store sets."""
    return element.tag.rpartition("}")[2]


def _text(parent: ET.Element, name: str) -> str:
    return next((child.text or "" for child in parent if _local(child) == name), "")


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _unreadable() -> PluginError:
    return PluginError("the store's answer is not the one that S3 defines", says=SAYS)

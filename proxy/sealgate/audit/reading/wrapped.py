"""How records are found in what a log collector made of their lines (docs/audit.md, "Verify it").

Collectors put a line as text into a field of an object, merge its fields with their own, or export many lines as one
JSON array. Only a text that begins with the mark of a record, or an object with its fields, is a record.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from sealgate.audit.records import Record

_START = re.compile(r'\{\s{0,4}"sealgate_audit"')
_RUNTIME_PREFIX = re.compile(r"""[^"'{}\[\]\\]{0,200}""")
"""What the runtime of a container or a system log writes before a line: time, host, stream. It has no quotes."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NO_SPACE = re.compile(r"\S")
_DEEPEST = 4
"""How often a line may be wrapped as text into another one."""
_FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(Record))
_AMBIGUOUS = b'{"sealgate_audit":1,"a name is given twice in the record":0}'
"""What stands for a record in which a name is given twice. It is reported as altered."""


class NotReadable(Exception):
    """A text has the mark of a record, and is in no form that is known here."""


class _NameTwice(dict[str, Any]):
    """An object in which a name was given twice: two readers could take different values for it."""


def records_in_text(text: str) -> list[bytes]:
    """Return the records in a line that a collector wrote.

    Raises:
        NotReadable: the line is neither JSON nor CSV.
    """
    text = _COLOURS.sub("", text)
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=0)
    try:
        return list(records_in(json.loads(text[start:], object_pairs_hook=_object)))
    except (ValueError, RecursionError):
        pass
    if '{""sealgate_audit""' in text:
        with suppress(csv.Error):
            return [record for cell in next(csv.reader([text]), []) for record in records_in(cell)]
    raise NotReadable


def records_in_file(text: str) -> list[bytes]:
    """Return the records in a file that is one JSON value, or several values, as `jq` writes them.

    Raises:
        NotReadable: something else is in it, such as a line with a value of its own, or its last value is not complete.
    """
    try:
        return records_in_text(text)
    except NotReadable:
        pass
    text = _COLOURS.sub("", text).strip()
    decoder, records, at = json.JSONDecoder(object_pairs_hook=_object), list[bytes](), 0
    try:
        while at < len(text):
            value, end = decoder.raw_decode(text, at)
            if "\n" not in text[at:end]:  # it is a line, which is judged as it stands
                raise NotReadable
            records += records_in(value)
            following = _NO_SPACE.search(text, end)
            at = following.start() if following else len(text)
    except (ValueError, RecursionError):
        raise NotReadable from None
    return records


def records_in(value: Any, depth: int = _DEEPEST) -> Iterator[bytes]:
    """Yield the records in a value that was read from JSON, in their order."""
    if isinstance(value, str):
        for line in value.splitlines():
            yield from _records_in_line(_COLOURS.sub("", line).strip(), depth)
    elif isinstance(value, dict):
        if "sealgate_audit" in value and "attestation_list" in value:
            yield _encoded(value)
        else:
            for inner in value.values():
                yield from records_in(inner, depth)
    elif isinstance(value, list):
        text = _text_of_bytes(value)
        for inner in [text] if text else value:
            yield from records_in(inner, depth)


def _records_in_line(line: str, depth: int) -> Iterator[bytes]:
    start = _START.search(line)
    if start and _RUNTIME_PREFIX.fullmatch(line[: start.start()]):
        yield line[start.start() :].encode(errors="replace")
    elif depth and "sealgate_audit" in line and line[0] in "{[":
        try:
            yield from records_in(json.loads(line, object_pairs_hook=_object), depth - 1)
        except (ValueError, RecursionError):
            return


def _encoded(merged: dict[str, Any]) -> bytes:
    """Return the record whose fields a collector merged with its own."""
    if _has_name_twice(merged):
        return _AMBIGUOUS
    return msgspec.json.encode({name: merged[name] for name in _FIELDS if name in merged})


def _has_name_twice(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value, _NameTwice) or any(map(_has_name_twice, value.values()))
    return isinstance(value, list) and any(map(_has_name_twice, value))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    return names if len(names) == len(pairs) else _NameTwice(names)


def _text_of_bytes(value: list[Any]) -> str:
    """Return the text that the system journal exports as a list of bytes; empty if `value` is another list."""
    if not value or not all(type(byte) is int and 0 <= byte <= 255 for byte in value):  # noqa: PLR2004 - the values of a byte
        return ""
    return bytes(value).decode(errors="replace")

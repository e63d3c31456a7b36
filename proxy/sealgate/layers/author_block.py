"""Splits `artifact.plugin.configuration`, which a workflow's author wrote, between Sealgate and the downstream.

The text is not trusted. If it is a mapping in YAML or JSON with the key `sealgate`, that entry is the author's block.
It may contain only `key`, and only a key that the encryption rule of the call lists in `authorKeys`
(docs/policy-reference.md). The block is obeyed or refused, never ignored. Everything else in the text goes to the
downstream byte for byte, or only the value of `downstream` if the mapping has one (docs/configuration.md, "In
`artifact.plugin.configuration`").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from sealgate.errors import BadRequest, shown_key
from sealgate.plugin import Artifact

_MOST_CHOICES = 5
"""The most keys that an error proposes."""
_BLOCK = "sealgate"
_DOWNSTREAM = "downstream"
_BREAKS = "\r\n\x85\u2028\u2029"
"""The characters that YAML 1.1 takes for a line break. Readers of YAML 1.2 take the first two alone."""
_LINE_START = rf"(?:\A|(?<=[{_BREAKS}]))"
_ESCAPE = re.compile(rf"\\(?:u00|x|U000000)([46][1-9A-F]|[57][0-9A])|\\(?:\r\n|[{_BREAKS}])[ \t]*", re.IGNORECASE)
"""An escape of an ASCII letter in YAML or JSON, or an escaped line break in YAML."""
_COMMENT_LINES = re.compile(rf"{_LINE_START}[ \t\ufeff]*#[^{_BREAKS}]*(?:\r\n|[{_BREAKS}])?")
_NAME_PLACE = rf"(?:{_LINE_START}[ \t\ufeff]*|[{{,]\s*|[?!&]\S{{0,64}}\s+)"
"""Where a name can be, or its tag or anchor."""
_NAMES_BLOCK = re.compile(rf"""{_NAME_PLACE}(?:"sealgate"\s*:|'sealgate'\s*:|sealgate\s*:(?=[\s,{{}}\[\]"']|\Z))""")
_NAME_BEFORE_COMMENT = re.compile(rf"""{_NAME_PLACE}(?:"sealgate"\s*\#|'sealgate'\s*\#|sealgate\s+\#)""")
_COLON_BEGINS_LINE = re.compile(rf"{_LINE_START}[ \t]*:")


def split_author_block(artifact: Artifact, author_keys: Mapping[str, str]) -> tuple[Artifact, str]:
    """Return the artifact for the downstream, and the name of the key that its author chose, or "" without a choice.

    Args:
        artifact: as the author wrote it.
        author_keys: every accepted spelling of a key that authors may choose, and the key's name.

    Raises:
        BadRequest: the block requests something that authors may not choose, or cannot be read.
    """
    artifact, key = _split(artifact)
    if key is not None and key not in author_keys:
        names = sorted(set(author_keys.values()))
        choices = f"Choose {' or '.join(map(shown_key, names[:_MOST_CHOICES]))}, or remove" if names else "Remove"
        raise BadRequest(
            f'the configuration asks Sealgate for the key "{shown_key(key)}", which authors may not choose here',
            remedy=f"{choices} it from the block sealgate, or have it listed in authorKeys of the encryption rule",
        )
    return artifact, "" if key is None else author_keys[key]


def without_author_block(artifact: Artifact) -> Artifact:
    """Return the artifact for the downstream. Operations that do not write use this: the author's key is for writes.

    Raises:
        BadRequest: the block contains more than a key, or cannot be read.
    """
    return _split(artifact)[0]


def _split(artifact: Artifact) -> tuple[Artifact, str | None]:
    """Return the artifact without the block, and the key in the block as it is written there; None without one."""
    text = artifact.configuration
    if not _mentions_block(text):
        return artifact, None
    from sealgate.documents import entries, reader  # noqa: PLC0415 - few configurations need them

    if len(text) > reader.LONGEST_OF_AUTHORS:
        raise _unreadable(f"it is longer than {reader.LONGEST_OF_AUTHORS} characters")
    try:
        mapping = entries.mapping_in(text)
    except reader.Unreadable as flaw:
        if _may_be_block(text):
            raise _unreadable(f"it is neither plain YAML nor JSON{_at_line(flaw.line)}") from None
        return artifact, None  # the downstream has its own format, and the text only mentions the word
    if mapping is None or not mapping.may_have(_BLOCK):
        return artifact, None
    try:
        key = _key_in(mapping.value(_BLOCK))
        forwarded = mapping.own_text(_DOWNSTREAM) if mapping.may_have(_DOWNSTREAM) else mapping.without(_BLOCK)
    except reader.Unreadable as flaw:
        raise _unreadable(f"{flaw.bare}{_at_line(flaw.line)}") from None
    return replace(artifact, configuration=forwarded), key


def _mentions_block(text: str) -> bool:
    """Return whether the word `sealgate` is in `text`, perhaps spelled with escapes."""
    return _BLOCK in text or ("\\" in text and _BLOCK in _without_escapes(text))


def _without_escapes(text: str) -> str:
    """Return `text` with the escapes of ASCII letters in YAML and JSON replaced, and escaped line breaks removed."""
    return _ESCAPE.sub(lambda found: chr(int(found[1] or "0", 16)) if found[1] else "", text)


def _may_be_block(text: str) -> bool:
    """Return whether the word `sealgate` is where a field's name can be in `text`, which is neither YAML nor JSON."""
    text = _COMMENT_LINES.sub("", _without_escapes(text))
    # A comment may be between a name and its colon, which is then on a later line.
    is_split = _NAME_BEFORE_COMMENT.search(text) and _COLON_BEGINS_LINE.search(text)
    return bool(_NAMES_BLOCK.search(text) or is_split)


def _key_in(block: object) -> str | None:
    """Return the key that the block names; None without one, and "" (which no rule lists) if it is not a string."""
    if not isinstance(block, dict):
        raise BadRequest("the block sealgate in the artifact's configuration is not a mapping")
    for name in block:
        if name != "key":
            raise BadRequest(
                f"the artifact's configuration asks Sealgate for {shown_key(name)}, which authors may not choose",
                remedy="Remove it from the block sealgate",
            )
    if "key" not in block:
        return None
    return block["key"] if isinstance(block["key"], str) else ""


def _at_line(line: int) -> str:
    return f" (line {line})" if line else ""


def _unreadable(reason: str) -> BadRequest:
    return BadRequest(
        f"the artifact's configuration mentions sealgate and cannot be read: {reason}",
        remedy="Write it as YAML or JSON, or leave the block sealgate out",
    )

"""Splits `artifact.plugin.configuration`, which a workflow's author wrote, between Sealgate and the downstream.

The text is not trusted. It goes to the downstream byte for byte unless it is a YAML mapping with the key `sealgate`.
That mapping is the author's block. It may contain only `key`, and only a key that the encryption rule of the call
lists in `authorKeys` (docs/policies.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sealgate.errors import BadRequest, shown_key
from sealgate.plugin import Artifact

_BLOCK = "sealgate"
_DOWNSTREAM = "downstream"


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
        raise BadRequest(
            f'the configuration asks Sealgate for the key "{shown_key(key)}", which authors may not choose here',
            remedy="Remove it from the block sealgate, or have it listed in authorKeys of the encryption rule",
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
    if _BLOCK not in artifact.configuration:
        return artifact, None
    from sealgate.documents import reader  # noqa: PLC0415 - few configurations need it

    if len(artifact.configuration) > reader.LONGEST_OF_AUTHORS:
        raise _unreadable(f"it is longer than {reader.LONGEST_OF_AUTHORS} characters")
    try:
        if _BLOCK not in reader.names_at_the_top(artifact.configuration):
            return artifact, None
    except reader.Unreadable:
        return artifact, None  # the downstream has its own format, and the text only mentions the word
    try:
        document = reader.read(artifact.configuration).value
    except reader.Unreadable as flaw:
        raise _unreadable(f"{flaw.bare} (line {flaw.line})") from None
    key = _key_in(document.pop(_BLOCK))
    return replace(artifact, configuration=_downstream_configuration(document)), key


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


def _downstream_configuration(document: dict[str, object]) -> str:
    """Return the value of `downstream` if the document has one, and else the rest of the document as YAML."""
    import yaml  # noqa: PLC0415 - few configurations need it

    rest = document.get(_DOWNSTREAM, document)
    return rest if isinstance(rest, str) else yaml.safe_dump(rest, sort_keys=False)


def _unreadable(reason: str) -> BadRequest:
    return BadRequest(
        f"the artifact's configuration mentions sealgate and cannot be read: {reason}",
        remedy="Write it as plain YAML, or leave the block sealgate out",
    )

"""What a workflow's author wrote in `artifact.plugin.configuration`, split between Sealgate and the downstream.

The text is not trusted. It travels on byte for byte unless it is a YAML mapping with the key `sealgate`; of that block
only `key` is obeyed, and only where the encryption rule that applies lists that key as one that authors may choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sealgate.errors import BadRequest, shown_key
from sealgate.plugin import Artifact

_OURS = "sealgate"
_THEIRS = "downstream"


def split(artifact: Artifact, choices: Mapping[str, str]) -> tuple[Artifact, str]:
    """The artifact as the downstream shall see it, and the name of the key that its author chose; empty if none.

    Args:
        artifact: as its author wrote it.
        choices: the names of the keys that may be chosen, by each way to write one.

    Raises:
        BadRequest: the block asks for something that authors may not choose, or cannot be read.
    """
    artifact, key = _parted(artifact)
    if key is not None and key not in choices:
        raise BadRequest(
            f'the configuration asks Sealgate for the key "{shown_key(key)}", which authors may not choose here',
            remedy="Remove it from the block sealgate, or have it listed in authorKeys of the encryption rule",
        )
    return artifact, "" if key is None else choices[key]


def forwarded(artifact: Artifact) -> Artifact:
    """The artifact as the downstream shall see it. Which key its author chose means something to writes alone.

    Raises:
        BadRequest: the block asks for more than a key, or cannot be read.
    """
    return _parted(artifact)[0]


def _parted(artifact: Artifact) -> tuple[Artifact, str | None]:
    """The artifact without the block, and the key that the block asks for, as it is written there."""
    if _OURS not in artifact.configuration:
        return artifact, None
    from sealgate.documents import reader  # noqa: PLC0415 - few configurations need it

    if len(artifact.configuration) > reader.LONGEST_OF_AUTHORS:
        raise _unreadable(f"it is longer than {reader.LONGEST_OF_AUTHORS} characters")
    try:
        if _OURS not in reader.names_at_the_top(artifact.configuration):
            return artifact, None
    except reader.Unreadable:
        return artifact, None  # the downstream's own format, which only mentions the word
    try:
        document = reader.read(artifact.configuration).value
    except reader.Unreadable as flaw:
        raise _unreadable(f"{flaw.bare} (line {flaw.line})") from None
    key = _asked(document.pop(_OURS))
    return replace(artifact, configuration=_theirs(document)), key


def _asked(block: object) -> str | None:
    if not isinstance(block, dict):
        raise BadRequest("the block sealgate in the artifact's configuration is no mapping")
    for name in block:
        if name != "key":
            raise BadRequest(
                f"the artifact's configuration asks Sealgate for {shown_key(name)}, which authors may not choose",
                remedy="Remove it from the block sealgate",
            )
    if "key" not in block:
        return None
    return block["key"] if isinstance(block["key"], str) else ""


def _theirs(document: dict[str, object]) -> str:
    import yaml  # noqa: PLC0415 - few configurations need it

    rest = document.get(_THEIRS, document)
    return rest if isinstance(rest, str) else yaml.safe_dump(rest, sort_keys=False)


def _unreadable(why: str) -> BadRequest:
    return BadRequest(
        f"the artifact's configuration mentions sealgate and cannot be read: {why}",
        remedy="Write it as plain YAML, or leave the block sealgate out",
    )

"""What a workflow's author wrote in `artifact.plugin.configuration`, split between Sealgate and the downstream.

The text is not trusted. It travels on byte for byte unless it is a YAML mapping with the key `sealgate`.
"""

from __future__ import annotations

from dataclasses import replace

from proxy.plugin import Artifact, BadRequest, shown_key

_OURS = "sealgate"
_THEIRS = "downstream"


def forwarded(artifact: Artifact) -> Artifact:
    """The artifact as the downstream shall see it: without a block that was meant for Sealgate.

    Raises:
        BadRequest: the block asks for something that authors may not choose.
    """
    if _OURS not in artifact.configuration:
        return artifact
    import yaml  # noqa: PLC0415 - few configurations need it

    try:
        document = yaml.load(artifact.configuration, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return artifact  # not YAML: the downstream's own format, which only mentions the word
    if not isinstance(document, dict) or _OURS not in document:
        return artifact
    block = document.pop(_OURS)
    if not isinstance(block, dict):
        raise BadRequest("the block sealgate in the artifact's configuration is no mapping")
    for name in block:
        raise BadRequest(
            f"the artifact's configuration asks Sealgate for {shown_key(str(name))}, which authors may not choose",
            remedy="Remove it from the block sealgate",
        )
    rest = document.get(_THEIRS, document)
    text = rest if isinstance(rest, str) else yaml.safe_dump(rest, sort_keys=False)
    return replace(artifact, configuration=text)

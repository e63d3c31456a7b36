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
        BadRequest: the block asks for something that authors may not choose, or cannot be read.
    """
    if _OURS not in artifact.configuration:
        return artifact
    from proxy import documents  # noqa: PLC0415 - few configurations need it

    try:
        if _OURS not in documents.survey(artifact.configuration).names:
            return artifact
        document = documents.load(artifact.configuration)
    except documents.NotPlain as flaw:
        if len(artifact.configuration) <= documents.LONGEST and str(flaw) == "it is not YAML":
            return artifact  # the downstream's own format, which only mentions the word
        raise BadRequest(
            f"the artifact's configuration mentions sealgate and cannot be read: {flaw}",
            remedy="Write it as plain YAML, or leave the block sealgate out",
        ) from None
    return replace(artifact, configuration=_without_ours(document))


def _without_ours(document: object) -> str:
    import yaml  # noqa: PLC0415 - few configurations need it

    assert isinstance(document, dict)  # noqa: S101 - for the type checker: it has names
    block = document.pop(_OURS)
    if not isinstance(block, dict):
        raise BadRequest("the block sealgate in the artifact's configuration is no mapping")
    for name in block:
        raise BadRequest(
            f"the artifact's configuration asks Sealgate for {shown_key(str(name))}, which authors may not choose",
            remedy="Remove it from the block sealgate",
        )
    rest = document.get(_THEIRS, document)
    return rest if isinstance(rest, str) else yaml.safe_dump(rest, sort_keys=False)

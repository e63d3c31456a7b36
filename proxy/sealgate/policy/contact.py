"""The advice of a refusal: what the author can do, and the owner and the runbook of the policy documents."""

from __future__ import annotations

from collections.abc import Sequence

from sealgate.policy.schema import ArtifactPolicy

OWNER, RUNBOOK = "owner", "runbook"
"""The annotations that a refusal shows."""
_ASK_OWNER = "Ask the owner of the policies"


def advice_of(documents: Sequence[ArtifactPolicy], text: str = "") -> str:
    """Return `text`, followed by the owner to ask and the runbook to see.

    Owner and runbook are left out if `documents` have none, or different ones. Without `text`, the owner is then named
    by the policy.
    """
    contact = _contact(documents)
    if text or contact:
        return f"{text.rstrip('.')}. {contact}" if text and contact else text or contact
    return f"Ask the owner of policy {documents[0].metadata.name}" if len(documents) == 1 else _ASK_OWNER


def _contact(documents: Sequence[ArtifactPolicy]) -> str:
    notes = [document.metadata.annotations for document in documents]
    found = {(note.get(OWNER, ""), note.get(RUNBOOK, "")) for note in notes}
    if len(found) != 1:
        return ""
    owner, runbook = found.pop()
    if owner:
        return f"Ask {owner}, or see {runbook}" if runbook else f"Ask {owner}"
    return f"See {runbook}" if runbook else ""

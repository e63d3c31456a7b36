"""The layer that decides: nothing reaches the layers below it that may not be done."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

from policies import keys
from proxy.plugin import Artifact, ArtifactPlugin, BadRequest, Call, Capabilities, Chunk


class Governed:
    """Lets only canonical artifact keys through (policies/keys.py)."""

    def __init__(self, inner: ArtifactPlugin) -> None:
        self._inner = inner

    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.load`."""
        self._inner.load(call, _allowed(call, artifact), path)

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """See `ArtifactPlugin.open_stream`."""
        return self._inner.open_stream(call, _allowed(call, artifact))

    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.save`."""
        self._inner.save(call, _allowed(call, artifact), path)

    def delete(self, call: Call, artifact: Artifact) -> None:
        """See `ArtifactPlugin.delete`."""
        self._inner.delete(call, _allowed(call, artifact))

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """See `ArtifactPlugin.list_objects`."""
        return self._inner.list_objects(call, _allowed(call, artifact))

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """See `ArtifactPlugin.is_directory`."""
        return self._inner.is_directory(call, _allowed(call, artifact))

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """See `ArtifactPlugin.save_stream`."""
        self._inner.save_stream(call, _allowed(call, artifact), chunks)

    def get_capabilities(self, call: Call) -> Capabilities:
        """See `ArtifactPlugin.get_capabilities`."""
        return self._inner.get_capabilities(call)


def _allowed(call: Call, artifact: Artifact) -> Artifact:
    call.decision.policy = "baseline"
    with call.trace.step("policy"):
        fault = keys.fault_of(artifact.key)
    if fault:
        call.decision.effective = call.decision.proposed = "deny"
        call.decision.code = "BAD_KEY"
        raise BadRequest(fault, says="baseline policy, BAD_KEY", remedy="Store the artifact under a plain key")
    call.decision.effective = call.decision.proposed = "allow"
    call.decision.code = "OK"
    call.decided()
    return artifact

"""The layer that decides: nothing reaches the layers below it that may not be done (docs/policies.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from typing_extensions import override

from sealgate.call import Call
from sealgate.errors import BadRequest
from sealgate.layers.meter import PolicyMeter
from sealgate.layers.ruling import Ruling
from sealgate.layers.storage_probe import StorageProbe
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.policy.decision import Measures, Request
from sealgate.policy.engine import BASELINE, ProcessPolicy
from sealgate.policy.load import PolicySet
from sealgate.policy.rules import Process
from sealgate.storage.stored_objects import StoredObjects

_OBJECT, _EXISTS, _AGE = "object", "exists", "age"
_LONGEST_NAME = 4096
"""What patterns are tried on is bounded, as keys are; no file system takes a longer path."""


def nobody(call: Call) -> Process:  # noqa: ARG001 - the same for every call
    """Nothing is known of this process."""
    return Process({})


class Governed(ArtifactPlugin):
    """Decides each call before it has an effect, and goes on deciding while bytes flow.

    Args:
        inner: what is governed.
        policies: every document that counts; none is the built-in baseline.
        identify: tells whose process this is, as far as that is known by now.
        stored: answers questions about stored objects, which rules about age and overwriting ask.
        clock: Unix seconds.
    """

    def __init__(
        self,
        inner: ArtifactPlugin,
        policies: PolicySet = BASELINE,
        *,
        identify: Callable[[Call], Process] = nobody,
        stored: StoredObjects | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._policies = policies
        self._identify = identify
        self._stored = stored
        self._clock = clock
        self._made = ProcessPolicy(policies, Process({}))

    # --- writing ------------------------------------------------------------------------------------------

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        ruling, _ = self._begin(call, artifact, str(path), pending={_OBJECT, _EXISTS})
        with ruling.enforced():
            call.decided()
            self._inner.save(call, artifact, path)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        ruling, probe = self._begin(call, artifact, pending={_EXISTS})
        with ruling.enforced():
            probe.require_removable(sorted(ruling.beneath))
            call.decided()
            self._inner.save_stream(call, artifact, chunks)

    # --- reading ------------------------------------------------------------------------------------------

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        ruling, probe = self._begin(call, artifact, str(path))
        with ruling.enforced():
            if not ruling.policy.is_empty and (beneath := probe.beneath(if_directory=True)):
                for key in (artifact.key, *beneath):
                    ruling.require(ruling.part(key).judge(Measures(files=len(beneath))), key)
            call.decided()
            self._inner.load(call, artifact, path)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        ruling, _ = self._begin(call, artifact)
        with ruling.enforced():
            call.decided()
            yield from self._inner.open_stream(call, artifact)

    # --- the rest -----------------------------------------------------------------------------------------

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        """One object that has to stay keeps the whole of its artifact."""
        ruling, probe = self._begin(call, artifact, pending={_AGE})
        with ruling.enforced():
            if ruling.skips or not (ruling.policy.is_empty or probe.may_delete(probe.beneath())):
                return
            call.decided()
            self._inner.delete(call, artifact)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """What may not be read is not named."""
        ruling, _ = self._begin(call, artifact)
        with ruling.enforced():
            found = self._inner.list_objects(call, artifact)
            shown = found if ruling.policy.is_empty else [key for key in found if ruling.may_read(key)]
            ruling.require(ruling.decide(artifact.key, Measures(listing=len(shown))))
            if len(shown) < len(found) and ruling.policy.listing == "deny":
                ruling.deny("DENIED", "the listing holds objects that may not be read")
            return shown

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        ruling, _ = self._begin(call, artifact)
        with ruling.enforced():
            return self._inner.is_directory(call, artifact)

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        return self._inner.get_capabilities(call)

    # --- decisions ----------------------------------------------------------------------------------------

    def _begin(
        self, call: Call, artifact: Artifact, path: str = "", pending: set[str] | frozenset[str] = frozenset()
    ) -> tuple[Ruling, StorageProbe]:
        """The decision before anything else: a call that is denied has looked at nothing but its request."""
        with call.trace.step("policy"):
            if max(map(len, (artifact.name, artifact.plugin, path))) > _LONGEST_NAME:
                raise BadRequest(f"a name or a path of the request has more than {_LONGEST_NAME} characters")
            request = Request(str(call.operation), artifact.key, artifact.plugin, artifact.name, path)
            ruling = Ruling(call, artifact, self._policy(call), request)
            probe = StorageProbe(call, ruling, self._stored, self._clock)
            ruling.require(ruling.decide(artifact.key, Measures(pending=frozenset(pending))))
            if _EXISTS in pending and not ruling.policy.is_empty:
                self._replaces(ruling, probe, frozenset(pending))
            ruling.instruct(PolicyMeter(ruling, probe))
        return ruling, probe

    def _replaces(self, ruling: Ruling, probe: StorageProbe, pending: frozenset[str]) -> None:
        """Decide on what a write takes the place of: storing in place of a directory removes what is in it."""
        key = ruling.artifact_key
        exists, unknown = probe.exists(key)
        ruling.nothing_beneath = exists is False
        ruling.require(ruling.decide(key, Measures(exists=exists, pending=pending - {_EXISTS} | unknown)))
        ruling.beneath = frozenset(probe.beneath())
        for child in sorted(ruling.beneath):
            measures = Measures(exists=True, pending=frozenset({_OBJECT}))
            ruling.require(ruling.replaced(child).judge(measures), child)

    def _policy(self, call: Call) -> ProcessPolicy:
        """The policy for whom this process is known to be by now; made again only if that has changed."""
        if self._made.is_empty:
            return self._made
        process = self._identify(call)
        if process != self._made.process:
            self._made = ProcessPolicy(self._policies, process)
        return self._made

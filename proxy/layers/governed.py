"""The layer that decides: nothing reaches the layers below it that may not be done (docs/policies.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from policies.engine import BASELINE, Policy
from policies.facts import Measures, Request
from policies.load import PolicySet
from policies.rules import Process
from proxy.layers.findings import Findings, Looks
from proxy.layers.ruling import Ruling
from proxy.plugin import Artifact, ArtifactPlugin, BadRequest, Call, Capabilities, Chunk

_OBJECT, _EXISTS, _AGE = "object", "exists", "age"
_LONGEST_NAME = 4096
"""What patterns are tried on is bounded, as keys are; no file system takes a longer path."""


def nobody(call: Call) -> Process:  # noqa: ARG001 - the same for every call
    """Nothing is known of this process."""
    return Process({})


class Governed:
    """Decides each call before it has an effect, and goes on deciding while bytes flow.

    Args:
        inner: what is governed.
        policies: every document that counts; none is the built-in baseline.
        identify: tells whose process this is, as far as that is known by now.
        looks: who answers questions about stored objects; needed by rules about age and overwriting.
        clock: Unix seconds.
    """

    def __init__(
        self,
        inner: ArtifactPlugin,
        policies: PolicySet = BASELINE,
        *,
        identify: Callable[[Call], Process] = nobody,
        looks: Looks | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._policies = policies
        self._identify = identify
        self._looks = looks
        self._clock = clock
        self._made = Policy(policies, Process({}))

    # --- writing ------------------------------------------------------------------------------------------

    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.save`."""
        ruling, _ = self._begin(call, artifact, str(path), pending={_OBJECT, _EXISTS})
        with ruling.enforced():
            call.decided()
            self._inner.save(call, artifact, path)

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """See `ArtifactPlugin.save_stream`."""
        ruling, found = self._begin(call, artifact, pending={_EXISTS})
        with ruling.enforced():
            found.removed(sorted(ruling.beneath))
            call.decided()
            self._inner.save_stream(call, artifact, chunks)

    # --- reading ------------------------------------------------------------------------------------------

    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.load`."""
        ruling, found = self._begin(call, artifact, str(path))
        with ruling.enforced():
            if not ruling.policy.is_empty and (beneath := found.beneath(if_directory=True)):
                for key in (artifact.key, *beneath):
                    ruling.require(ruling.part(key).judge(Measures(files=len(beneath))), key)
            call.decided()
            self._inner.load(call, artifact, path)

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """See `ArtifactPlugin.open_stream`."""
        ruling, _ = self._begin(call, artifact)
        with ruling.enforced():
            call.decided()
            yield from self._inner.open_stream(call, artifact)

    # --- the rest -----------------------------------------------------------------------------------------

    def delete(self, call: Call, artifact: Artifact) -> None:
        """See `ArtifactPlugin.delete`. One object that has to stay keeps the whole of its artifact."""
        ruling, found = self._begin(call, artifact, pending={_AGE})
        with ruling.enforced():
            if ruling.skips or not (ruling.policy.is_empty or found.may_go(found.beneath())):
                return
            call.decided()
            self._inner.delete(call, artifact)

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """See `ArtifactPlugin.list_objects`. What may not be read is not named."""
        ruling, _ = self._begin(call, artifact)
        with ruling.enforced():
            found = self._inner.list_objects(call, artifact)
            shown = found if ruling.policy.is_empty else [key for key in found if ruling.may_read(key)]
            ruling.require(ruling.decide(artifact.key, Measures(listing=len(shown))))
            if len(shown) < len(found) and ruling.policy.listing == "deny":
                ruling.deny("DENIED", "the listing holds objects that may not be read")
            return shown

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """See `ArtifactPlugin.is_directory`."""
        ruling, _ = self._begin(call, artifact)
        with ruling.enforced():
            return self._inner.is_directory(call, artifact)

    def get_capabilities(self, call: Call) -> Capabilities:
        """See `ArtifactPlugin.get_capabilities`."""
        return self._inner.get_capabilities(call)

    # --- decisions ----------------------------------------------------------------------------------------

    def _begin(
        self, call: Call, artifact: Artifact, path: str = "", pending: set[str] | frozenset[str] = frozenset()
    ) -> tuple[Ruling, Findings]:
        """The decision before anything else: a call that is denied has looked at nothing but its request."""
        with call.trace.step("policy"):
            if max(map(len, (artifact.name, artifact.plugin, path))) > _LONGEST_NAME:
                raise BadRequest(f"a name or a path of the request has more than {_LONGEST_NAME} characters")
            request = Request(str(call.operation), artifact.key, artifact.plugin, artifact.name, path)
            ruling = Ruling(call, artifact, self._policy(call), request)
            found = Findings(call, ruling, self._inner, self._looks, self._clock)
            ruling.require(ruling.decide(artifact.key, Measures(pending=frozenset(pending))))
            if _EXISTS in pending and not ruling.policy.is_empty:
                self._replaces(ruling, found, frozenset(pending))
            ruling.set_terms(found)
        return ruling, found

    def _replaces(self, ruling: Ruling, found: Findings, pending: frozenset[str]) -> None:
        """Decide on what a write takes the place of: storing in place of a directory removes what is in it."""
        key = ruling.artifact_key
        exists, unknown = found.exists(key)
        ruling.nothing_beneath = exists is False
        ruling.require(ruling.decide(key, Measures(exists=exists, pending=pending - {_EXISTS} | unknown)))
        ruling.beneath = frozenset(found.beneath())
        for child in sorted(ruling.beneath):
            measures = Measures(exists=True, pending=frozenset({_OBJECT}))
            ruling.require(ruling.replaced(child).judge(measures), child)

    def _policy(self, call: Call) -> Policy:
        """The policy for whom this process is known to be by now; made again only if that has changed."""
        if self._made.is_empty:
            return self._made
        process = self._identify(call)
        if process != self._made.process:
            self._made = Policy(self._policies, process)
        return self._made

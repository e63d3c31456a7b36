"""The layer that decides: nothing reaches the layers below it that may not be done (docs/policies.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Protocol

from policies.engine import BASELINE, Policy
from policies.facts import Measures, Request
from policies.load import PolicySet
from policies.rules import Process
from proxy.layers.ruling import Ruling
from proxy.plugin import Artifact, ArtifactPlugin, Call, Capabilities, Chunk, NotConfigured

_OBJECT, _EXISTS, _AGE = "object", "exists", "age"


class Seen(Protocol):
    """An object that is stored."""

    @property
    def sealed_at(self) -> int | None:
        """Unix seconds; None where it was never sealed."""


class Looks(Protocol):
    """Who can look at what is stored, for rules about age and about overwriting."""

    def look(self, call: Call, artifact: Artifact) -> Seen | None:
        """The object under this very key; None if there is none."""


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
        ruling = self._begin(call, artifact, str(path), pending={_OBJECT, _EXISTS})
        with ruling.enforced():
            call.decided()
            self._inner.save(call, artifact, path)

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """See `ArtifactPlugin.save_stream`."""
        ruling = self._begin(call, artifact, pending={_EXISTS})
        with ruling.enforced():
            call.decided()
            self._inner.save_stream(call, artifact, chunks)

    # --- reading ------------------------------------------------------------------------------------------

    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """See `ArtifactPlugin.load`."""
        ruling = self._begin(call, artifact, str(path))
        with ruling.enforced():
            if not ruling.policy.is_baseline and self._inner.is_directory(call, artifact):
                beneath = self._inner.list_objects(call, artifact)
                for key in (artifact.key, *beneath):
                    ruling.require(ruling.part(key).judge(Measures(files=len(beneath))), key)
            call.decided()
            self._inner.load(call, artifact, path)

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """See `ArtifactPlugin.open_stream`."""
        ruling = self._begin(call, artifact)
        with ruling.enforced():
            call.decided()
            yield from self._inner.open_stream(call, artifact)

    # --- the rest -----------------------------------------------------------------------------------------

    def delete(self, call: Call, artifact: Artifact) -> None:
        """See `ArtifactPlugin.delete`. One object that has to stay keeps the whole of its artifact."""
        ruling = self._begin(call, artifact, pending={_AGE})
        with ruling.enforced():
            if ruling.skips or not (ruling.policy.is_baseline or self._may_go(call, artifact, ruling)):
                return
            call.decided()
            self._inner.delete(call, artifact)

    def _may_go(self, call: Call, artifact: Artifact, ruling: Ruling) -> bool:
        """Decide on the artifact's own object and on each beneath it; false if one of them is to be kept."""
        beneath = self._inner.list_objects(call, artifact)
        own = self._look(call, artifact) if ruling.awaits(artifact.key, {_AGE}) else None
        if own or not beneath:
            ruling.require(ruling.decide(artifact.key, Measures(age=self._age(own), files=len(beneath))))
        for key in beneath:
            child = ruling.artifact(key)
            age = self._age(self._look(call, child)) if ruling.awaits(key, {_AGE}) else None
            ruling.require(ruling.decide(key, Measures(age=age, files=len(beneath))), key)
        return not ruling.skips

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """See `ArtifactPlugin.list_objects`. What may not be read is not named."""
        ruling = self._begin(call, artifact)
        with ruling.enforced():
            found = self._inner.list_objects(call, artifact)
            shown = found if ruling.policy.is_baseline else [key for key in found if ruling.may_read(key)]
            ruling.require(ruling.decide(artifact.key, Measures(listing=len(shown))))
            if len(shown) < len(found) and ruling.policy.listing == "deny":
                ruling.deny("DENIED", "the listing holds objects that may not be read")
            return shown

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """See `ArtifactPlugin.is_directory`."""
        ruling = self._begin(call, artifact)
        with ruling.enforced():
            return self._inner.is_directory(call, artifact)

    def get_capabilities(self, call: Call) -> Capabilities:
        """See `ArtifactPlugin.get_capabilities`."""
        return self._inner.get_capabilities(call)

    # --- decisions ----------------------------------------------------------------------------------------

    def _begin(
        self, call: Call, artifact: Artifact, path: str = "", pending: set[str] | frozenset[str] = frozenset()
    ) -> Ruling:
        """The decision before anything else: a call that is denied has looked at nothing but its request."""
        with call.trace.step("policy"):
            request = Request(str(call.operation), artifact.key, artifact.plugin, artifact.name, path)
            ruling = Ruling(call, artifact, self._policy(call), request)
            ruling.require(ruling.decide(artifact.key, Measures(pending=frozenset(pending))))
            ruling.set_terms(lambda key: self._exists(call, ruling, key))
            if _EXISTS in pending and ruling.awaits(artifact.key, {_EXISTS}):
                exists = self._exists(call, ruling, artifact.key)
                ruling.nothing_beneath = not exists
                measures = Measures(exists=exists, pending=frozenset(pending) - {_EXISTS})
                ruling.require(ruling.decide(artifact.key, measures))
            if _EXISTS in pending and not ruling.policy.is_baseline:
                # Storing in place of a directory removes what is in it.
                for key in self._inner.list_objects(call, artifact):
                    ruling.require(ruling.decide(key, Measures(exists=True, pending=frozenset({_OBJECT}))), key)
        return ruling

    def _policy(self, call: Call) -> Policy:
        """The policy for whom this process is known to be by now; made again only if that has changed."""
        if self._made.is_baseline:
            return self._made
        process = self._identify(call)
        if process != self._made.process:
            self._made = Policy(self._policies, process)
        return self._made

    def _exists(self, call: Call, ruling: Ruling, key: str) -> bool:
        """Whether an object lies under the key, or any beneath it."""
        artifact = ruling.artifact(key)
        return self._look(call, artifact) is not None or self._inner.is_directory(call, artifact)

    def _look(self, call: Call, artifact: Artifact) -> Seen | None:
        if self._looks is None:
            raise NotConfigured("a rule asks what is stored under the key, and nothing here can tell")
        return self._looks.look(call, artifact)

    def _age(self, seen: Seen | None) -> int | None:
        """Seconds since it was sealed. A time that lies ahead is none."""
        if seen is None or seen.sealed_at is None:
            return None
        age = int(self._clock()) - seen.sealed_at
        return age if age >= 0 else None

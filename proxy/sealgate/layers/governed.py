"""The layer that decides: only what the policies allow reaches the layers below it (docs/policies.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from typing_extensions import override

from sealgate.call import Call
from sealgate.errors import BadRequest, LimitReached
from sealgate.layers.meter import PolicyMeter
from sealgate.layers.ruling import Ruling
from sealgate.layers.storage_probe import StorageProbe
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.policy.decision import Measures, Request
from sealgate.policy.engine import BASELINE, ProcessPolicy
from sealgate.policy.hidden_keys import HiddenKeys
from sealgate.policy.load import PolicySet
from sealgate.policy.rules import Process
from sealgate.storage.stored_objects import StoredObjects

_OBJECT, _EXISTS, _AGE = "object", "exists", "age"
_LONGEST_NAME = 4096
"""Characters. Bounds the work of matching patterns, as the limit on keys does; no file system has longer paths."""
_CLOCK_IS_SET = 1_767_225_600
"""The beginning of 2026, in Unix seconds. A clock before it was never set."""
MOST_LISTED = 100_001
"""The most keys of a listing that is judged: as many as a directory can have, with its manifest."""


def _unknown_process(call: Call) -> Process:  # noqa: ARG001 - the same for every call
    """Return a process of which nothing is known."""
    return Process({})


class Governed(ArtifactPlugin):
    """Decides each call before it has an effect, and continues to decide while bytes flow.

    Args:
        inner: the plugin that is governed.
        policies: all policy documents; the built-in baseline by default.
        identify: returns the identity of this process, as far as it is known at this call.
        stored: reads stored objects, for rules about age and overwriting.
        clock: returns Unix seconds.
        hides: says which keys no log line and no record may contain; by default those that `policies` hide.
    """

    def __init__(
        self,
        inner: ArtifactPlugin,
        policies: PolicySet = BASELINE,
        *,
        identify: Callable[[Call], Process] = _unknown_process,
        stored: StoredObjects | None = None,
        clock: Callable[[], float] = time.time,
        hides: Callable[[str], bool] | None = None,
    ) -> None:
        self._inner = inner
        self._policies = policies
        self._identify = identify
        self._stored = stored
        self._clock = clock
        self._hides = hides or HiddenKeys(policies).hides
        self._process_policy = ProcessPolicy(policies, Process({}))
        """The policies for the identity that was known at the last call."""
        self._latest = 0
        """The latest time that the clock has shown, in Unix seconds."""

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
            probe.require_removable(sorted(ruling.stored_beneath))
            call.decided()
            self._inner.save_stream(call, artifact, chunks)

    # --- reading ------------------------------------------------------------------------------------------

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        ruling, _ = self._begin(call, artifact, str(path))
        with ruling.enforced():
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
        """Delete the artifact, or nothing of it if a rule keeps one of its objects."""
        ruling, probe = self._begin(call, artifact, pending={_AGE})
        with ruling.enforced():
            if ruling.skips or not (ruling.policy.is_empty or probe.may_delete(probe.beneath())):
                return
            call.decided()
            self._inner.delete(call, artifact)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """List only the objects that may be read."""
        ruling, _ = self._begin(call, artifact)
        with ruling.enforced():
            listed = self._inner.list_objects(call, artifact)
            if len(listed) > MOST_LISTED:  # before each one is judged
                raise LimitReached(
                    f"the downstream lists {len(listed)} objects, and Sealgate shows at most {MOST_LISTED}",
                    remedy="List a key beneath which fewer objects are stored",
                )
            shown = listed if ruling.policy.is_empty else [key for key in listed if ruling.may_read(key)]
            ruling.require(ruling.decide(artifact.key, Measures(listing=len(shown))))
            if len(shown) < len(listed) and ruling.policy.listing == "deny":
                ruling.deny("DENIED", "the listing contains objects that may not be read")
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
        """Decide on the request, and write the call's instructions. A call that is denied here has read nothing else.

        Args:
            call: the call.
            artifact: what the request says about the artifact.
            path: the local path in the request, for the operations that have one.
            pending: facts that are not known yet, of `object`, `exists` and `age` (`policy.facts.Measures`).

        Raises:
            BadRequest: a name or a path is too long, or the key is not canonical.
            Denied: a policy denies.
        """
        call.hides = self._hides
        with call.trace.step("policy"):
            if max(map(len, (artifact.name, artifact.plugin, path))) > _LONGEST_NAME:
                raise BadRequest(f"a name or a path of the request has more than {_LONGEST_NAME} characters")
            request = Request(str(call.operation), artifact.key, artifact.plugin, artifact.name, path, self._time())
            ruling = Ruling(call, artifact, self._policy(call), request)
            probe = StorageProbe(call, ruling, self._stored, self._clock)
            ruling.require(ruling.decide(artifact.key, Measures(pending=frozenset(pending))))
            if _EXISTS in pending and not ruling.policy.is_empty:
                self._decide_on_replaced(ruling, probe, frozenset(pending))
            ruling.instruct(PolicyMeter(ruling, probe))
        return ruling, probe

    def _decide_on_replaced(self, ruling: Ruling, probe: StorageProbe, pending: frozenset[str]) -> None:
        """Decide on the stored objects that a write replaces. Writing over a directory removes the objects in it."""
        key = ruling.artifact_key
        exists, unknown = probe.exists(key, ruling.rules_for(key))
        ruling.nothing_stored = exists is False
        if exists is False:
            ruling.require_new(Measures(exists=True, pending=pending - {_EXISTS}))
        probe.require(ruling.decide(key, Measures(exists=exists, pending=pending - {_EXISTS} | unknown)))
        ruling.stored_beneath = frozenset(probe.beneath())
        for child in sorted(ruling.stored_beneath):
            probe.call.check()
            measures = Measures(exists=True, pending=frozenset({_OBJECT}))
            ruling.require(ruling.rules_for_replaced(child).judge(measures), child)

    def _time(self) -> int | None:
        """Return the time that rules which expire are judged by, in Unix seconds; None if the clock was never set.

        A clock that is set back while the process runs lets no expired rule grant again.
        """
        self._latest = max(self._latest, int(self._clock()))
        return self._latest if self._latest >= _CLOCK_IS_SET else None

    def _policy(self, call: Call) -> ProcessPolicy:
        """Return the policies for the identity of this process; compiled again only if the identity has changed."""
        if self._process_policy.is_empty:
            return self._process_policy
        process = self._identify(call)
        if process != self._process_policy.process:
            self._process_policy = ProcessPolicy(self._policies, process)
        return self._process_policy

"""The audit trail of this process: what the `Audited` layer writes to, and what makes an access wait for its record."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from sealgate.audit.accesses import Access, session
from sealgate.audit.chain import Certification, Chain
from sealgate.audit.records import Phase, Record, SessionInfo
from sealgate.audit.sinks import Copy, Lagging, Sink, Taken
from sealgate.call import Call
from sealgate.errors import AuditBlocked, NotConfigured, NotPermitted, PluginError
from sealgate.identity import Identity
from sealgate.plugin import Artifact
from sealgate.telemetry.watch import Telemetry

log = logging.getLogger("sealgate.audit")

_LONGEST_BEGINNING = 60.0
"""Seconds that the certifying key has to answer, and that an access without a deadline waits for another's asking."""
_SLICE = 0.05
"""Seconds that one of several sinks is waited for before the next has its turn."""
_NO_SINK = "none"
"""In the metrics, the sink of a failure that is no sink's."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Who vouches for a trail from outside of the process."""

    certify: Callable[[Call, bytes], Certification]
    """Has a text signed by the certifying key."""
    identify: Callable[[Call], Identity]
    """Tells whose process this is, as far as that was proven."""


class Mode(StrEnum):
    """What becomes of an access that cannot be recorded."""

    FAIL_CLOSED = "fail-closed"
    FAIL_OPEN = "fail-open"


class Require(StrEnum):
    """How many sinks must take a record."""

    ANY = "any"
    ALL = "all"


class Phases(StrEnum):
    """Which records an access with effects leaves."""

    BOTH = "both"
    OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What the settings say of the trail."""

    mode: Mode = Mode.FAIL_CLOSED
    require: Require = Require.ANY
    phases: Phases = Phases.BOTH
    wait: float = 2.0
    """Seconds that an access waits for its record to be taken."""
    hmac_key: bytes = field(default=b"", repr=False)
    """Hides artifact keys that a policy wants hidden."""


class _NotWritten(Exception):
    """A record could not be written, and no sink is to blame."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """One of a few texts: it becomes a metric's attribute."""


class AuditLog:
    """Chains records and hands them to the sinks, one after the other, from any thread.

    The chain begins with the first record. Without an `authority` it is not signed.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        identity: Identity,
        terms: AuditOptions,
        authority: Authority | None = None,
        *,
        copies: Sequence[Copy] = (),
        watch: Telemetry | None = None,
    ) -> None:
        self._sinks = [Lagging(sink) for sink in sinks]
        self._copies = copies
        self._identity = identity
        self._terms = terms
        self._authority = authority
        self._chain: Chain | None = None
        """The chain, once it is settled who vouches for it; begun once it has a record."""
        self._facts = SessionInfo()
        self._closed = False
        self._writing = threading.Lock()
        self._beginning = threading.Lock()
        self._watch = watch or Telemetry(None, None)

    @property
    def records_attempts(self) -> bool:
        """Whether an access is recorded before its effects, too."""
        return self._terms.phases == Phases.BOTH

    def access(self, call: Call, artifact: Artifact) -> Access:
        """An access that is about to be recorded."""
        return Access(call, artifact, self._terms.hmac_key)

    def attempt(self, access: Access) -> None:
        """Record what is about to happen, and note on the call where.

        Raises:
            AuditBlocked: it cannot be recorded, so it may not happen.
        """
        call = access.call
        self._write(call, Phase.ATTEMPT, access.attempt)

    def outcome(self, access: Access, error: BaseException | None, listed: int = 0) -> None:
        """Record what has happened.

        Raises:
            AuditBlocked: it cannot be recorded.
        """
        self._write(access.call, Phase.OUTCOME, lambda sequence, by: access.outcome(sequence, by, error, listed))

    def close(self) -> None:
        """End the chain with a record that says so, and let go of the sinks. Never waits longer than a record may."""
        try:
            with self._turn() as until:
                if self._chain is not None and self._chain.length:
                    fault = self._end(self._chain, until)
                    if fault:
                        log.error("the end of the audit trail could not be recorded: %s", fault)
                for sink in self._sinks:
                    sink.close()
                self._closed = True
        except _NotWritten as held:
            self._closed = True
            log.error("the end of the audit trail could not be recorded: %s", held)  # noqa: TRY400 - ours, and all there is
        for copy in self._copies:
            copy.close()

    # --- one record ---------------------------------------------------------------------------------------

    def _write(self, call: Call, phase: Phase, make: Callable[[int, Identity], Record]) -> None:
        try:
            chain = self._settled(call)
            with self._turn() as until:
                fault = self._begun(chain, until)
                if chain.length:
                    fault = self._put(chain, make(chain.length, self._identity), until)
                if not fault and phase is Phase.ATTEMPT:
                    call.audit.chain, call.audit.sequence = chain.uid, chain.length - 1
        except _NotWritten as held:
            fault = str(held)
            self._watch.not_recorded(_NO_SINK, held.reason)
        if not fault:
            self._watch.recorded(phase)
            return
        log.error("an access could not be recorded: %s [d=%s]", fault, call.id)
        if self._terms.mode != Mode.FAIL_OPEN:
            raise AuditBlocked(
                f"the access cannot be recorded: {fault}",
                says="audit, AUDIT_BLOCKED",
                remedy="Make room for the audit trail, or have somebody read it",
            )

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """The one place in the chain, and until when its record must be taken: waiting for the place counts, too."""
        until = time.monotonic() + self._terms.wait
        if not self._writing.acquire(timeout=self._terms.wait):
            raise _NotWritten("the records before it are not taken")
        try:
            if self._closed or not self._sinks:
                raise _NotWritten("the trail has ended")
            yield until
        finally:
            self._writing.release()

    def _put(self, chain: Chain, record: Record, until: float) -> str:
        """Write one record, with the lock held; why it does not count as written, or nothing."""
        sealed = chain.sealed(record)
        for sink in self._sinks:
            sink.add(sealed.line)
        all_taken = self._all_taken(until)
        faults = [(sink.name, taken.fault) for sink, taken in all_taken if taken.fault]
        for name, fault in faults:
            self._watch.not_recorded(name, fault)
        if any(taken.there for _, taken in all_taken) or self._has_only_copies:
            chain.added(sealed)
            for copy in self._copies:
                copy.add(sealed.line)
        else:
            for sink in self._sinks:
                sink.forget_last()
        needed = len(self._sinks) if self._terms.require == Require.ALL else 1
        if len(all_taken) - len(faults) >= needed:
            return ""
        return "; ".join(f"{name}: {fault}" for name, fault in faults)

    @property
    def _has_only_copies(self) -> bool:
        """Whether a record that no sink takes is one all the same: the access happens, and a collector is told."""
        return self._terms.mode == Mode.FAIL_OPEN and bool(self._copies)

    def _all_taken(self, until: float) -> list[tuple[Lagging, Taken]]:
        """What became of the last line at each sink. Where one is enough, none makes it wait for another for long."""
        if self._terms.require == Require.ALL or len(self._sinks) == 1:
            return [(sink, sink.write(until)) for sink in self._sinks]
        soon = min(until, time.monotonic() + _SLICE)
        taken = {place: sink.write(0 if sink.late else soon) for place, sink in enumerate(self._sinks)}
        while not any(one.there for one in taken.values()) and time.monotonic() < until:
            late = [place for place, one in taken.items() if one.late]
            if not late:
                break
            for place in late:
                taken[place] = self._sinks[place].write(min(until, time.monotonic() + _SLICE))
        return [(self._sinks[place], one) for place, one in taken.items()]

    def _begun(self, chain: Chain, until: float) -> str:
        """Have the chain begin with a record of its own; why it did not, or nothing."""
        if chain.length:
            return ""
        return self._put(chain, session(0, self._identity, Phase.START, self._facts), until)

    def _end(self, chain: Chain, until: float) -> str:
        facts = SessionInfo(records=chain.length + 1)
        return self._put(chain, session(chain.length, self._identity, Phase.END, facts), until)

    # --- the beginning ------------------------------------------------------------------------------------

    def _settled(self, call: Call) -> Chain:
        """The chain, once it is settled who vouches for it. Whoever comes first asks, the others wait."""
        if self._chain is not None:
            return self._chain
        remaining = call.remaining()
        if not self._beginning.acquire(timeout=_LONGEST_BEGINNING if remaining is None else remaining):
            raise _NotWritten("the trail has not begun yet")
        try:
            if self._chain is None:
                self._chain = self._new(call)
        finally:
            self._beginning.release()
        return self._chain

    def _new(self, call: Call) -> Chain:
        chain, terms = Chain(), self._terms
        certified, reason = None, "no certifying key is configured"
        authority = self._authority
        if authority is not None:
            # Of the process, not of its first caller: who hangs up early must not decide whether the trail is signed.
            # What is asked for it is none of the access's requests either.
            own = Call(call.operation, time.monotonic() + _LONGEST_BEGINNING, id=call.id, trace=call.trace)
            try:
                self._identity = authority.identify(own)
                certified = chain.certify(self._identity, lambda text: authority.certify(own, text))
            except (NotPermitted, NotConfigured) as fault:
                # Chained all the same, and the first record says that nobody vouches for it.
                reason = f"the certifying key refused: {type(fault).__name__}"
                log.warning("the audit trail is not signed: %s", fault.fact)
            except PluginError as fault:
                # It passes, so the next access asks again: a trail is not unsigned for good because of it.
                raise _NotWritten("the certifying key does not answer", fault.fact) from None
        if certified is None:
            chain.unsigned()
        self._facts = SessionInfo(
            attestation="certified" if certified else "none",
            reason="" if certified else reason,
            certified=certified,
            mode=terms.mode,
            require=terms.require,
            phases=terms.phases,
            sinks=tuple(sink.name for sink in self._sinks),
        )
        return chain

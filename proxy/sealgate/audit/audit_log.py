"""When an access may go on: once the audit log has written its record to the sinks, else not (docs/audit.md)."""

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
from sealgate.audit.sinks import BufferedSink, Copy, Delivery, Sink
from sealgate.call import Call
from sealgate.errors import AuditBlocked, NotConfigured, NotPermitted, PluginError
from sealgate.identity import Identity
from sealgate.log_event import LogEvent
from sealgate.plugin import Artifact
from sealgate.telemetry.reporting import Telemetry

log = logging.getLogger("sealgate.audit")

_CERTIFYING_SECONDS = 60.0
"""How long the certifying key has to answer. Another access without a deadline waits as long for that answer."""
_TURN_SECONDS = 0.05
"""With several sinks, how long one of them is waited for before the next one is tried."""
_NO_SINK = "none"
"""The name of the sink in the metrics, for a failure that no sink caused."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Certifies the trail of this process with a key that the process does not hold."""

    certify: Callable[[Call, bytes], Certification]
    """Signs bytes with the certifying key."""
    identify: Callable[[Call], Identity]
    """Returns the identity of this process, attested as far as the key service has proven it."""


class Mode(StrEnum):
    """What happens to an access that cannot be recorded: it is refused (closed), or it goes on (open)."""

    FAIL_CLOSED = "fail-closed"
    FAIL_OPEN = "fail-open"


class Require(StrEnum):
    """How many sinks must write a record."""

    ANY = "any"
    ALL = "all"


class Phases(StrEnum):
    """Which records an access with effects leaves: attempt and outcome, or the outcome alone."""

    BOTH = "both"
    OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """The settings of the trail (`audit` in docs/configuration.md)."""

    mode: Mode = Mode.FAIL_CLOSED
    require: Require = Require.ANY
    phases: Phases = Phases.BOTH
    wait: float = 2.0
    """Seconds that an access waits for its record to be written."""
    hmac_key: bytes = field(default=b"", repr=False)
    """The HMAC key for artifact keys that a policy hides; empty without one."""


class _NotRecorded(Exception):
    """A record could not be written, for a reason that is not the fault of a sink."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """One of a few fixed texts, because it becomes a metric attribute."""


class AuditLog:
    """Chains records and writes them to the sinks, one at a time. Any thread may call it.

    The chain starts with the first record.

    Args:
        sinks: where records count as written.
        known_identity: returns the identity of this process as far as it is known, without a request. A record of a
            chain that is not signed names it; the records of a signed chain name the identity in the certificate.
        options: the settings of the trail.
        authority: certifies the chain; without it the chain is not signed.
        copies: places that also receive each record and may lose it.
        telemetry: counts the records that were written, and those that were not.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        known_identity: Callable[[], Identity],
        options: AuditOptions,
        authority: Authority | None = None,
        *,
        copies: Sequence[Copy] = (),
        telemetry: Telemetry | None = None,
    ) -> None:
        self._sinks = [BufferedSink(sink) for sink in sinks]
        self._copies = copies
        self._known_identity = known_identity
        self._certified_identity: Identity | None = None
        self._options = options
        self._authority = authority
        self._chain: Chain | None = None
        """None until the certifying key has answered. The chain has started once it has a record."""
        self._session = SessionInfo()
        self._closed = False
        self._writing = threading.Lock()
        self._certifying = threading.Lock()
        self._telemetry = telemetry or Telemetry(None, None)

    @property
    def records_attempts(self) -> bool:
        """Whether an access is also recorded before its effects."""
        return self._options.phases == Phases.BOTH

    def access(self, call: Call, artifact: Artifact) -> Access:
        """Return the access to `artifact` by `call`, from which `attempt` and `outcome` make records."""
        return Access(call, artifact, self._options.hmac_key)

    def attempt(self, access: Access) -> None:
        """Record what is about to happen, and write the place of the record to `call.audit`.

        Raises:
            AuditBlocked: the attempt cannot be recorded, so the access must not happen.
        """
        call = access.call
        self._write(call, Phase.ATTEMPT, access.attempt)

    def outcome(self, access: Access, error: BaseException | None, listed: int = 0) -> None:
        """Record how the access ended.

        Args:
            access: the access.
            error: what it failed with; None after a success.
            listed: the number of objects in the answer to a ListObjects.

        Raises:
            AuditBlocked: the outcome cannot be recorded.
        """
        self._write(access.call, Phase.OUTCOME, lambda sequence, by: access.outcome(sequence, by, error, listed))

    def close(self) -> None:
        """End the chain with a closing record and close the sinks. Wait no longer than for any record."""
        try:
            with self._turn() as until:
                if self._chain is not None and self._chain.length:
                    refusal = self._end(self._chain, until)
                    if refusal:
                        log.error(LogEvent("the end of the audit trail could not be recorded", reason=refusal))
                for sink in self._sinks:
                    sink.close()
                self._closed = True
        except _NotRecorded as fault:
            self._closed = True
            log.error(LogEvent("the end of the audit trail could not be recorded", reason=str(fault)))  # noqa: TRY400 - its text says all there is
        for copy in self._copies:
            copy.close()

    # --- one record ---------------------------------------------------------------------------------------

    def _write(self, call: Call, phase: Phase, make: Callable[[int, Identity], Record]) -> None:
        try:
            chain = self._certified_chain(call)
            with self._turn() as until:
                fault = self._start(chain, until)
                if chain.length:
                    fault = self._append(chain, make(chain.length, self._identity()), until)
                if not fault and phase is Phase.ATTEMPT:
                    call.audit.chain, call.audit.sequence = chain.uid, chain.length - 1
        except _NotRecorded as error:
            fault = str(error)
            self._telemetry.not_recorded(_NO_SINK, error.reason)
        if not fault:
            self._telemetry.recorded(phase)
            return
        log.error(LogEvent("an access could not be recorded", reason=fault, decision_id=call.id))
        if self._options.mode != Mode.FAIL_OPEN:
            raise AuditBlocked(
                f"the access cannot be recorded: {fault}",
                says="audit, AUDIT_BLOCKED",
                remedy="Check that the audit sinks have free space and that standard output is being read",
            )

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """Hold the lock of the chain, and give the time by which the record must be written.

        The wait for the lock counts towards that time.
        """
        until = time.monotonic() + self._options.wait
        if not self._writing.acquire(timeout=self._options.wait):
            raise _NotRecorded("earlier records are still being written")
        try:
            if self._closed or not self._sinks:
                raise _NotRecorded("the audit trail is closed")
            yield until
        finally:
            self._writing.release()

    def _append(self, chain: Chain, record: Record, until: float) -> str:
        """Write one record, with the lock held. Return why it does not count as written, or an empty text."""
        signed = chain.signed_line(record)
        for sink in self._sinks:
            sink.queue(signed.line)
        deliveries = self._deliveries(until)
        faults = [(sink.name, delivery.fault) for sink, delivery in deliveries if delivery.fault]
        for name, fault in faults:
            self._telemetry.not_recorded(name, fault)
        if any(delivery.written for _, delivery in deliveries) or self._copies_suffice:
            chain.advance(signed)
            for copy in self._copies:
                copy.add(signed.line)
        else:
            for sink in self._sinks:
                sink.drop_last()
        needed = len(self._sinks) if self._options.require == Require.ALL else 1
        if len(deliveries) - len(faults) >= needed:
            return ""
        return "; ".join(f"{name}: {fault}" for name, fault in faults)

    @property
    def _copies_suffice(self) -> bool:
        """Whether a record joins the chain although no sink wrote it: the access happens, and a collector gets it."""
        return self._options.mode == Mode.FAIL_OPEN and bool(self._copies)

    def _deliveries(self, until: float) -> list[tuple[BufferedSink, Delivery]]:
        """Write the last line to each sink. If one sink is enough, a slow sink does not use up the time of another."""
        if self._options.require == Require.ALL or len(self._sinks) == 1:
            return [(sink, sink.deliver(until)) for sink in self._sinks]
        soon = min(until, time.monotonic() + _TURN_SECONDS)
        deliveries = {index: sink.deliver(0 if sink.timed_out else soon) for index, sink in enumerate(self._sinks)}
        while not any(delivery.written for delivery in deliveries.values()) and time.monotonic() < until:
            slow = [index for index, delivery in deliveries.items() if delivery.timed_out]
            if not slow:
                break
            for index in slow:
                deliveries[index] = self._sinks[index].deliver(min(until, time.monotonic() + _TURN_SECONDS))
        return [(self._sinks[index], delivery) for index, delivery in deliveries.items()]

    def _start(self, chain: Chain, until: float) -> str:
        """Write the first record of the chain, if it has none. Return why that failed, or an empty text."""
        if chain.length:
            return ""
        return self._append(chain, session(0, self._identity(), Phase.START, self._session), until)

    def _end(self, chain: Chain, until: float) -> str:
        facts = SessionInfo(records=chain.length + 1)
        return self._append(chain, session(chain.length, self._identity(), Phase.END, facts), until)

    def _identity(self) -> Identity:
        return self._certified_identity or self._known_identity()

    # --- the certificate ----------------------------------------------------------------------------------

    def _certified_chain(self, call: Call) -> Chain:
        """Return the chain. The first call asks for its certificate, and the others wait for the answer."""
        if self._chain is not None:
            return self._chain
        remaining = call.remaining()
        if not self._certifying.acquire(timeout=_CERTIFYING_SECONDS if remaining is None else remaining):
            raise _NotRecorded("the certifying key has not answered yet")
        try:
            if self._chain is None:
                self._chain = self._new_chain(call)
        finally:
            self._certifying.release()
        return self._chain

    def _new_chain(self, call: Call) -> Chain:
        chain, options = Chain(), self._options
        certified, reason = None, "no certifying key is configured"
        authority = self._authority
        if authority is not None:
            # The certificate belongs to the process: the request has a deadline of its own, so that a first caller that
            # goes away does not leave the trail unsigned, and it does not count as a key request of that caller.
            own = Call(call.operation, time.monotonic() + _CERTIFYING_SECONDS, id=call.id, trace=call.trace)
            try:
                identity = authority.identify(own)
                certified = chain.certify(identity, lambda text: authority.certify(own, text))
                self._certified_identity = identity
            except (NotPermitted, NotConfigured) as fault:
                # Records are still chained, and the first one says that they are not signed.
                reason = f"the certifying key refused: {type(fault).__name__}"
                log.warning(LogEvent("the audit trail is not signed", reason=fault.fact))
            except PluginError as fault:
                # The fault may pass, so the next access asks again instead of leaving the trail unsigned.
                raise _NotRecorded("the certifying key does not answer", fault.fact) from None
        if certified is None:
            chain.go_unsigned()
        self._session = SessionInfo(
            attestation="certified" if certified else "none",
            reason="" if certified else reason,
            certified=certified,
            mode=options.mode,
            require=options.require,
            phases=options.phases,
            sinks=tuple(sink.name for sink in self._sinks),
        )
        return chain

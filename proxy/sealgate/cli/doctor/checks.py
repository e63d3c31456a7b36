"""What a check of `sealgate doctor` is, and how one after the other is made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from sealgate.call import Call, Operation
from sealgate.errors import DeadlineExceeded, DownstreamStatus, PluginError, Refused

POLICIES = "policies"
"""The check that nothing can be saved without."""
_GRACE = 1.0
"""Seconds after its deadline that a check has to say so itself."""


class State(StrEnum):
    """How a check ended, as the report says it."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    NOT_CHECKED = "not checked"


class Role(StrEnum):
    """What the identity of this configuration is meant to do."""

    SAVER = "saver"
    LOADER = "loader"
    BOTH = "both"
    REWRAPPER = "rewrapper"

    @property
    def shown(self) -> str:
        """As a sentence names it."""
        return "saver and loader" if self is Role.BOTH else self.value

    @property
    def parts(self) -> frozenset[Role]:
        """The roles that have a policy of their own in policies/vault."""
        return frozenset({Role.SAVER, Role.LOADER} if self is Role.BOTH else {self})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the report."""

    state: State
    fact: str
    remedy: str = ""
    policy: str = ""
    """A policy of Vault to paste: what the role needs, and no more."""
    check: str = ""


def ok(fact: str) -> CheckResult:
    """It is so."""
    return CheckResult(State.OK, fact)


def warning(fact: str, remedy: str, policy: str = "") -> CheckResult:
    """It works, and could be better."""
    return CheckResult(State.WARNING, fact, remedy, policy)


def failed(fact: str, remedy: str, policy: str = "") -> CheckResult:
    """It is not so."""
    return CheckResult(State.FAILED, fact, remedy, policy)


def not_checked(fact: str, remedy: str = "") -> CheckResult:
    """Nobody can tell; that alone is no failure."""
    return CheckResult(State.NOT_CHECKED, fact, remedy)


@dataclass(frozen=True, slots=True)
class Check:
    """One question, and what must be so before it can be asked."""

    name: str
    run: Callable[[Call], Iterable[CheckResult]]
    """A `PluginError` is its failure. The call has the deadline of this check."""
    needs: tuple[str, ...] = ()
    """Names of checks. One that is not in the list is not so either."""


def findings(checks: Iterable[Check], seconds: float) -> Iterator[CheckResult]:
    """What each check found, as soon as it has; none takes longer than so many seconds."""
    passed: set[str] = set()
    for check in checks:
        good = True
        for finding in _of(check, passed, seconds):
            good = good and finding.state in {State.OK, State.WARNING}
            yield CheckResult(finding.state, finding.fact, finding.remedy, finding.policy, check.name)
        if good:
            passed.add(check.name)


def _of(check: Check, passed: set[str], seconds: float) -> Iterator[CheckResult]:
    lacking = [need for need in check.needs if need not in passed]
    if lacking:
        yield not_checked(f'it needs "{lacking[0]}"')
        return
    try:
        yield from _on_a_thread(check, seconds)
    except DeadlineExceeded:
        yield failed(f"it was not done within {seconds:g} s", "See what takes so long, or raise --timeout")
    except (Refused, DownstreamStatus) as answer:
        words = f'the downstream says "{answer.fact}"' if answer.fact else "the downstream refuses without a word"
        yield failed(words, "Look at its own settings and its rights in storage, and with --verbose at its log")
    except PluginError as fault:
        yield failed(f"{fault.fact} ({fault.says})", fault.remedy or "Look at the log, with --verbose")


def _on_a_thread(check: Check, seconds: float) -> Iterator[CheckResult]:
    """What the check finds. One that never looks at its deadline, as at a pipe without a writer, is left behind."""
    found: list[CheckResult] = []
    ended: list[BaseException | None] = []

    def run() -> None:
        fault = None
        try:
            found.extend(check.run(Call(Operation.GET_CAPABILITIES, time.monotonic() + seconds)))
        except BaseException as raised:  # noqa: BLE001 - it is raised again where it is waited for
            fault = raised
        ended.append(fault)

    thread = threading.Thread(target=run, name=f"sealgate-doctor {check.name}", daemon=True)
    thread.start()
    thread.join(seconds + _GRACE)
    outcome = ended[0] if ended else DeadlineExceeded("the check does not end")
    yield from tuple(found)
    if outcome is not None:
        raise outcome

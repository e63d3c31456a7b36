"""How the checks of `sealgate doctor` are described, and how they run one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from sealgate.call import Call, Operation
from sealgate.errors import DeadlineExceeded, DownstreamStatus, PluginError, Refused

POLICIES, POLICY_KEYS = "policies", "policies: keys"
LOGIN = "vault: login"
MAKE, OPEN = "data key: make", "data key: open"
"""Names of checks on which checks of other sections depend, whichever key provider is configured."""
_GRACE = 1.0
"""Seconds after its deadline within which a check can still report that itself."""


class State(StrEnum):
    """How a check ended, in the words of the report."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    NOT_CHECKED = "not checked"


class Role(StrEnum):
    """The task of the identity that this configuration logs in as."""

    SAVER = "saver"
    LOADER = "loader"
    BOTH = "both"
    REWRAPPER = "rewrapper"

    @property
    def shown(self) -> str:
        """The role as a phrase in a sentence."""
        return "saver and loader" if self is Role.BOTH else self.value

    @property
    def parts(self) -> frozenset[Role]:
        """The roles with a policy of their own in policies/vault."""
        return frozenset({Role.SAVER, Role.LOADER} if self is Role.BOTH else {self})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the report."""

    state: State
    fact: str
    remedy: str = ""
    policy: str = ""
    """A policy to paste into Vault: what the role needs, and no more."""
    check: str = ""
    """The name of the check; `findings` fills it in."""


def ok(fact: str) -> CheckResult:
    """Report that the check passed, with `fact`."""
    return CheckResult(State.OK, fact)


def warning(fact: str, remedy: str, policy: str = "") -> CheckResult:
    """Report something that works but should be improved. `policy` is one to paste into Vault."""
    return CheckResult(State.WARNING, fact, remedy, policy)


def failed(fact: str, remedy: str, policy: str = "") -> CheckResult:
    """Report something that does not work. `policy` is one to paste into Vault."""
    return CheckResult(State.FAILED, fact, remedy, policy)


def not_checked(fact: str, remedy: str = "") -> CheckResult:
    """Report something that could not be checked, which alone is not a failure."""
    return CheckResult(State.NOT_CHECKED, fact, remedy)


@dataclass(frozen=True, slots=True)
class Check:
    """One check, and the checks that must have passed before it runs."""

    name: str
    run: Callable[[Call], Iterable[CheckResult]]
    """Runs the check. A `PluginError` is reported as a failure. The call has the deadline of the check."""
    needs: tuple[str, ...] = ()
    """Names of checks. A name that is not in the list counts as not passed."""


def findings(checks: Iterable[Check], seconds: float) -> Iterator[CheckResult]:
    """Run `checks` in order, each for at most `seconds`, and yield each result as soon as its check has ended."""
    passed: set[str] = set()
    for check in checks:
        good = True
        for finding in _results(check, passed, seconds):
            good = good and finding.state in {State.OK, State.WARNING}
            yield CheckResult(finding.state, finding.fact, finding.remedy, finding.policy, check.name)
        if good:
            passed.add(check.name)


def _results(check: Check, passed: set[str], seconds: float) -> Iterator[CheckResult]:
    missing = [need for need in check.needs if need not in passed]
    if missing:
        yield not_checked(f'skipped, because "{missing[0]}" did not pass')
        return
    try:
        yield from _on_a_thread(check, seconds)
    except DeadlineExceeded:
        yield failed(f"the check did not finish within {seconds:g} s", "Find out what is slow, or raise --timeout")
    except (Refused, DownstreamStatus) as answer:
        text = f'the downstream answered "{answer.fact}"' if answer.fact else "the downstream refused without a reason"
        yield failed(text, "Check the downstream's settings and its rights in storage; read its log with --verbose")
    except PluginError as fault:
        yield failed(f"{fault.fact} ({fault.says})", fault.remedy or "Read the log with --verbose")


def _on_a_thread(check: Check, seconds: float) -> Iterator[CheckResult]:
    """Run `check` on a thread. Leave the thread behind if it blocks beyond its deadline, for example on a pipe."""
    results: list[CheckResult] = []
    ended: list[BaseException | None] = []

    def run() -> None:
        fault = None
        try:
            results.extend(check.run(Call(Operation.GET_CAPABILITIES, time.monotonic() + seconds)))
        except BaseException as raised:  # noqa: BLE001 - raised again on the waiting thread
            fault = raised
        ended.append(fault)

    thread = threading.Thread(target=run, name=f"sealgate-doctor {check.name}", daemon=True)
    thread.start()
    thread.join(seconds + _GRACE)
    outcome = ended[0] if ended else DeadlineExceeded("the check did not end")
    yield from tuple(results)
    if outcome is not None:
        raise outcome

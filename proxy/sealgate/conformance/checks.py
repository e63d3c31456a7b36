"""What a check of Argo's contract is, and how they run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sealgate.conformance.client import CallFailed
from sealgate.conformance.workspace import Workspace


class ContractState(StrEnum):
    """How a check ended, in the words of the report."""

    PASS = "pass"  # noqa: S105 - a word of the report, not a password
    FAIL = "FAIL"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"


class Violation(Exception):
    """The plugin does not keep a fact of the contract. The text says what it did."""


class NotApplicable(Exception):
    """The fact does not apply to this plugin. The text says why."""


class NotChecked(Exception):
    """The check could not be made. The text says why."""


@dataclass(frozen=True, slots=True)
class ContractCheck:
    """One check."""

    name: str
    facts: tuple[int, ...]
    """The numbers of the facts in docs/argo-contract.md that it checks."""
    asks: str
    """What a plugin must do, as a sentence without a full stop."""
    argo: str
    """What Argo does to its user if the plugin does not, as a sentence without a full stop."""
    run: Callable[[Workspace], str]
    """Makes the check, and returns what it found. It raises `Violation`, `NotApplicable`, `NotChecked`, or
    `CallFailed` for a call that should have succeeded."""
    needs: tuple[str, ...] = ()
    """Names of checks without which this one shows nothing."""
    asks_process: bool = False
    """Whether it needs a plugin that this program has started."""


@dataclass(frozen=True, slots=True)
class ContractResult:
    """One line of the report."""

    check: ContractCheck
    state: ContractState
    found: str
    """What was found, as a sentence without a full stop. It can contain texts of the plugin."""


def run_checks(checks: Iterable[ContractCheck], workspace: Workspace) -> Iterator[ContractResult]:
    """Run `checks` in order, and yield each result as soon as it is known."""
    passed: set[str] = set()
    for check in checks:
        result = _result(check, passed, workspace)
        if result.state is ContractState.PASS:
            passed.add(check.name)
        yield result


def _result(check: ContractCheck, passed: set[str], workspace: Workspace) -> ContractResult:
    state, found = ContractState.NOT_CHECKED, ""
    missing = [need for need in check.needs if need not in passed]
    if check.asks_process and workspace.program is None:
        found = "needs the plugin's command after --"
    elif missing:
        found = f"needs {missing[0]}, which did not pass"
    else:
        state, found = _made(check, workspace)
    return ContractResult(check, state, found)


def _made(check: ContractCheck, workspace: Workspace) -> tuple[ContractState, str]:
    try:
        return ContractState.PASS, check.run(workspace)
    except (Violation, CallFailed) as fault:
        return ContractState.FAIL, str(fault)
    except NotApplicable as reason:
        return ContractState.NOT_APPLICABLE, str(reason)
    except NotChecked as reason:
        return ContractState.NOT_CHECKED, str(reason)
    except OSError as error:  # what a Load left cannot be read, for example, because it belongs to another user
        return ContractState.FAIL, f"a local file cannot be used: {error.strerror or error}"


def with_needs(checks: Sequence[ContractCheck], names: Iterable[str]) -> list[ContractCheck]:
    """Return the checks with the given names, and those without which they show nothing, in the order of `checks`."""
    by_name = {check.name: check for check in checks}
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(by_name[name].needs)
    return [check for check in checks if check.name in wanted]

"""What the report counts: accesses over time, by operation, by account, and the denials among them."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from sealgate.audit.reading.query import UNFINISHED, Row
from sealgate.call import Operation

OTHERS = "all others"
"""The row for names beyond those that are counted one by one."""
_COLUMNS = 48
_MOST_NAMES = 4096
"""Different names, accounts, kinds of denials, or buckets of time that are counted one by one."""
_MOST_DENIALS = 100
_LONGEST_NAME = 120
_OPERATIONS = {operation.value for operation in Operation}


class Outcome(StrEnum):
    """How an access ended."""

    ALLOWED = "allowed"
    FAILED = "failed"
    DENIED = "denied"
    UNFINISHED = "unfinished"


ACTIONS: dict[str, str] = {
    Operation.LOAD: "reads",
    Operation.OPEN_STREAM: "reads",
    Operation.SAVE: "writes",
    Operation.SAVE_STREAM: "writes",
    Operation.DELETE: "deletions",
    Operation.LIST_OBJECTS: "listings",
    Operation.IS_DIRECTORY: "listings",
}
"""How the report names the operations that succeeded."""


class Account(NamedTuple):
    """Who acted, as the records claim it: pods act as a service account of their namespace."""

    namespace: str
    service_account: str
    attested: bool
    """Whether the key service proved the two names, as the records claim."""

    @property
    def name(self) -> str:
        """Both names on one line."""
        if self.service_account:
            return f"{self.namespace}/{self.service_account}"
        return self.namespace or "no identity recorded"


class DenialKind(NamedTuple):
    """Denials that differ in nothing but their time, their workflow and their key."""

    account: str
    operation: str
    rule: str
    """Policy and rule."""
    code: str


@dataclass(slots=True)
class AccountFigures:
    """The accesses of one account."""

    counts: Counter[str] = field(default_factory=Counter)
    """Accesses that succeeded by what they did (a value of `ACTIONS`), and all others by their outcome."""
    plaintext_bytes: int = 0
    """Bytes that reads delivered, also those that failed later."""
    first: str = ""
    """The time of the earliest access, as in a row."""
    last: str = ""
    """The time of the latest access, as in a row."""

    def add(self, row: Row) -> None:
        """Count one access."""
        outcome, action = outcome_of(row), action_of(row)
        self.counts[action if outcome is Outcome.ALLOWED else outcome] += 1
        self.plaintext_bytes += row.plaintext_bytes if action == "reads" else 0
        self.first = min(self.first or row.time, row.time)
        self.last = max(self.last, row.time)


@dataclass(slots=True)
class Figures:
    """Counts accesses. The memory that this takes does not grow with their number."""

    accesses: int = 0
    plaintext_bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    operations: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    accounts: dict[Account, AccountFigures] = field(default_factory=dict)
    denials: Counter[DenialKind] = field(default_factory=Counter)
    latest_denials: deque[Row] = field(default_factory=lambda: deque(maxlen=_MOST_DENIALS))
    """The last denials in the order of the trail."""
    keys: Counter[str] = field(default_factory=Counter)
    workflows: Counter[str] = field(default_factory=Counter)
    first: int | None = None
    """The time of the earliest access, in seconds since 1970."""
    last: int = 0
    """The time of the latest access, in seconds since 1970."""
    _width: int = 60
    """Seconds of a bucket."""
    _times: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, row: Row) -> None:
        """Count one access."""
        outcome = outcome_of(row)
        self.accesses += 1
        self.plaintext_bytes += row.plaintext_bytes
        self.outcomes[outcome] += 1
        self.operations[row.operation if row.operation in _OPERATIONS else OTHERS][outcome] += 1
        count_account(self.accounts, row)
        if outcome is Outcome.DENIED:
            self._add_denial(row)
        if row.key_name:
            _count(self.keys, f"{row.key_name} version {row.key_version}")
        _count(self.workflows, row.workflow or "no workflow")
        seconds = int(datetime.fromisoformat(row.time).timestamp())
        self.first = seconds if self.first is None else min(self.first, seconds)
        self.last = max(self.last, seconds)
        self._times[seconds // self._width][outcome] += 1
        while len(self._times) > _MOST_NAMES:
            self._widen(self._width * 2)

    def _add_denial(self, row: Row) -> None:
        kind = DenialKind(account_of(row).name, row.operation[:_LONGEST_NAME], rule_of(row), row.code[:_LONGEST_NAME])
        if kind not in self.denials and len(self.denials) >= _MOST_NAMES:
            kind = DenialKind(OTHERS, "", "", "")
        self.denials[kind] += 1
        self.latest_denials.append(row)

    def over_time(self) -> list[tuple[str, Mapping[str, int]]]:
        """Return label and counts of at most `_COLUMNS` buckets of equal width, without gaps."""
        if self.first is None:
            return []
        while (self.last // self._width) - (self.first // self._width) >= _COLUMNS:
            self._widen(self._width * 2)
        form = "%Y-%m-%d %H:%M" if self._width < 86_400 else "%Y-%m-%d"  # noqa: PLR2004 - the seconds of a day
        return [
            (datetime.fromtimestamp(bucket * self._width, UTC).strftime(form), self._times.get(bucket, Counter()))
            for bucket in range(self.first // self._width, self.last // self._width + 1)
        ]

    def _widen(self, width: int) -> None:
        merged: defaultdict[int, Counter[str]] = defaultdict(Counter)
        for bucket, counts in self._times.items():
            merged[bucket * self._width // width].update(counts)
        self._width, self._times = width, merged


def outcome_of(row: Row) -> Outcome:
    """Return how an access ended."""
    if row.decision == "denied":
        return Outcome.DENIED
    if row.status == UNFINISHED:
        return Outcome.UNFINISHED
    return Outcome.ALLOWED if row.status == "OK" else Outcome.FAILED


def action_of(row: Row) -> str:
    """Return what an access did or would have done: a value of `ACTIONS`, or `OTHERS` for an unknown operation."""
    return ACTIONS.get(row.operation, OTHERS)


def account_of(row: Row) -> Account:
    """Return who made an access."""
    return Account(row.namespace[:_LONGEST_NAME], row.service_account[:_LONGEST_NAME], row.attested)


def count_account(accounts: dict[Account, AccountFigures], row: Row) -> None:
    """Count one access for its account. Beyond `_MOST_NAMES` accounts, further ones are counted together."""
    account = account_of(row)
    if account not in accounts and len(accounts) >= _MOST_NAMES:
        account = Account(OTHERS, "", attested=False)
    accounts.setdefault(account, AccountFigures()).add(row)


def rule_of(row: Row) -> str:
    """Return policy and rule that decided, on one line."""
    return "/".join(part for part in (row.policy, row.rule) if part)[:_LONGEST_NAME] or "no rule"


def _count(counts: Counter[str], name: str) -> None:
    """Count a name from outside. Beyond `_MOST_NAMES` different names, further ones are counted together."""
    name = name[:_LONGEST_NAME]
    counts[name if name in counts or len(counts) < _MOST_NAMES else OTHERS] += 1

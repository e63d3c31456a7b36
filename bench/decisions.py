"""The time of a decision, of loading a policy, and of comparing two policies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from bench.measure import Row, Target, medians
from bench.setting import Setting
from sealgate.documents.reader import read
from sealgate.policy import globs
from sealgate.policy.canonical_keys import LONGEST_KEY
from sealgate.policy.compare import differences
from sealgate.policy.decision import Request
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import DocumentSource, PolicySet, loaded
from sealgate.policy.rules import Process

_HEAD = "apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicy\nmetadata: {name: bench}\nspec:\n  rules:\n"
_RULE = """\
    - name: rule-{number}
      effect: {effect}
      match: {{operations: [read, write], keys: [{keys}]}}
"""
_TEAM = """\
    - name: team-{number}
      effect: allow
      match: {{operations: [read, write], keys: ["team-{number}/**"], identity: {{namespaces: [team-{number}]}}}}
      limits: {{maxBytes: {size}GiB}}
"""
_NOW = 1_796_000_000
"""In Unix seconds. No rule here expires."""
_WORST = (
    "/".join(["*?a"] * 250),
    "*a" * 255 + "*b",
    "**/" * 300 + "*a*b*c",
    "?" * LONGEST_KEY,
)
_KEYS = ("a" * LONGEST_KEY, "/".join("a" * (LONGEST_KEY // 2)), "/".join(["aa"] * (LONGEST_KEY // 3)))
_AT_ONCE = 200


def decisions(setting: Setting) -> Iterator[Row]:
    """Measure the policy engine. Each sample is the mean of many decisions."""
    policy = ProcessPolicy(_loaded(_HEAD + "".join(map(_rule, range(100)))), Process({"namespace": "team-8"}))
    request = Request("Load", "team-8/some/model.tgz")
    yield _row(setting, "a decision with 100 rules", lambda: policy.decide(request), _AT_ONCE, 1e6, "us", 100)
    denying = ProcessPolicy(_loaded(_HEAD + "".join(map(_denying_rule, range(100)))), Process({"namespace": "team-8"}))
    name = "a decision with 100 rules, all of which match"
    yield _row(setting, name, lambda: denying.decide(request), _AT_ONCE, 1e6, "us", 100)

    # Not `globs.compiled`, which compares the ends of a key first.
    automata = [globs.Automaton(globs.tokens(pattern)) for pattern in _WORST]
    worst = _slowest(automata)
    yield _row(setting, "the worst pattern on the longest key", worst, 5, 1e6, "us", 1000)

    text = _HEAD + "".join(map(_rule, range(165)))
    yield _row(setting, "loading a policy of 500 lines", lambda: _loaded(text), 1, 1e3, "ms", 20)
    old, new = (_loaded(_HEAD + "".join(_team(number, changed) for number in range(200))) for changed in (-1, 100))
    yield _row(setting, "comparing two policies of 200 rules", lambda: differences(old, new, _NOW), 1, 1, "s", 5)


def policy_for(prefix: str, rules: int) -> str:
    """Return the text of a policy with so many rules, the last of which allows everything beneath `prefix`."""
    last = _RULE.format(number=rules - 1, effect="allow", keys=f'"{prefix}/**"')
    return _HEAD + "".join(map(_rule, range(rules - 1))) + last


def _rule(number: int) -> str:
    """Return a rule; every other one denies and has patterns that begin with `**`, so that any key may match."""
    if number % 2:
        return _RULE.format(number=number, effect="deny", keys=f'"**/*.kind-{number}", "**/.place-{number}/**"')
    return _RULE.format(number=number, effect="allow", keys=f'"team-{number}/**", "shared-{number}/*/data/*.parquet"')


def _team(number: int, changed: int) -> str:
    """Return the rule of one team, with another limit if it is the team `changed`."""
    return _TEAM.format(number=number, size=30 if number == changed else number % 20 + 1)


def _denying_rule(number: int) -> str:
    """Return a deny rule that matches the request."""
    return _RULE.format(number=number, effect="deny", keys='"**/*.tgz"')


def _slowest(automata: list[globs.Automaton]) -> Callable[[], object]:
    found = [(_seconds(partial(automaton.accepts, key), 5), automaton, key) for automaton in automata for key in _KEYS]
    _, automaton, key = max(found, key=lambda each: each[0])
    return partial(automaton.accepts, key)


def _loaded(text: str) -> PolicySet:
    return loaded([DocumentSource("bench", read(text))])


def _seconds(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def _samples(setting: Setting, work: Callable[[], object], times: int, factor: float) -> list[float]:
    return [_seconds(work, times) * factor for _ in range(max(setting.runs, 3))]


def _row(
    setting: Setting, name: str, work: Callable[[], object], times: int, factor: float, unit: str, limit: float
) -> Row:
    samples = _samples(setting, work, times, factor)
    figure = medians({"ours": samples})["ours"]
    return Row(name, "a bound", Target(limit, unit), figure, limit, unit, figure, "a busy machine", {"ours": samples})

"""Conditions in CEL (`when:`). The library is loaded only if a rule has a condition.

Types are checked when a policy is loaded. The library limits the work of one evaluation, and its regular expressions
run in linear time. Without the extra `cel`, a policy with a condition is not valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from sealgate.documents.validate import did_you_mean
from sealgate.policy.canonical_keys import normal_form
from sealgate.policy.templates import IDENTITY

Condition = Callable[[Mapping[str, Any]], bool]
_NAMED = re.compile(
    r"""(?://[^\n]*|(?P<literal>[rR]?(?:\"{3}.*?\"{3}|'{3}.*?'{3})|[rR]"[^"]*"|[rR]'[^']*'"""
    r"""|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\bhas\s*\([^)]*\))"""
    r"""|\b(?P<map>identity|params)\s*(?:\.\s*(?P<field>\w+)(?!\w)(?!\s*\()|\[\s*(?P<quote>['"])(?P<index>\w*)(?P=quote)\s*\])""",
    re.DOTALL,
)
"""Each string, and each access to a field of `identity` or `params` by a literal name. Comments and `has(…)` are
skipped."""
_WHERE = re.compile(r"ERROR: <input>:\d+:(\d+): ([^\n]*)")


class InvalidCondition(Exception):
    """The condition cannot be compiled. Its text says why."""


class EvaluationFailed(Exception):
    """The evaluation of a condition ended in an error."""


@lru_cache(maxsize=1)
def _environment() -> Any:
    try:
        from cel_expr_python import cel  # type: ignore[import-untyped]  # it has no types  # noqa: PLC0415 - an extra that few need
    except ImportError:
        raise InvalidCondition("`when` needs the extra cel: install sealgate[cel]") from None
    text, words = cel.Type.STRING, cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
    return cel.NewEnv(
        variables={
            "op": text,
            "key": text,
            "segments": cel.Type.List(text),
            "identity": words,
            "attested": cel.Type.BOOL,
            "plugin": text,
            "artifact": text,
            "path": text,
            "params": words,
        }
    )


def compiled(text: str, params: Iterable[str] | None = None) -> Condition:
    """Compile a condition.

    Args:
        text: the CEL expression.
        params: the names that `params.NAME` may use; None if they were already checked.

    Raises:
        InvalidCondition: `text` does not parse, uses an unknown name, does not return a bool, or the extra `cel` is
            missing.
    """
    known = {"identity": IDENTITY, "params": None if params is None else tuple(params)}
    for found in _NAMED.finditer(text):
        names, name = known.get(found["map"] or ""), found["field"] or found["index"]
        if names is not None and name not in names:
            raise InvalidCondition(f"unknown variable {found['map']}.{name}{did_you_mean(name, names)}")
        if (literal := found["literal"]) and literal != normal_form(literal):
            fact = "`when` sees keys in their normal form"
            raise InvalidCondition(f"{fact}: write {normal_form(literal)} instead of {ascii(literal)[1:-1]}")
    environment = _environment()
    try:
        text.encode()  # the library must not see text that is not valid Unicode
        program = environment.compile(text)
    except (RuntimeError, ValueError) as error:
        place = _WHERE.search(str(error))
        raise InvalidCondition(
            f"`when`, column {place[1]}: {place[2][:160]}" if place else "`when` is not valid CEL"
        ) from None
    if program.return_type().name() not in {"BOOL", "bool"}:
        raise InvalidCondition(f"`when` must return a bool, but returns {program.return_type().name()}")

    def condition(facts: Mapping[str, Any]) -> bool:
        try:
            value = program.eval(data=dict(facts)).value()
        except (RuntimeError, ValueError):
            raise EvaluationFailed from None
        if not isinstance(value, bool):
            raise EvaluationFailed
        return value

    return condition

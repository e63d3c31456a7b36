"""Conditions in CEL (`when:`), for what fields cannot say. Loaded only where a rule has one.

Types are checked when a policy is loaded; the library bounds the work of an evaluation, and its regular expressions
are of the linear kind. Without the extra `cel` a policy with a condition is invalid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from sealgate.documents.validate import meant
from sealgate.policy.templates import IDENTITY

Condition = Callable[[Mapping[str, Any]], bool]
_NAMED = re.compile(
    r"""(?P<skipped>//[^\n]*|[rR]?(?:\"{3}.*?\"{3}|'{3}.*?'{3})|[rR]"[^"]*"|[rR]'[^']*'"""
    r"""|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\bhas\s*\([^)]*\))"""
    r"""|\b(?P<map>identity|params)\s*(?:\.\s*(?P<field>\w+)(?!\w)(?!\s*\()|\[\s*(?P<quote>['"])(?P<index>\w*)(?P=quote)\s*\])""",
    re.DOTALL,
)
"""What is asked of a map by a name that stands there. Comments and texts ask nothing, and `has` asks whether it is."""
_WHERE = re.compile(r"ERROR: <input>:\d+:(\d+): ([^\n]*)")
FACTS = ("op", "key", "segments", "identity", "attested", "plugin", "artifact", "path", "params")
"""What a condition may speak of: what is known before a byte has moved."""


class Unusable(Exception):
    """The condition cannot be compiled. It says why."""


class NoAnswer(Exception):
    """The condition came to an error instead of an answer."""


@lru_cache(maxsize=1)
def _environment() -> Any:
    try:
        from cel_expr_python import cel  # type: ignore[import-untyped]  # it has none  # noqa: PLC0415 - an extra that few need
    except ImportError:
        raise Unusable("`when` needs the extra cel: install sealgate[cel]") from None
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
    """The condition that `text` is.

    Args:
        text: in CEL.
        params: the names that `params` holds; None: not known here, and not looked at.

    Raises:
        Unusable: it does not parse, names what there is not, does not come to true or false, or the extra is missing.
    """
    known = {"identity": IDENTITY, "params": None if params is None else tuple(params)}
    for found in _NAMED.finditer(text):
        names, name = known.get(found["map"] or ""), found["field"] or found["index"]
        if names is not None and name not in names:
            raise Unusable(f"there is no {found['map']}.{name}{meant(name, names)}")
    environment = _environment()
    try:
        text.encode()  # the library is not asked about what is no Unicode
        program = environment.compile(text)
    except (RuntimeError, ValueError) as error:
        place = _WHERE.search(str(error))
        raise Unusable(f"`when`, column {place[1]}: {place[2][:160]}" if place else "`when` is no CEL") from None
    if program.return_type().name() not in {"BOOL", "bool"}:
        raise Unusable(f"`when` must come to true or false, and comes to {program.return_type().name()}")

    def condition(facts: Mapping[str, Any]) -> bool:
        try:
            value = program.eval(data=dict(facts)).value()
        except (RuntimeError, ValueError):
            raise NoAnswer from None
        if not isinstance(value, bool):
            raise NoAnswer
        return value

    return condition

"""Finds the measures of a request at which policies can decide differently.

A rule limits a measure from above (`maxBytes`) or from below (`minBytes`, `minAge`). Of all measures within the limits
of one rule, those at the limits are the most that it grants. So a policy that allows all of these allows every other
measure that the rule allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sealgate.policy.decision import NOTHING_YET, READS, WRITES, Measures
from sealgate.policy.engine import BASELINE_LISTING, Matched
from sealgate.policy.schema import Limits

_NO_LIMITS = Limits()
_SEVERAL = 2


def measures_of(matched: Sequence[Matched]) -> Iterator[Measures]:
    """Yield the measures at which the policies of `matched` can differ on one request.

    Args:
        matched: the rules of each policy that match the request.
    """
    operation = matched[0].request.operation
    limits = [limit for each in matched for limit in _limits(each)]
    if operation == "Delete":
        for age in _ages(matched):
            for files in (*_tops("max_files", matched, limits), None):
                yield Measures(age=age, files=files)
    elif operation == "ListObjects":
        yield from (Measures(listing=listing) for listing in (0, *_tops("max_listing", matched, limits)))
    elif operation in READS | WRITES:
        sizes = dict.fromkeys(size for each in matched for size in _sizes(each, limits))
        for size in sizes:
            for known in (True, False):
                yield (
                    Measures(*size, sealed=known, complete=True)
                    if operation in READS
                    else Measures(*size, exists=not known, complete=True)
                )
    else:
        yield NOTHING_YET


def _limits(matched: Matched) -> list[Limits]:
    """Return the limits of all rules that match."""
    requires = [ready.rule.limits for ready, _ in matched.requires]
    return [*requires, *(ready.rule.limits for ready in matched.allows)]


def _grants(matched: Matched) -> Iterator[list[Limits]]:
    """Yield the limits that hold together: those of each allow rule, with those of all require rules."""
    requires = [ready.rule.limits for ready, _ in matched.requires]
    for ready in matched.allows:
        yield [ready.rule.limits, *requires]
    if not matched.allows:
        yield requires


def _known(name: str, limits: Iterable[Limits]) -> list[int]:
    return [int(value) for limit in limits if (value := getattr(limit, name)) is not None]


def _tops(name: str, matched: Sequence[Matched], limits: Sequence[Limits]) -> list[int]:
    """Return the values of one measure at the limit of each grant, and one above all limits; empty without limits."""
    known = _known(name, limits)
    if name == "max_listing" and any(each.policy.is_baseline for each in matched):
        known.append(BASELINE_LISTING)
    return sorted({*known, max(known) + 1}) if known else []


def _ages(matched: Sequence[Matched]) -> list[int | None]:
    least = {
        int(age) for each in matched for ready, _ in each.requires if (age := ready.rule.require.min_age) is not None
    }
    return [None, *sorted({0, *least, *(age - 1 for age in least if age)})] if least else [None]


def _sizes(matched: Matched, limits: Sequence[Limits]) -> Iterator[tuple[int | None, int | None, int | None]]:
    """Yield bytes, total and files at the limits of each grant of one policy."""
    if all(limit == _NO_LIMITS for limit in limits):
        yield None, None, None
        return
    above = {
        name: max(_known(name, limits), default=0) + 1
        for name in ("max_bytes", "max_total_bytes", "max_files", "min_bytes")
    }
    counts = bool(_known("max_total_bytes", limits) or _known("max_files", limits))
    highest = max(above["max_bytes"], above["max_total_bytes"], above["min_bytes"])
    thresholds = {at + by for name in ("min_bytes", "max_bytes") for at in _known(name, limits) for by in (-1, 0, 1)}
    for grant in _grants(matched):
        most = min(_known("max_bytes", grant), default=highest)
        total = min(_known("max_total_bytes", grant), default=highest)
        files = min(_known("max_files", grant), default=max(above["max_files"], _SEVERAL) if counts else 1)
        between = thresholds if _known("min_bytes", limits) else set()
        for size in sorted({0, min(most, total), *(at for at in between if 0 <= at <= min(most, total))}, reverse=True):
            yield (size, total, files) if files > 1 else (size, size, files)

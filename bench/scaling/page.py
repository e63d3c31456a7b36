"""The tables of docs/scaling.md. Each stands between two comments of the page, which name it."""

from __future__ import annotations

from collections.abc import Sequence

from bench.blocks import filled, table
from bench.scaling.key_service import REQUESTS_OF_A_CLIENT, Burst
from bench.scaling.measured import Measured
from bench.scaling.model import Cost, Demand, Limits, Load, UnitCosts, breaks_at, demands, first_to_break

SMALL, LARGE = 10_000, 1_000_000
"""Pods an hour."""
_UNITS = {
    "start": "a process, before its first call",
    "session": "the first access of a process, and its end",
    "load": "Load",
    "save": "Save",
    "delete": "Delete",
    "read": "OpenStream",
    "read_again": "OpenStream, data key in the cache",
}
_COUNTS = {
    "logins": "logins",
    "signatures": "signatures",
    "data_keys": "data keys made",
    "unwraps": "data keys opened",
    "key_service_log": "bytes in the key service's log",
    "trail": "bytes in the audit trail",
    "store_reads": "reads of the store",
    "store_writes": "writes of the store",
    "store_listings": "listings",
}


def rendered(page: str, measured: Measured) -> str:
    """Return `page` with each table as `measured` has it.

    Raises:
        KeyError: the page names a table that there is not.
    """
    return filled(page, _tables(measured))


def planned(load: Load, limits: Limits, measured: Measured) -> str:
    """Return what `load` asks of each resource, as a table."""
    found = demands(load, measured.costs, measured.milliseconds, limits)
    rows = [
        (each.name, f"{_number(each.amount)} {each.unit}", _limit(each), _share(each), each.setting)
        for each in _in_order(found)
    ]
    return table(("resource", "needed", "limit", "share", "what moves it"), rows)


def _tables(measured: Measured) -> dict[str, str]:
    return {
        "machine": _machine(measured),
        "costs": _costs(measured.costs),
        "phases": _phases(measured),
        "pod": _pod(measured),
        "rates": _rates(measured),
        "breaks": _breaks(measured),
        "settings": _settings(measured),
        "bursts": _bursts(measured),
        "overload": _overload(measured),
        "streams": _streams(measured),
    }


def _machine(measured: Measured) -> str:
    facts, (before, after) = measured.machine, measured.machine.load
    return (
        f"{facts.processors} processors ({facts.model}), Python {facts.python}, OpenBao {facts.server} with TLS and an "
        f"audit log; load average {before:.0f} before and {after:.0f} after the run."
    )


def _costs(costs: UnitCosts) -> str:
    rows = [(shown, *_counts(getattr(costs, name))) for name, shown in _UNITS.items()]
    return table(("", *_COUNTS.values()), rows)


def _counts(cost: Cost) -> list[str]:
    return [_number(getattr(cost, name)) for name in _COUNTS]


def _phases(measured: Measured) -> str:
    rows = [
        (shown, _number(getattr(measured.costs, name).trail), _number(getattr(measured.costs_of_outcomes, name).trail))
        for name, shown in _UNITS.items()
        if getattr(measured.costs, name).trail
    ]
    return table(("bytes in the audit trail", "`phases: both`", "`phases: outcome`"), rows)


def _pod(measured: Measured) -> str:
    rows = [("counted", *_counts(measured.counted)), ("computed", *_counts(measured.computed))]
    return table((f"{measured.pod.loads} Loads, {measured.pod.saves} Saves", *_COUNTS.values()), rows)


def _rates(measured: Measured) -> str:
    rows = [
        (name, f"{rate.processor_ms:.2f} ms", f"{1000 / rate.processor_ms:,.0f}", f"{rate.a_second:,.0f}")
        for name, rate in measured.rates.items()
    ]
    heads = (
        "request",
        "processor time of the key service",
        "a second and processor",
        "seen a second, beside its clients",
    )
    return table(heads, rows)


def _breaks(measured: Measured) -> str:
    limits = Limits()
    small, large = (demands(Load(pods), measured.costs, measured.milliseconds, limits) for pods in (SMALL, LARGE))
    by_name = {each.name: each for each in small}
    rows = []
    for each in _in_order(large):
        first = by_name[each.name]
        at = breaks_at(each, Load(LARGE))
        rows.append(
            (
                each.name,
                _with_share(first),
                _with_share(each),
                _limit(each),
                "-" if at is None else _pods(at),
            )
        )
    return table(("resource", f"{SMALL:,} pods an hour", f"{LARGE:,}", "limit", "reached at pods an hour"), rows)


def _settings(measured: Measured) -> str:
    found = demands(Load(LARGE), measured.costs, measured.milliseconds, Limits())
    return table(("resource", "what moves it"), [(each.name, each.setting) for each in _in_order(found)])


def _bursts(measured: Measured) -> str:
    rows = [
        (f"{each.clients} clients", "all", f"{each.seconds:.1f} s", _ends(each), f"{each.requests:,}")
        for each in measured.bursts
    ]
    real = measured.processes
    asked = sum(real.requests.values())
    rows.append(
        (
            f"{real.processes} processes of `sealgate serve`",
            str(real.at_once),
            f"{real.seconds:.0f} s",
            f"{real.succeeded} of {real.processes}",
            f"{asked:,}",
        )
    )
    return table(("", "at once", "until the last one is done", "succeeded", "requests to the key service"), rows)


def _overload(measured: Measured) -> str:
    def row(what: str, each: Burst) -> tuple[str, ...]:
        needed = each.clients * REQUESTS_OF_A_CLIENT
        refused = "; ".join(f"{count} x “{fault}”" for fault, count in sorted(each.refused.items())) or "-"
        return what, _ends(each), f"{each.requests} for {needed}", f"{each.seconds:.1f} s", refused

    rows = [row(f"timeout {each.patience:g} s", each) for each in measured.overloaded]
    rows.append(
        row(
            f"a quota of {measured.quota:g} requests a second, timeout {measured.limited.patience:g} s",
            measured.limited,
        )
    )
    return table(("", "succeeded", "requests carried out", "until the last one has its answer", "the others got"), rows)


def _streams(measured: Measured) -> str:
    rows = [(f"{mib:,} MiB", str(streams)) for mib, streams in measured.streams.items()]
    return table(("memory limit of the container", "large downloads at once"), rows)


def _in_order(found: Sequence[Demand]) -> list[Demand]:
    """Return the demands with a limit, the nearest to it first, and then the others."""
    return [*first_to_break(found), *(each for each in found if each.share is None)]


def _ends(burst: Burst) -> str:
    return f"{burst.succeeded} of {burst.clients}"


def _with_share(demand: Demand) -> str:
    share = "" if demand.share is None else f" ({_share(demand)})"
    return f"{_number(demand.amount)} {demand.unit}{share}"


def _limit(demand: Demand) -> str:
    return "-" if demand.limit is None else _number(demand.limit)


def _share(demand: Demand) -> str:
    return "-" if demand.share is None else f"{_number(100 * demand.share)} %"


def _pods(number: float) -> str:
    """Return the number with two digits that count."""
    size = 10 ** max(0, len(f"{number:.0f}") - 2)
    return f"{round(number / size) * size:,}"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"

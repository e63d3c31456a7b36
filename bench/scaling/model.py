"""The arithmetic of docs/scaling.md: what pods cost in an hour, from the counted cost of each call.

Nothing here is measured. `counts` counts what a call costs, `key_service` measures what the key service can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

_SECONDS = 3600
"""In an hour."""
_GCM_LIMIT = 2**32
"""Data keys that one version of a key may wrap: NIST SP 800-38D, 8.3, for random nonces."""
_MOVES = 3
"""Reads and writes of `sealgate rewrap` for an object that it moves: it reads twice and writes once."""
GIGABYTE = 10**9


@dataclass(frozen=True)
class Cost:
    """What a call, a process or a pod costs others. The first four are requests to the key service."""

    logins: float = 0
    signatures: float = 0
    data_keys: float = 0
    """Made for a Save."""
    unwraps: float = 0
    """For a Load or an OpenStream."""
    key_service_log: float = 0
    """Bytes in the audit log of the key service."""
    trail: float = 0
    """Bytes in Sealgate's audit trail."""
    store_reads: float = 0
    """GET and HEAD."""
    store_writes: float = 0
    """PUT, POST and DELETE."""
    store_listings: float = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __sub__(self, other: Cost) -> Cost:
        return self + other * -1

    def __mul__(self, times: float) -> Cost:
        return Cost(*(getattr(self, each.name) * times for each in fields(self)))

    @property
    def keys(self) -> float:
        """All requests to the key service."""
        return self.logins + self.signatures + self.data_keys + self.unwraps


@dataclass(frozen=True)
class UnitCosts:
    """What each part of a pod's work costs, with artifacts that are single small files."""

    start: Cost
    """A process that carries out no call."""
    session: Cost
    """The first access of a process, beside what that access costs, and its orderly end."""
    load: Cost
    save: Cost
    delete: Cost
    read: Cost
    """An OpenStream whose data key is not in the cache."""
    read_again: Cost
    """An OpenStream whose data key is in the cache."""


@dataclass(frozen=True)
class Pod:
    """What a pod does."""

    loads: int = 2
    saves: int = 2
    processes: int = 2
    """Processes of Sealgate that have calls: an init container loads and a sidecar saves, or one sidecar does both."""


def cost_of_pod(costs: UnitCosts, pod: Pod) -> Cost:
    """Return what one pod costs."""
    return (costs.start + costs.session) * pod.processes + costs.load * pod.loads + costs.save * pod.saves


def processor_time(cost: Cost, milliseconds: Mapping[str, float]) -> float:
    """Return the seconds of one processor that the key service needs.

    Args:
        cost: the requests.
        milliseconds: the processor time of a request, by the name of its field in `Cost`.
    """
    return sum(getattr(cost, name) * each for name, each in milliseconds.items()) / 1000


@dataclass(frozen=True)
class Limits:
    """What an installation offers. Except for `streams` and `rewrap_rate`, these are examples: use your own."""

    processors: float = 2
    """Of the key service."""
    trail_gigabytes: float = 100
    """That the collector of logs takes in a day, for each of the two logs."""
    store_reads: float = 5500
    store_writes: float = 3500
    """Requests a second of one prefix on Amazon S3, as its documentation says."""
    streams: float = 20
    """Large streams that the plugin beside Argo's server serves at once, with the memory that the chart gives it."""
    rewrap_rate: float = 100
    """The default of `sealgate rewrap --rate`."""


@dataclass(frozen=True)
class Load:
    """How many pods there are."""

    pods: float
    """In an hour."""
    pod: Pod = Pod()
    peak: float = 5
    """How many times the mean the busiest second is."""
    reads: float = 0.01
    """Downloads from Argo's server for each pod."""
    read_seconds: float = 10
    """How long one of them takes."""
    token_hours: float = 1
    """How long a token is valid (`token_ttl`)."""


@dataclass(frozen=True)
class Demand:
    """What pods ask of one resource, and what it offers."""

    name: str
    amount: float
    unit: str
    limit: float | None
    """In the same unit; None where nothing is refused, so that only the amount counts."""
    setting: str
    """What moves it."""

    @property
    def share(self) -> float | None:
        """The part of the limit that is used: it breaks above 1."""
        return None if self.limit is None else self.amount / self.limit


def demands(load: Load, costs: UnitCosts, milliseconds: Mapping[str, float], limits: Limits) -> list[Demand]:
    """Return what `load` asks of each resource. Rates are those of the busiest second, volumes those of a day."""
    pod = cost_of_pod(costs, load.pod)
    a_second = load.pods / _SECONDS
    busiest, day = pod * (a_second * load.peak), pod * (load.pods * 24)
    listings_and_reads = busiest.store_reads + busiest.store_listings
    open_streams = a_second * load.peak * load.reads * load.read_seconds
    return [
        Demand(
            "processors of the key service",
            processor_time(busiest, milliseconds),
            "processors",
            limits.processors,
            "one process a pod (`argo.layout: initless`); fewer, larger artifacts: a directory is one data key",
        ),
        Demand(
            "audit log of the key service",
            day.key_service_log / GIGABYTE,
            "GB a day",
            limits.trail_gigabytes,
            "the same; compression in the collector",
        ),
        Demand(
            "audit trail",
            day.trail / GIGABYTE,
            "GB a day",
            limits.trail_gigabytes,
            "`audit.phases: outcome`; compression in the collector",
        ),
        Demand(
            "reads and listings of the store",
            listings_and_reads,
            "a second",
            limits.store_reads,
            "several prefixes or buckets: Argo's `keyFormat`, a repository for each team",
        ),
        Demand(
            "writes of the store",
            busiest.store_writes,
            "a second",
            limits.store_writes,
            "the same; one archive in place of many files",
        ),
        Demand(
            "downloads from Argo's server at once",
            open_streams,
            "large streams",
            limits.streams,
            "`argo.server.resources.limits.memory`; more replicas",
        ),
        Demand(
            "rotation of what is saved",
            a_second * load.pod.saves * _MOVES,
            "reads and writes a second",
            limits.rewrap_rate,
            "`sealgate rewrap --rate`, several prefixes at once; artifacts that are deleted before the rotation",
        ),
        Demand(
            "valid service tokens",
            pod.logins * load.pods * load.token_hours,
            "tokens",
            None,
            "`token_type=batch` on the role: 0 stored; a shorter `token_ttl`",
        ),
        Demand(
            "TokenReviews, with the method `kubernetes`",
            busiest.logins,
            "a second",
            None,
            "method `jwt`: 0",
        ),
        Demand(
            "life of a key version",
            _GCM_LIMIT / (pod.data_keys * load.pods * 24),
            "days",
            None,
            "`auto_rotate_period` in Vault; derived keys count for each context",
        ),
    ]


def first_to_break(found: Sequence[Demand]) -> list[Demand]:
    """Return the demands that have a limit, the one that is nearest to it first."""
    limited = [each for each in found if each.share is not None]
    return sorted(limited, key=lambda each: each.share or 0, reverse=True)


def breaks_at(demand: Demand, load: Load) -> float | None:
    """Return how many pods an hour reach the limit. Every demand with a limit grows as the pods do."""
    return None if not demand.share else load.pods / demand.share


def seconds_of_burst(pods: float, cost: Cost, milliseconds: Mapping[str, float], processors: float) -> float:
    """Return the least time in which the key service answers `pods` that start at the same moment."""
    return processor_time(cost * pods, milliseconds) / processors

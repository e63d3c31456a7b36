"""Measuring sides that take turns, and the rows of the result."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Side:
    """One side of a comparison: `run` is timed, and `reset` restores the state before and after it."""

    run: Callable[[], object]
    reset: Callable[[], object] = _nothing


def take_turns(
    runs: int, sides: Mapping[str, Side], *, warm: bool = True, ready: Callable[[], object] = _nothing
) -> dict[str, list[float]]:
    """Return the seconds of each side. The sides take turns: A B A B.

    Args:
        runs: number of counted runs of each side.
        sides: the sides by name.
        warm: whether one uncounted round comes first.
        ready: called before each run, to give each side the same conditions.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1 if warm else 0, runs):
        for name, side in sides.items():
            side.reset()
            ready()
            began = time.perf_counter()
            side.run()
            took = time.perf_counter() - began
            if number >= 0:
                seconds[name].append(took)
            side.reset()
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


@dataclass(frozen=True)
class Target:
    """The limit that a figure must keep."""

    limit: float
    unit: str
    at_least: bool = False

    def met(self, figure: float) -> bool:
        """Return whether `figure` keeps the limit."""
        return figure >= self.limit if self.at_least else figure <= self.limit

    def share(self, figure: float) -> float | None:
        """Return how `figure` compares with the limit: at most 1 if it keeps it. None if one of the two is 0."""
        if not figure or not self.limit:
            return None
        return self.limit / figure if self.at_least else figure / self.limit

    @classmethod
    def read(cls, text: str) -> Target:
        """Return the target that is written as `text`."""
        sign, limit, unit = text.split(" ", 2)
        return cls(float(limit), unit, at_least=sign == "≥")

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}"


@dataclass(frozen=True)
class Row:
    """One row of the table. `figure` is compared with the target, and is a ratio or a difference."""

    name: str
    peer: str
    target: Target | None
    ours: float | None = None
    theirs: float | None = None
    unit: str = "s"
    figure: float | None = None
    reason: str = ""
    """Why the target is missed, or why there is no figure."""
    samples: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is met. None without a target or a figure."""
        return None if self.figure is None or self.target is None else self.target.met(self.figure)

    @property
    def share(self) -> float | None:
        """The figure as a share of its limit. None without a target or a figure."""
        return None if self.figure is None or self.target is None else self.target.share(self.figure)


def ratio(
    name: str,
    sides: tuple[str, str],
    seconds: Mapping[str, list[float]],
    target: Target | None,
    reason: str = "",
    *,
    speed: bool = False,
    unit: str = "s",
) -> Row:
    """Compare the medians of two sides, ours first. With `speed` the ratio is one of speeds instead of times."""
    us, them = sides
    middle = medians(seconds)
    figure = middle[them] / middle[us] if speed else middle[us] / middle[them]
    samples = {side: seconds[side] for side in sides}
    return Row(name, them, target, middle[us], middle[them], unit, figure, reason, samples)


def say(text: str) -> None:
    """Print progress on standard error."""
    print(text, file=sys.stderr, flush=True)

"""Taking turns at the clock, and what came of it: one row a figure."""

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
    """One of the sides that are compared: what is timed, and what puts everything back before it."""

    run: Callable[[], object]
    reset: Callable[[], object] = _nothing


def take_turns(
    runs: int, sides: Mapping[str, Side], *, warm: bool = True, ready: Callable[[], object] = _nothing
) -> dict[str, list[float]]:
    """Seconds of each side, which take turns: A B A B.

    Args:
        runs: how many of each side count.
        sides: who takes turns.
        warm: whether one round more goes uncounted before.
        ready: what makes the machine the same for whoever is next.
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
    """What a figure must keep to."""

    limit: float
    unit: str
    at_least: bool = False

    def met(self, figure: float) -> bool:
        """Whether `figure` keeps to it."""
        return figure >= self.limit if self.at_least else figure <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}"


@dataclass(frozen=True)
class Row:
    """One line of the table: `figure` is what the target speaks of, a ratio or a difference."""

    name: str
    peer: str
    target: Target | None
    ours: float | None = None
    theirs: float | None = None
    unit: str = "s"
    figure: float | None = None
    reason: str = ""
    """Why the target is missed where it is, or why there is no figure."""
    samples: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is met, or None if there is none or nothing was measured."""
        return None if self.figure is None or self.target is None else self.target.met(self.figure)


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
    """How our figure compares to theirs; with `speed`, how our speed does. `sides` names us, then them."""
    us, them = sides
    middle = medians(seconds)
    figure = middle[them] / middle[us] if speed else middle[us] / middle[them]
    samples = {side: seconds[side] for side in sides}
    return Row(name, them, target, middle[us], middle[them], unit, figure, reason, samples)


def say(text: str) -> None:
    """Progress, beside the table's own stream."""
    print(text, file=sys.stderr, flush=True)

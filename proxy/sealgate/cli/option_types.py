"""Types of options that several commands have, for `add_argument`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from sealgate.policy import schema
from sealgate.policy.schema import Size

_LONGEST = 86_400.0
"""Seconds."""


def seconds(text: str) -> float:
    """Return the number of seconds that `text` names: a positive one, and at most a day."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= _LONGEST:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds up to {_LONGEST:.0f}")
    return number


def as_in_policies(kind: type[int]) -> Callable[[str], int]:
    """Return a parser of options that are written as a policy writes `kind`: a `Size`, an `Age` or an `Instant`."""

    def parsed(text: str) -> int:
        try:
            return int(schema.decode(kind, int(text) if kind is Size and text.isdecimal() else text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed

"""Types of options that several commands have, for `add_argument`."""

from __future__ import annotations

import argparse


def seconds(text: str) -> float:
    """Return the positive number of seconds that `text` names."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be a positive number of seconds")
    return number

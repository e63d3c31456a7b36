"""Options that mean the same in every command that has them."""

from __future__ import annotations

import argparse
import os
import re
from datetime import UTC, datetime, timedelta

_CONFIG_HELP = "the configuration; default: the file that SEALGATE_CONFIG names, or the text in SEALGATE_CONFIG_YAML"
_AGO = re.compile(r"([0-9]{1,5})([mhdw])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config` to the parser of a command that reads the configuration."""
    parser.add_argument("--config", metavar="FILE", help=_CONFIG_HELP)


def obey_config_option(options: argparse.Namespace) -> None:
    """Have `--config FILE` take the place of both variables of the environment, also for processes that are started."""
    if path := getattr(options, "config", None):
        os.environ["SEALGATE_CONFIG"] = path
        os.environ.pop("SEALGATE_CONFIG_YAML", None)


def add_output_option(parser: argparse.ArgumentParser, default: str, *others: str) -> None:
    """Add `-o` and `--output` to the parser of a command that reports in several forms."""
    parser.add_argument(
        "-o",
        "--output",
        choices=(default, *others),
        default=default,
        help="the form of the output; default: %(default)s",
    )


def add_period_options(parser: argparse.ArgumentParser) -> None:
    """Add `--since` and `--until` to the parser of a command that reads accesses; the values are times with a zone."""
    form = "in ISO 8601, UTC if it names no time zone; or as 7d, 12h"
    parser.add_argument("--since", type=_moment, metavar="TIME", help=f"only accesses from this time on; {form}")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="only accesses before this time")


def _moment(text: str) -> datetime:
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-11-24T12:00 or 7d") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

"""Options that mean the same in every command that has them."""

from __future__ import annotations

import argparse
import os

_CONFIG_HELP = "the configuration; default: the file that SEALGATE_CONFIG names, or the text in SEALGATE_CONFIG_YAML"


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

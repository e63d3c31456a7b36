"""`sealgate doctor`: a configuration tried end to end."""

from sealgate.cli.doctor.command import add_options, run

SUMMARY = "check a configuration end to end, and report a remedy for each fault"

__all__ = ["SUMMARY", "add_options", "run"]

"""`sealgate doctor`: tries a configuration end to end (docs/doctor.md)."""

from sealgate.cli.doctor.command import add_options, run

SUMMARY = "check a configuration end to end, and report a remedy for each fault"

__all__ = ["SUMMARY", "add_options", "run"]

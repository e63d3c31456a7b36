"""`sealgate doctor`: tries a configuration end to end (docs/doctor.md)."""

from sealgate.cli.doctor.command import add_options, run

__all__ = ["add_options", "run"]

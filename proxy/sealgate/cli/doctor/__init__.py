"""`sealgate doctor`: a configuration tried end to end."""

from sealgate.cli.doctor.command import add_options, run

__all__ = ["add_options", "run"]

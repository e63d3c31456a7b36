"""`sealgate doctor`: a configuration tried end to end."""

from proxy.cli.doctor.command import Options, doctor

__all__ = ["Options", "doctor"]

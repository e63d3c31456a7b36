"""Moves stored objects to the newest version of the keys that wrap their data keys, without opening them."""

from sealgate.rotation.patience import Pace, Patience
from sealgate.rotation.report import Report, StaleObject
from sealgate.rotation.walk import Rotation

__all__ = ["Pace", "Patience", "Report", "Rotation", "StaleObject"]

"""Moves stored artifacts to the newest version of the keys that wrap their data keys, without opening them."""

from proxy.rotation.patience import Pace, Patience
from proxy.rotation.report import Report
from proxy.rotation.walk import Rotation

__all__ = ["Pace", "Patience", "Report", "Rotation"]

"""Composes the bundled backend. The proxy does not load this file, because the store library is large."""

from __future__ import annotations

from sealgate.backend import ObjectStoreBackend
from sealgate.compose.starting import Composed
from sealgate.compose.telemetry import telemetry
from sealgate.layers.governed import Governed
from sealgate.telemetry import names


def backend() -> Composed:
    """Compose the bundled backend, governed by the baseline."""
    watch = telemetry(None, names.BACKEND_SERVICE)
    return Composed(Governed(ObjectStoreBackend()), watch, (watch.close,) if watch else ())

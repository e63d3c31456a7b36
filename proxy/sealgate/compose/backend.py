"""Composes the bundled backend. The proxy does not load this file, because the store library is large."""

from __future__ import annotations

from sealgate.backend import ObjectStoreBackend
from sealgate.compose.starting import Composed
from sealgate.compose.telemetry import telemetry
from sealgate.layers.governed import Governed
from sealgate.policy.engine import CANONICAL_KEYS
from sealgate.telemetry import names


def backend() -> Composed:
    """Compose the bundled backend. It refuses keys that are not canonical, and decides nothing else.

    The check of keys is for an Argo that uses the backend without the proxy: what it stores can be read through the
    proxy later. A limit on listings is not the backend's: the proxy also lists to decide, to delete and to save, and
    limits what it shows to a caller itself.
    """
    watch = telemetry(None, names.BACKEND_SERVICE)
    return Composed(Governed(ObjectStoreBackend(), CANONICAL_KEYS), watch, (watch.close,) if watch else ())

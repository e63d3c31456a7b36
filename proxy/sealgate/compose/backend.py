"""Composes the bundled backend. The proxy does not load this file, because the store library is large."""

from __future__ import annotations

from typing_extensions import override

from sealgate.backend import ObjectStoreBackend
from sealgate.call import Call, every_key
from sealgate.compose.starting import Composed
from sealgate.compose.telemetry import telemetry
from sealgate.layers.governed import Governed
from sealgate.plugin import Artifact
from sealgate.policy.engine import CANONICAL_KEYS
from sealgate.rpc.memory import memory_limit
from sealgate.rpc.streams import spare_memory
from sealgate.telemetry import names
from sealgate.telemetry.reporting import await_last_exports


def backend() -> Composed:
    """Compose the bundled backend. It refuses keys that are not canonical, and decides nothing else.

    The check of keys is for an Argo that uses the backend without the proxy: what it stores can be read through the
    proxy later. The size of a listing is checked by the server alone: the proxy lists to decide, to delete and to save,
    too, and accepts a larger answer than Argo does. The backend does not know which keys the proxy's policies hide, so
    it logs none.
    """
    watch = telemetry(None, names.BACKEND_SERVICE)
    source = ObjectStoreBackend(spare=spare_memory(memory_limit()))
    closing = (watch.close, await_last_exports) if watch else ()
    return Composed(GovernedBackend(source, CANONICAL_KEYS, hides=every_key), watch, closing)


class GovernedBackend(Governed):
    """Refuses keys that are not canonical, and lists the whole store for an empty key.

    `sealgate rewrap --all` asks for that. The proxy refuses an empty key from a caller, whatever the operation.
    """

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        return super().list_objects(call, artifact) if artifact.key else self._inner.list_objects(call, artifact)

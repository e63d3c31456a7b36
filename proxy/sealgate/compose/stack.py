"""The stack, composed from the settings. The whole proxy is one expression in `proxy`.

Audited(Governed(Sealed(Downstream(second socket), keys), policies), audit log)
"""

from __future__ import annotations

from pathlib import Path

from sealgate import config
from sealgate.backend import ObjectStoreBackend
from sealgate.compose.audit import audit_log
from sealgate.compose.downstream import downstream_client
from sealgate.compose.keys import key_provider
from sealgate.compose.policies import identified, load_policies
from sealgate.compose.starting import Composed
from sealgate.compose.telemetry import telemetry
from sealgate.config import Settings
from sealgate.keys import KeyProvider
from sealgate.layers.audited import Audited
from sealgate.layers.digested import Digested
from sealgate.layers.governed import Governed
from sealgate.layers.sealed import Sealed
from sealgate.plugin import ArtifactPlugin
from sealgate.policy.load import PolicySet
from sealgate.rpc.edge import listing
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool, remove_leftovers
from sealgate.storage.stored_objects import Transfer
from sealgate.telemetry import names


def proxy(socket_path: str) -> Composed:
    """The proxy for the plugin that serves on `socket_path`.

    Raises:
        NotConfigured: the configuration is missing or not valid.
    """
    socket = Path(socket_path)
    # Argo lays the socket out as /tmp/artifact-plugins/<plugin name>/socket.
    settings = config.load(plugin=socket.parent.name)
    policies = load_policies(settings)
    keys = key_provider(settings)
    watch = telemetry(settings.telemetry)
    spool = _spool(settings, socket)
    downstream = downstream_client(settings, socket, shown=watch.calling if watch else None)
    trail = audit_log(settings, keys, watch)
    plugin = Audited(
        governed(settings, policies, keys, _digested(settings, downstream), spool),
        trail,
        discard=Roots(settings.paths.roots).remove,
        answered=listing,
    )
    closing = (downstream.close, spool.close, trail.close, *([watch.close] if watch else []))
    return Composed(plugin, watch, closing)


def governed(
    settings: Settings, policies: PolicySet, keys: KeyProvider, downstream: ArtifactPlugin, spool: Spool
) -> ArtifactPlugin:
    """The layers around `downstream` below the one that records: what `doctor` tries out, too."""
    sealed = Sealed(
        downstream,
        keys,
        roots=Roots(settings.paths.roots),
        spool=spool,
        transfer=Transfer(settings.spool.transfer),
    )
    return Governed(sealed, policies, identify=identified(keys), stored=sealed.stored)


def backend() -> Composed:
    """The bundled backend as a plugin of its own."""
    watch = telemetry(None, names.BACKEND_SERVICE)
    return Composed(Governed(ObjectStoreBackend()), watch, (watch.close,) if watch else ())


def _spool(settings: Settings, socket: Path) -> Spool:
    directory = settings.spool.directory or socket.parent
    remove_leftovers(directory)
    return Spool(directory)


def _digested(settings: Settings, downstream: ArtifactPlugin) -> ArtifactPlugin:
    return Digested(downstream) if settings.audit.digest == "sha256" else downstream

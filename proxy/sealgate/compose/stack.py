"""Composes the proxy from the settings.

It is Audited(Governed(Sealed(Downstream(second socket), keys), policies), audit log), or the same with
InProcess(ObjectStoreBackend()) in place of Downstream(second socket).
"""

from __future__ import annotations

from pathlib import Path

from sealgate import config
from sealgate.compose.audit import audit_log
from sealgate.compose.downstream import absence, downstream_source, transfer
from sealgate.compose.keys import key_provider
from sealgate.compose.policies import load_policies, process_resolver
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
from sealgate.rpc.edge import require_listable
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool, remove_leftovers
from sealgate.telemetry.reporting import await_last_exports


def proxy(socket_path: str) -> Composed:
    """Compose the proxy for the plugin that serves on `socket_path`.

    Raises:
        NotConfigured: the configuration is missing or not valid.
    """
    socket = Path(socket_path)
    settings = config.load(plugin=socket.parent.name)  # Argo's socket path: /tmp/artifact-plugins/<plugin name>/socket
    policies = load_policies(settings)
    keys = key_provider(settings)
    watch = telemetry(settings.telemetry, plugin=socket.parent.name)
    spool = _spool(settings, socket)
    downstream = downstream_source(settings, socket, shown=watch.calling if watch else None)
    trail = audit_log(settings, keys, watch)

    sealed = sealed_layer(settings, _digested(settings, downstream), keys, spool)
    governed = governed_layer(sealed, policies, keys)
    audited = Audited(governed, trail, discard=Roots(settings.paths.roots).remove, check_listing=require_listable)

    # Telemetry is exported while the downstream ends, because that may export its own.
    begin = (trail.close, *([watch.close] if watch else []))
    closing = (*begin, downstream.close, spool.close, await_last_exports)
    return Composed(audited, watch, closing)


def sealed_layer(settings: Settings, downstream: ArtifactPlugin, keys: KeyProvider, spool: Spool) -> Sealed:
    """Build the layer that seals, around `downstream`."""
    return Sealed(
        downstream,
        keys,
        roots=Roots(settings.paths.roots),
        spool=spool,
        transfer=transfer(settings),
        absence=absence(settings),
        allows_unbound=settings.allow_unbound,
    )


def governed_layer(sealed: Sealed, policies: PolicySet, keys: KeyProvider) -> Governed:
    """Build the layer that decides, around `sealed`. The login of `keys` attests the identity of this process."""
    return Governed(sealed, policies, identify=process_resolver(keys), stored=sealed.stored)


def _spool(settings: Settings, socket: Path) -> Spool:
    """Build the spool, and remove what crashed processes left in its directory."""
    directory = settings.spool.directory or socket.parent
    remove_leftovers(directory)
    return Spool(directory)


def _digested(settings: Settings, downstream: ArtifactPlugin) -> ArtifactPlugin:
    """Wrap `downstream` in the layer that records digests, if `audit.digest` is sha256."""
    return Digested(downstream) if settings.audit.digest == "sha256" else downstream

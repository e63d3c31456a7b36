"""`sealgate serve`: composes the stack and serves it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from proxy.cli.process import Composed, run

if TYPE_CHECKING:
    from pathlib import Path

    from policies.load import PolicySet
    from proxy.config import Settings
    from proxy.keys import KeyProvider
    from proxy.plugin import ArtifactPlugin
    from proxy.rpc.endpoint import Endpoint
    from proxy.spool import Spool


def serve(socket: str) -> int:
    """Serve the proxy on `socket` until SIGTERM. A bad configuration is what its calls answer, not its end."""
    path = os.path.abspath(socket)
    return run(lambda: compose(path), path)


def serve_backend(socket: str) -> int:
    """Serve the bundled backend on `socket` until SIGTERM: the same server around another plugin."""

    def composed() -> Composed:
        from backend import ObjectStoreBackend  # noqa: PLC0415 - off the path to the socket
        from proxy.cli.telemetry import telemetry  # noqa: PLC0415 - off the path to the socket
        from proxy.layers.governed import Governed  # noqa: PLC0415 - off the path to the socket
        from proxy.telemetry import names  # noqa: PLC0415 - off the path to the socket

        watch = telemetry(None, names.BACKEND_SERVICE)
        return Composed(Governed(ObjectStoreBackend()), watch, (watch.close,) if watch else ())

    return run(composed, os.path.abspath(socket))


def compose(path: str) -> Composed:
    """The stack for the plugin whose socket this is, and everything that it stands on.

    Raises:
        NotConfigured: the configuration is missing or not valid.
    """
    from pathlib import Path  # noqa: PLC0415 - off the path to the socket

    from proxy import config  # noqa: PLC0415 - off the path to the socket
    from proxy.cli.policies import load_policies  # noqa: PLC0415 - off the path to the socket
    from proxy.cli.telemetry import telemetry  # noqa: PLC0415 - off the path to the socket
    from proxy.cli.trail import audit_log  # noqa: PLC0415 - off the path to the socket
    from proxy.layers.audited import Audited  # noqa: PLC0415 - off the path to the socket
    from proxy.layers.digested import Digested  # noqa: PLC0415 - off the path to the socket
    from proxy.paths import Roots  # noqa: PLC0415 - off the path to the socket
    from proxy.rpc.client import Downstream  # noqa: PLC0415 - off the path to the socket
    from proxy.rpc.edge import listing  # noqa: PLC0415 - off the path to the socket
    from proxy.spool import Spool, remove_leftovers  # noqa: PLC0415 - off the path to the socket

    socket = Path(path)
    # Argo lays the socket out as /tmp/artifact-plugins/<plugin name>/socket.
    settings = config.load(plugin=socket.parent.name)
    policies = load_policies(settings)
    keys = key_provider(settings)
    spool_directory = settings.spool.directory or socket.parent
    remove_leftovers(spool_directory)
    spool = Spool(spool_directory)
    watch = telemetry(settings.telemetry)
    shown = watch.calling if watch else None
    downstream = Downstream(endpoint(settings, socket), settings.required_downstream().plugin_name, shown=shown)
    trail = audit_log(settings, keys, watch)
    stored = Digested(downstream) if settings.audit.digest == "sha256" else downstream
    governed = stack(settings, policies, keys, stored, spool)
    plugin = Audited(governed, trail, discard=Roots(settings.paths.roots).remove, answered=listing)
    closing = (downstream.close, spool.close, trail.close, *([watch.close] if watch else []))
    return Composed(plugin, watch, closing)


def stack(
    settings: Settings, policies: PolicySet, keys: KeyProvider, downstream: ArtifactPlugin, spool: Spool
) -> ArtifactPlugin:
    """The layers around a downstream, below the one that records. Read bottom to top: that is the way of a Save."""
    from proxy.cli.policies import identified  # noqa: PLC0415 - off the path to the socket
    from proxy.layers.governed import Governed  # noqa: PLC0415 - off the path to the socket
    from proxy.layers.sealed import Sealed  # noqa: PLC0415 - off the path to the socket
    from proxy.paths import Roots  # noqa: PLC0415 - off the path to the socket
    from proxy.stored import Transfer  # noqa: PLC0415 - off the path to the socket

    roots, transfer = Roots(settings.paths.roots), Transfer(settings.spool.transfer)
    sealed = Sealed(downstream, keys, roots=roots, spool=spool, transfer=transfer)
    return Governed(sealed, policies, identify=identified(keys), looks=sealed)


def key_provider(settings: Settings) -> KeyProvider:
    """The key provider that the settings name."""
    keys = settings.required_keys()
    if keys.provider == "vault":
        from proxy.cli.vault import cached_vault_keys  # noqa: PLC0415 - off the path to the socket

        return cached_vault_keys(keys, settings.audit.signing_key)
    from proxy.keys.local import LocalKeys  # noqa: PLC0415 - off the path to the socket

    assert keys.local is not None  # noqa: S101 - for the type checker: the settings were validated
    return LocalKeys(keys.local.keyring, keys.local.key)


def endpoint(settings: Settings, socket: Path) -> Endpoint:
    """Where the downstream is: on somebody else's socket, or a child of this process beside its own."""
    from proxy.rpc.endpoint import ChildProcess, Endpoint  # noqa: PLC0415 - off the path to the socket

    downstream = settings.required_downstream()
    if downstream.socket is not None:
        return Endpoint(downstream.socket, downstream.start_timeout)
    own = downstream_socket(socket)
    own.parent.mkdir(mode=0o700, exist_ok=True)
    own.parent.chmod(0o700)  # whatever the umask
    return ChildProcess(downstream.command, own, downstream.start_timeout)


def downstream_socket(socket: Path) -> Path:
    """The second socket, of a downstream that is a child, beside the plugin's own."""
    return socket.parent / ".sealgate-downstream" / "socket"

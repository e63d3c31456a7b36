"""A context protects data keys only under a derived key. Here a process verifies that a key is derived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sealgate.call import Call
from sealgate.errors import PluginError
from sealgate.keys.single_flight import SingleFlight
from sealgate.keys.vault.fault_rule import ContextMissing, TokenRefused
from sealgate.keys.vault.faults import underived, unproven
from sealgate.keys.vault.formats import VaultRequest
from sealgate.keys.vault.transit import TransitEngine


class DerivedKeys:
    """Verifies once for each key that it is derived. For another key, Vault would silently ignore the context."""

    def __init__(self, transit: TransitEngine) -> None:
        self._transit = transit
        self._derived: set[str] = set()
        self._proofs: SingleFlight[str, None] = SingleFlight()

    def require(self, call: Call, operation: str, key: str, body: Mapping[str, Any], version: int = 0) -> None:
        """Verify that `key` is derived.

        Send the request without a context, which a derived key refuses. If a policy forbids that, read the key instead.

        Raises:
            NotConfigured: the key is not derived, or that cannot be verified.
        """
        if key not in self._derived:
            request = self._transit.request(operation, key, body, version)
            self._proofs.run(call, key, lambda: self._prove(call, operation, request))

    def fault(self, call: Call, key: str) -> PluginError | None:
        """Return the error if a context does not protect data keys under `key`; None if it does.

        Read the key, because any one data key may be too old to be opened.
        """
        if key in self._derived:
            return None
        try:
            derived = self._transit.read(call, key).get("derived") is True
        except TokenRefused:
            return unproven(self._transit.request("", key, {}))
        if not derived:
            return underived(key)
        self._derived.add(key)
        return None

    def _prove(self, call: Call, operation: str, request: VaultRequest) -> None:
        derived = self._refused_without_context(call, request)
        if derived is None:
            try:
                derived = self._transit.read(call, request.key).get("derived") is True
            except TokenRefused as refused:
                # The first token may have expired, and there is a new one now.
                derived = self._refused_without_context(call, request)
                if derived is None:
                    raise self._unproven(call, operation, request, refused) from None
        if not derived:
            raise underived(request.key)
        self._derived.add(request.key)

    def _refused_without_context(self, call: Call, request: VaultRequest) -> bool | None:
        """Return whether the key refuses `request` without a context; None if the role may not send it."""
        try:
            self._transit.send(call, request, log_in_again=False)
        except ContextMissing:
            return True
        except TokenRefused:
            return None
        return False

    def _unproven(self, call: Call, operation: str, request: VaultRequest, refused: TokenRefused) -> PluginError:
        """Return the error for a key that the role may neither use without a context nor read, or that is absent."""
        if self._transit.seems_absent(call, request):
            return self._transit.explained(call, operation, request, refused)
        return unproven(request)

"""Requests to one mount of the Transit engine, on behalf of calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from sealgate.call import Call
from sealgate.errors import NotConfigured, PluginError
from sealgate.keys.vault import faults, usable_keys
from sealgate.keys.vault.fault_rule import TokenRefused
from sealgate.keys.vault.formats import VaultRequest, VaultResponse
from sealgate.keys.vault.server import VaultServer
from sealgate.keys.vault.session import Authenticated
from sealgate.keys.vault.usable_keys import UsableKey, UsableKeys

DATAKEY: Final = "datakey/plaintext"
ENCRYPT: Final = "encrypt"
DECRYPT: Final = "decrypt"
REWRAP: Final = "rewrap"
SIGN: Final = "sign"

NO_UPSERT: Final = {"type": "none"}
"""A field for `encrypt`: with a type that does not exist, Vault creates no key if there is none of that name.

For a key that exists, Vault ignores the field.
"""


class TransitEngine:
    """Sends requests about the keys of one mount."""

    def __init__(self, vault: Authenticated, server: VaultServer, mount: str, usable: UsableKeys) -> None:
        self._vault = vault
        self._server = server
        self._usable = usable
        self.mount = mount

    def request(
        self, operation: str, key: str, body: Mapping[str, Any], version: int = 0, traceparent: str = ""
    ) -> VaultRequest:
        """Return a request that uses `key` for `operation`. `version` is that of the wrapped data key in it, if any."""
        names = {"mount": self.mount, "key": key, "version": version, "traceparent": traceparent}
        return self._server.request(f"{self.mount}/{operation}/{key}", body, **names)

    def not_vault(self) -> PluginError:
        """Return the error for an answer that Vault does not give."""
        return faults.not_vault(self._server.request(""))

    def send(self, call: Call, request: VaultRequest, *, log_in_again: bool = True) -> VaultResponse:
        """Send `request` as `Authenticated.send` does."""
        return self._vault.send(call, request, log_in_again=log_in_again)

    def read(self, call: Call, key: str) -> Mapping[str, Any]:
        """Return Vault's description of `key`.

        Raises:
            TokenRefused: this process may not read it.
            NotConfigured: it does not exist.
        """
        request = self._server.request(f"{self.mount}/keys/{key}", mount=self.mount, key=key)
        return self._vault.send(call, request).data

    def ask(self, call: Call, operation: str, key: str, body: Mapping[str, Any], version: int = 0) -> VaultResponse:
        """Use `key` for `operation`, and return the answer. Record the request in the call's facts.

        Raises:
            TokenRefused: the policies of this process do not allow it, or the key does not exist.
            PluginError: the request failed for another reason.
        """
        began = time.monotonic()
        with call.trace.step(f"vault {self.mount}/{operation}") as traceparent:
            request = self.request(operation, key, body, version, traceparent)
            try:
                answer = self._vault.send(call, request)
            except TokenRefused as refused:
                raise self.explained(call, operation, request, refused) from None
        call.keys.requests += 1
        call.keys.seconds += time.monotonic() - began
        call.keys.request_id = str(answer.body.get("request_id", ""))
        if answer.ignored_a_parameter:
            raise NotConfigured(
                "Vault ignored a parameter of the request, and with it a protection",
                says="vault",
                remedy="Use a version of Vault or OpenBao that docs/vault.md names",
            )
        return answer

    def explained(self, call: Call, operation: str, request: VaultRequest, refused: TokenRefused) -> PluginError:
        """Return the error for `request`, which was refused: say which keys this process may use for `operation`."""
        # For an absent key, `encrypt` asks for the right to create one. With a context, its rule may have refused.
        without_context = operation == ENCRYPT and not (request.body or {}).get("context")
        if without_context and self._usable.may_use(call, request.path):
            return faults.no_key(request)
        usable = self._usable.keys(call)
        if any(key.covers(request.mount, request.key) for key in usable or ()):
            return refused  # the key exists, and only this operation is not allowed
        return faults.refused_or_absent(request, refused, _for_operation(usable, operation))

    def seems_absent(self, call: Call, request: VaultRequest) -> bool:
        """Return whether no right of this process names the key of `request`, as for a mistyped name."""
        usable = self._usable.keys(call)
        return usable is not None and not any(key.covers(request.mount, request.key) for key in usable)


def _for_operation(usable: list[UsableKey] | None, operation: str) -> str | None:
    """Return the names of the keys that may be used for `operation`; None if that is unknown."""
    if usable is None or operation == SIGN:
        return None
    return usable_keys.shown(key for key in usable if key.operation == operation)

"""How data keys are made, unwrapped and rewrapped with the Transit engine of Vault or OpenBao.

A Save requests one data key (`datakey/plaintext`) and a read unwraps one (`decrypt`). A rotation rewraps data keys
without seeing them (`rewrap`). The table in `faults` says what follows from each failure.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from sealgate.call import Call, Operation, WrappedKey
from sealgate.errors import NotConfigured, PluginError, Tampered, shown_key
from sealgate.keys.provider import BATCH, DataKey, KeyProvider, KeyVersions, Rewrapper, SignedBy
from sealgate.keys.single_flight import SingleFlight
from sealgate.keys.vault import connections, faults
from sealgate.keys.vault.connections import Transport, Wire
from sealgate.keys.vault.faults import TokenRefused, not_vault, underived, unproven
from sealgate.keys.vault.formats import (
    VaultRequest,
    VaultResponse,
    check_mount,
    check_name,
    context_field,
    decoded,
    is_header,
    version_of,
)
from sealgate.keys.vault.inspection import Inspection
from sealgate.keys.vault.requests import Clock, Jitter, Requests, uniform
from sealgate.keys.vault.server import TransitKey, VaultServer
from sealgate.keys.vault.session import Authenticated, tokens

log = logging.getLogger("sealgate.vault")

_DATA_KEY_SIZE = 32
_SIGNATURE_SIZE = 64
_DATAKEY, _DECRYPT, _REWRAP, _SIGN = "datakey/plaintext", "decrypt", "rewrap", "sign"


@dataclass(slots=True)
class _Item:
    """A data key to rewrap, and its outcome once that is known."""

    wrapped: WrappedKey
    outcome: WrappedKey | PluginError | None = None


class VaultKeys(KeyProvider, Rewrapper):
    """Wraps data keys under one Transit key; unwraps with any key of its mount that Vault's policies allow."""

    def __init__(
        self,
        server: VaultServer,
        key: TransitKey,
        *,
        signing_key: str = "",
        transport: Transport | None = None,
        clock: Clock = time.monotonic,
        jitter: Jitter = uniform,
    ) -> None:
        """Prepare a provider; the first request connects and logs in.

        Args:
            server: the server and the login.
            key: the key that wraps new data keys.
            signing_key: the name of the ed25519 key that certifies audit trails; empty for none.
            transport: sends requests in place of a connection to `server`.
            clock: the time in seconds, from any origin.
            jitter: returns a random number between its two arguments.

        Raises:
            NotConfigured: a name, the mount or the namespace is not valid.
        """
        wire = transport or Wire(server.address, namespace=server.namespace, ca_file=server.ca_file)
        requests = Requests(wire, server.patience, clock=clock, jitter=jitter)
        self._server_settings = server
        self._server = server.shown
        self._wire = wire
        self._vault = Authenticated(requests, tokens(server.auth, requests, self._server, clock, jitter), clock)
        self._key = key
        self._signing_key = signing_key
        self._derived: set[str] = set()
        self._proofs: SingleFlight[str, None] = SingleFlight()
        for name in (key.key, *([signing_key] if signing_key else [])):
            check_name(name)
        check_mount(key.mount)
        if not is_header(server.namespace):
            raise NotConfigured(
                f'"{shown_key(server.namespace)}" is not a valid namespace in Vault',
                remedy="Check keys.vault.namespace or VAULT_NAMESPACE",
            )

    def warm_up(self) -> None:
        """Load the client library and log in, on a thread. A call that arrives meanwhile waits for the same login."""
        threading.Thread(target=self._warm_up, name="sealgate-vault", daemon=True).start()

    def _warm_up(self) -> None:
        connections.load()
        try:
            self._vault.ready(Call(Operation.GET_CAPABILITIES))
        except PluginError as fault:
            log.warning("not logged in to vault yet: %s", fault.fact)

    def inspection(self) -> Inspection:
        """Return what asks about the server, the token and the key that this provider uses."""
        return Inspection(self._wire, self._vault, self._server_settings, self._key)

    # --- KeyProvider --------------------------------------------------------------------------------------

    @override
    def new_data_key(self, call: Call, key: str = "") -> DataKey:
        key = key or self._key.key
        check_name(key)
        body = {"bits": 8 * _DATA_KEY_SIZE}
        if self._key.context:
            self._require_derived(call, _DATAKEY, key, body)
        answer = self._ask(call, _DATAKEY, key, body | context_field(self._key.context))
        text, plaintext = answer.data.get("ciphertext"), decoded(answer.data.get("plaintext"))
        version = version_of(text)
        if not isinstance(text, str) or not version or len(plaintext) != _DATA_KEY_SIZE:
            raise not_vault(self._server)
        call.keys.data_keys += 1
        wrapped = WrappedKey("vault", self._key.mount, key, text, version, self._key.context)
        return DataKey(plaintext, wrapped)

    @override
    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        self.require_own(wrapped)
        body = {"ciphertext": wrapped.wrapped_key}
        if wrapped.derivation_context:
            self._require_derived(call, _DECRYPT, wrapped.key_name, body, wrapped.key_version)
        body |= context_field(wrapped.derivation_context)
        answer = self._ask(call, _DECRYPT, wrapped.key_name, body, wrapped.key_version)
        text = answer.data.get("plaintext")
        if not isinstance(text, str):
            raise not_vault(self._server)
        plaintext = decoded(text)
        if len(plaintext) != _DATA_KEY_SIZE:
            raise Tampered(
                f"the header's wrapped data key was decrypted with key {wrapped.key_name}, but it is not a data key",
                says="vault",
                remedy="Restore the object from a copy that was not changed",
            )
        call.keys.data_keys += 1
        return plaintext

    @override
    def attested(self, call: Call) -> Mapping[str, str]:
        return self._vault.metadata(call)

    @override
    def sign(self, call: Call, data: bytes) -> SignedBy:
        key = self._required_signing_key()
        answer = self._ask(call, _SIGN, key, {"input": base64.b64encode(data).decode()})
        text = answer.data.get("signature")
        version = version_of(text)
        signature = decoded(str(text).rpartition(":")[2])
        if not version or len(signature) != _SIGNATURE_SIZE:
            raise NotConfigured(
                f"key {key} did not return an Ed25519 signature",
                says="vault",
                remedy="Create a signing key of type ed25519",
            )
        return SignedBy(key, version, signature)

    @override
    def public_keys(self, call: Call) -> dict[int, bytes]:
        key = self._required_signing_key()
        answer = self._vault.send(call, self._key_request(key))
        versions = answer.data.get("keys")
        if answer.data.get("type") != "ed25519" or not isinstance(versions, dict):
            raise NotConfigured(f"key {key} is not of type ed25519", says="vault", remedy="Check audit.signingKey")
        texts = {number: facts.get("public_key") for number, facts in versions.items() if isinstance(facts, dict)}
        return {int(number): decoded(text) for number, text in texts.items() if str(number).isdigit()}

    def _required_signing_key(self) -> str:
        if not self._signing_key:
            raise NotConfigured(
                "no signing key for audit trails is configured", says="configuration", remedy="Set audit.signingKey"
            )
        return self._signing_key

    # --- Rewrapper ----------------------------------------------------------------------------------------

    @override
    def require_own(self, wrapped: WrappedKey) -> None:
        if wrapped.provider != "vault":
            raise NotConfigured(
                f"the data key was wrapped by {wrapped.provider}, but this installation uses Vault",
                remedy="Set keys.provider to the provider that the artifact was saved with",
            )
        if wrapped.mount != self._key.mount:
            raise NotConfigured(
                f"the data key was wrapped in the mount {shown_key(wrapped.mount)}, but this installation "
                f"uses {self._key.mount}",
                remedy="Set keys.vault.mount to the mount that the artifact was saved with",
            )
        check_name(wrapped.key_name)
        if wrapped.key_version < 1 or version_of(wrapped.wrapped_key) != wrapped.key_version:
            raise Tampered("the wrapped data key in the header is damaged", says="vault key provider")

    def rewrap(self, call: Call, wrapped: WrappedKey) -> WrappedKey:
        """Rewrap one data key as `rewrap_many` does, and raise its error if it has one."""
        outcome = self.rewrap_many(call, [wrapped])[0]
        if isinstance(outcome, PluginError):
            raise outcome
        return outcome

    @override
    def rewrap_many(self, call: Call, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | PluginError]:
        items = [_Item(key) for key in wrapped]
        groups: dict[tuple[str, bool], list[_Item]] = {}
        for item in items:
            try:
                self.require_own(item.wrapped)
            except PluginError as fault:
                item.outcome = fault
                continue
            # In one batch, either all items have a context or none has.
            groups.setdefault((item.wrapped.key_name, bool(item.wrapped.derivation_context)), []).append(item)
        for (key, has_context), group in groups.items():
            context_fault = self._context_fault(call, key) if has_context else None
            for start in range(0, len(group), BATCH):
                batch = group[start : start + BATCH]
                if context_fault is None:
                    self._rewrap_batch(call, key, batch)
                for item in batch:
                    item.outcome = item.outcome or context_fault
        return [item.outcome for item in items if item.outcome is not None]

    @override
    def versions(self, call: Call, key: str) -> KeyVersions:
        check_name(key)
        data = self._vault.send(call, self._key_request(key)).data
        newest, oldest = data.get("latest_version"), data.get("min_decryption_version")
        if not isinstance(newest, int) or not isinstance(oldest, int):
            raise not_vault(self._server)
        return KeyVersions(newest, oldest)

    # --- requests -----------------------------------------------------------------------------------------

    def _request(
        self, operation: str, key: str, body: Mapping[str, Any], version: int = 0, traceparent: str = ""
    ) -> VaultRequest:
        mount = self._key.mount
        return VaultRequest(f"{mount}/{operation}/{key}", body, self._server, mount, key, version, traceparent)

    def _key_request(self, key: str) -> VaultRequest:
        mount = self._key.mount
        return VaultRequest(f"{mount}/keys/{key}", None, self._server, mount, key)

    def _ask(self, call: Call, operation: str, key: str, body: Mapping[str, Any], version: int = 0) -> VaultResponse:
        began = time.monotonic()
        with call.trace.step(f"vault {self._key.mount}/{operation}") as traceparent:
            answer = self._vault.send(call, self._request(operation, key, body, version, traceparent))
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

    def _rewrap_batch(self, call: Call, key: str, batch: Sequence[_Item]) -> None:
        body = {
            "batch_input": [
                {"ciphertext": item.wrapped.wrapped_key} | context_field(item.wrapped.derivation_context)
                for item in batch
            ]
        }
        answer = self._ask(call, _REWRAP, key, body)
        results = answer.data.get("batch_results")
        if not isinstance(results, list) or len(results) != len(batch):
            raise not_vault(self._server)
        for item, result in zip(batch, results, strict=True):
            item.outcome = self._moved(item.wrapped, result if isinstance(result, dict) else {})

    def _moved(self, old: WrappedKey, result: Mapping[str, Any]) -> WrappedKey | PluginError:
        if error := result.get("error"):
            return faults.item_fault(str(error), self._request(_REWRAP, old.key_name, {}, old.key_version))
        text = result.get("ciphertext")
        version = version_of(text)
        if not isinstance(text, str) or version < old.key_version:
            raise not_vault(self._server)
        return WrappedKey("vault", old.mount, old.key_name, text, version, old.derivation_context)

    # --- a context needs a derived key --------------------------------------------------------------------

    def _require_derived(self, call: Call, operation: str, key: str, body: Mapping[str, Any], version: int = 0) -> None:
        """Verify once that `key` is derived: for another key, Vault would silently ignore the context."""
        if key not in self._derived:
            self._proofs.run(call, key, lambda: self._prove(call, self._request(operation, key, body, version)))

    def _prove(self, call: Call, request: VaultRequest) -> None:
        """Verify that the key is derived.

        Send `request` without a context, which a derived key refuses. If a policy forbids that, read the key instead.

        Raises:
            NotConfigured: the key is not derived, or that cannot be verified.
        """
        derived = self._refused_without_context(call, request)
        if derived is None:
            try:
                derived = self._vault.send(call, self._key_request(request.key)).data.get("derived") is True
            except TokenRefused:
                # The first token may have expired, and there is a new one now.
                derived = self._refused_without_context(call, request)
        if derived is None:
            raise unproven(request)
        if not derived:
            raise underived(request.key)
        self._derived.add(request.key)

    def _context_fault(self, call: Call, key: str) -> PluginError | None:
        """Return the error if a context does not protect data keys under `key`; None if it does.

        Read the key, because any one data key may be too old to be opened.
        """
        if key in self._derived:
            return None
        try:
            derived = self._vault.send(call, self._key_request(key)).data.get("derived") is True
        except TokenRefused:
            return unproven(self._request("", key, {}))
        if not derived:
            return underived(key)
        self._derived.add(key)
        return None

    def _refused_without_context(self, call: Call, request: VaultRequest) -> bool | None:
        """Return whether the key refuses `request` without a context; None if the role may not send it."""
        try:
            self._vault.send(call, request, log_in_again=False)
        except faults.ContextMissing:
            return True
        except TokenRefused:
            return None
        return False

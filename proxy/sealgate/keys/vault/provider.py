"""The key provider of production: Vault's Transit engine, or OpenBao's, which speaks the same API.

A Save asks for one data key (`datakey/plaintext`), a read has one opened (`decrypt`), a rotation has them
wrapped anew without seeing them (`rewrap`). What goes wrong, and what follows, is the table in `vault_faults`.
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
from sealgate.keys.provider import BATCH, DataKey, KeyProvider, KeyVersions, SignedBy
from sealgate.keys.single_flight import SingleFlight
from sealgate.keys.vault import connections as vault_wire
from sealgate.keys.vault import faults
from sealgate.keys.vault.faults import TokenRefused, VaultRequest, VaultResponse
from sealgate.keys.vault.formats import (
    check_mount,
    check_name,
    context_field,
    decoded,
    not_vault,
    underived,
    unproven,
    version_of,
)
from sealgate.keys.vault.inspection import Inspection
from sealgate.keys.vault.login import is_header
from sealgate.keys.vault.requests import Clock, Jitter, Requests, Transport, uniform
from sealgate.keys.vault.server import TransitKey, VaultServer
from sealgate.keys.vault.session import Authenticated, tokens

log = logging.getLogger("sealgate.vault")

_DATA_KEY_SIZE = 32
_SIGNATURE_SIZE = 64
_DATAKEY, _DECRYPT, _REWRAP, _SIGN = "datakey/plaintext", "decrypt", "rewrap", "sign"


@dataclass(slots=True)
class _Item:
    """A data key to be wrapped anew, and what came of it."""

    wrapped: WrappedKey
    outcome: WrappedKey | PluginError | None = None


class VaultKeys(KeyProvider):
    """Wraps data keys under one Transit key; unwraps under any key of that mount that Vault's policies allow."""

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
        wire = transport or vault_wire.Wire(server.address, namespace=server.namespace, ca_file=server.ca_file)
        requests = Requests(wire, server.patience, clock=clock, jitter=jitter)
        self._place = server
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
                f'"{shown_key(server.namespace)}" is no namespace in Vault',
                remedy="Check keys.vault.namespace or VAULT_NAMESPACE",
            )

    def warm_up(self) -> None:
        """Load the client and log in, behind the caller's back. A call that comes first waits for the same login."""
        threading.Thread(target=self._warm_up, name="sealgate-vault", daemon=True).start()

    def _warm_up(self) -> None:
        vault_wire.load()
        try:
            self._vault.ready(Call(Operation.GET_CAPABILITIES))
        except PluginError as fault:
            log.warning("not logged in to vault yet: %s", fault.fact)

    def inspection(self) -> Inspection:
        """A look at the server, the token and the key that this provider works with."""
        return Inspection(self._wire, self._vault, self._place, self._key)

    # --- the protocol -------------------------------------------------------------------------------------

    def new_data_key(self, call: Call, key: str = "") -> DataKey:
        """A fresh data key, wrapped under the newest version of `key`, or of this provider's own."""
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

    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        """The data key that `wrapped` stands for; see `KeyProvider.unwrap`."""
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
                f"what the header holds as a wrapped data key is something else under key {wrapped.key_name}",
                says="vault",
                remedy="Restore the object from a copy that was not changed",
            )
        call.keys.data_keys += 1
        return plaintext

    def rewrap(self, call: Call, wrapped: WrappedKey) -> WrappedKey:
        """The same data key wrapped under the newest version of the key that wraps it now."""
        outcome = self.rewrap_many(call, [wrapped])[0]
        if isinstance(outcome, PluginError):
            raise outcome
        return outcome

    def rewrap_many(self, call: Call, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | PluginError]:
        """Each data key wrapped under the newest version of its key, or why not; `BATCH` to a request, in order.

        Raises:
            PluginError: Vault could not be asked.
        """
        items = [_Item(key) for key in wrapped]
        groups: dict[tuple[str, bool], list[_Item]] = {}
        for item in items:
            try:
                self.require_own(item.wrapped)
            except PluginError as fault:
                item.outcome = fault
                continue
            # A batch has a context in all of its items or in none.
            groups.setdefault((item.wrapped.key_name, bool(item.wrapped.derivation_context)), []).append(item)
        for (key, has_context), group in groups.items():
            unsafe = self._not_derived(call, key) if has_context else None
            for start in range(0, len(group), BATCH):
                batch = group[start : start + BATCH]
                if unsafe is None:
                    self._rewrap_batch(call, key, batch)
                for item in batch:
                    item.outcome = item.outcome or unsafe
        return [item.outcome for item in items if item.outcome is not None]

    def versions(self, call: Call, key: str) -> KeyVersions:
        """Which versions of a key there are; see `Rewrapper.versions`."""
        check_name(key)
        data = self._vault.send(call, self._look(key)).data
        newest, oldest = data.get("latest_version"), data.get("min_decryption_version")
        if not isinstance(newest, int) or not isinstance(oldest, int):
            raise not_vault(self._server)
        return KeyVersions(newest, oldest)

    def attested(self, call: Call) -> Mapping[str, str]:
        """What Vault knows of whom it gave the token to: the metadata of the login, such as that of Kubernetes."""
        return self._vault.metadata(call)

    def sign(self, call: Call, data: bytes) -> SignedBy:
        """Sign with the newest version of the signing key, which must be of the type ed25519."""
        key = self._required_signing_key()
        answer = self._ask(call, _SIGN, key, {"input": base64.b64encode(data).decode()})
        text = answer.data.get("signature")
        version = version_of(text)
        signature = decoded(str(text).rpartition(":")[2])
        if not version or len(signature) != _SIGNATURE_SIZE:
            raise NotConfigured(
                f"key {key} makes no Ed25519 signature", says="vault", remedy="Create a key of the type ed25519"
            )
        return SignedBy(key, version, signature)

    @override
    def public_keys(self, call: Call) -> dict[int, bytes]:
        key = self._required_signing_key()
        answer = self._vault.send(call, self._look(key))
        versions = answer.data.get("keys")
        if answer.data.get("type") != "ed25519" or not isinstance(versions, dict):
            raise NotConfigured(f"key {key} is not of the type ed25519", says="vault", remedy="Check audit.signingKey")
        found = {number: facts.get("public_key") for number, facts in versions.items() if isinstance(facts, dict)}
        return {int(number): decoded(text) for number, text in found.items() if str(number).isdigit()}

    def _required_signing_key(self) -> str:
        if not self._signing_key:
            raise NotConfigured("no key signs audit trails", says="configuration", remedy="Set audit.signingKey")
        return self._signing_key

    def check(self, call: Call) -> str:
        """Make a data key and unwrap it."""
        made = self.new_data_key(call)
        if self.unwrap(call, made.wrapped) != made.plaintext:
            raise NotConfigured("Vault does not give back the data key that it wrapped", says="vault")
        return f"vault {self._key.mount}, key {made.wrapped.key_name} version {made.wrapped.key_version}"

    # --- requests -----------------------------------------------------------------------------------------

    def _request(
        self, operation: str, key: str, body: Mapping[str, Any], version: int = 0, traceparent: str = ""
    ) -> VaultRequest:
        mount = self._key.mount
        return VaultRequest(f"{mount}/{operation}/{key}", body, self._server, mount, key, version, traceparent)

    def _look(self, key: str) -> VaultRequest:
        mount = self._key.mount
        return VaultRequest(f"{mount}/keys/{key}", None, self._server, mount, key)

    def _ask(self, call: Call, operation: str, key: str, body: Mapping[str, Any], version: int = 0) -> VaultResponse:
        began = time.monotonic()
        with call.trace.step(f"vault {self._key.mount}/{operation}") as traceparent:
            answer = self._vault.send(call, self._request(operation, key, body, version, traceparent))
        call.keys.requests += 1
        call.keys.seconds += time.monotonic() - began
        call.keys.request_id = str(answer.body.get("request_id", ""))
        warnings = answer.body.get("warnings")
        if isinstance(warnings, list) and any(faults.IGNORED_PARAMETER in str(warning).lower() for warning in warnings):
            raise NotConfigured(
                "Vault ignored a part of the request, and with it a protection",
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

    # --- what is checked before Vault is asked -------------------------------------------------------------

    def require_own(self, wrapped: WrappedKey) -> None:
        """Hold a header, which anybody may have written, to what Vault could have written; see `Rewrapper`."""
        if wrapped.provider != "vault":
            raise NotConfigured(
                f"the data key was wrapped by {wrapped.provider}, and this installation asks Vault",
                remedy="Configure keys.provider as where the artifact was saved",
            )
        if wrapped.mount != self._key.mount:
            raise NotConfigured(
                f"the data key was wrapped in the mount {shown_key(wrapped.mount)}, and this installation "
                f"uses {self._key.mount}",
                remedy="Configure keys.vault.mount as where the artifact was saved",
            )
        check_name(wrapped.key_name)
        if wrapped.key_version < 1 or version_of(wrapped.wrapped_key) != wrapped.key_version:
            raise Tampered("the wrapped data key in the header is damaged", says="vault key provider")

    def _require_derived(self, call: Call, operation: str, key: str, body: Mapping[str, Any], version: int = 0) -> None:
        """Prove once that the key is derived: Vault ignores the context of one that is not, and says nothing."""
        if key not in self._derived:
            self._proofs.run(call, key, lambda: self._prove(call, self._request(operation, key, body, version)))

    def _prove(self, call: Call, request: VaultRequest) -> None:
        """Ask without a context, which a derived key refuses; where a policy refuses that, look at the key."""
        derived = self._refused_without_context(call, request)
        if derived is None:
            try:
                derived = self._vault.send(call, self._look(request.key)).data.get("derived") is True
            except TokenRefused:
                # Perhaps the token had ended, and there is a fresh one by now.
                derived = self._refused_without_context(call, request)
        if derived is None:
            raise unproven(request)
        if not derived:
            raise underived(request.key)
        self._derived.add(request.key)

    def _not_derived(self, call: Call, key: str) -> PluginError | None:
        """Why a context would be no protection. Told by a look at the key: any one data key may not open any more."""
        if key in self._derived:
            return None
        try:
            derived = self._vault.send(call, self._look(key)).data.get("derived") is True
        except TokenRefused:
            return unproven(self._request("", key, {}))
        if not derived:
            return underived(key)
        self._derived.add(key)
        return None

    def _refused_without_context(self, call: Call, request: VaultRequest) -> bool | None:
        """Whether the key insists on a context; None if the role may not even ask."""
        try:
            self._vault.send(call, request, log_in_again=False)
        except faults.ContextMissing:
            return True
        except TokenRefused:
            return None
        return False

"""How data keys are made, unwrapped and rewrapped with the Transit engine of Vault or OpenBao.

A Save requests one data key (`datakey/plaintext`, or `encrypt` for one made here) and a read unwraps one (`decrypt`). A
rotation rewraps data keys without seeing them (`rewrap`). The table in `faults` says what follows from each failure.
"""

from __future__ import annotations

import base64
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence

from typing_extensions import override

from sealgate.call import Call, Operation, WrappedKey
from sealgate.errors import NotConfigured, PluginError, Tampered, shown_key
from sealgate.keys.provider import DataKey, KeyProvider, KeyVersions, Rewrapper, SignedBy
from sealgate.keys.vault import connections
from sealgate.keys.vault.connections import Transport, Wire
from sealgate.keys.vault.derived import DerivedKeys
from sealgate.keys.vault.formats import (
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
from sealgate.keys.vault.rewrapping import DATA_KEY_SIZE, Rewrapping, not_a_data_key
from sealgate.keys.vault.server import TransitKey, VaultServer
from sealgate.keys.vault.session import Authenticated, tokens
from sealgate.keys.vault.transit import DATAKEY, DECRYPT, ENCRYPT, NO_UPSERT, SIGN, TransitEngine
from sealgate.keys.vault.usable_keys import UsableKeys
from sealgate.log_event import LogEvent

log = logging.getLogger("sealgate.vault")

_SIGNATURE_SIZE = 64


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
        wire = transport or Wire(server.address, namespace=server.namespace, authorities=server.authorities)
        requests = Requests(wire, server.patience, clock=clock, jitter=jitter)
        self._server = server
        self._wire = wire
        self._vault = Authenticated(requests, tokens(server, requests, clock, jitter), clock)
        self._key = key
        self._signing_key = signing_key
        self._usable = UsableKeys(self._vault, server, clock)
        self._transit = TransitEngine(self._vault, server, key.mount, self._usable)
        self._derived = DerivedKeys(self._transit)
        self._rewrapping = Rewrapping(self._transit, self._derived, decrypts=key.wraps_local)
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
            log.warning(LogEvent("not logged in to vault yet", reason=fault.fact))

    def inspection(self) -> Inspection:
        """Return what asks about the server, the token and the key that this provider uses."""
        return Inspection(self._wire, self._vault, self._server, self._key, self._usable)

    # --- KeyProvider --------------------------------------------------------------------------------------

    @override
    def new_data_key(self, call: Call, key: str = "") -> DataKey:
        key = key or self._key.key
        check_name(key)
        return self._wrapped_here(call, key) if self._key.wraps_local else self._made_by_vault(call, key)

    def _made_by_vault(self, call: Call, key: str) -> DataKey:
        body = {"bits": 8 * DATA_KEY_SIZE}
        if self._key.context:
            self._derived.require(call, DATAKEY, key, body)
        answer = self._transit.ask(call, DATAKEY, key, body | context_field(self._key.context))
        plaintext = decoded(answer.data.get("plaintext"))
        if len(plaintext) != DATA_KEY_SIZE:
            raise self._transit.not_vault()
        return self._new(call, key, plaintext, answer)

    def _wrapped_here(self, call: Call, key: str) -> DataKey:
        if self._key.context:
            # Without a context, a key that is not derived would encrypt what it gets: so it gets a data key of no use.
            self._derived.require(call, ENCRYPT, key, _to_encrypt(os.urandom(DATA_KEY_SIZE)))
        plaintext = os.urandom(DATA_KEY_SIZE)
        answer = self._transit.ask(call, ENCRYPT, key, _to_encrypt(plaintext) | context_field(self._key.context))
        return self._new(call, key, plaintext, answer)

    def _new(self, call: Call, key: str, plaintext: bytes, answer: VaultResponse) -> DataKey:
        """Return the data key that `answer` contains in wrapped form."""
        text = answer.data.get("ciphertext")
        version = version_of(text)
        if not isinstance(text, str) or not version:
            raise self._transit.not_vault()
        call.keys.data_keys += 1
        return DataKey(plaintext, WrappedKey("vault", self._key.mount, key, text, version, self._key.context))

    @override
    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        self.require_own(wrapped)
        body = {"ciphertext": wrapped.wrapped_key}
        if wrapped.derivation_context:
            self._derived.require(call, DECRYPT, wrapped.key_name, body, wrapped.key_version)
        body |= context_field(wrapped.derivation_context)
        answer = self._transit.ask(call, DECRYPT, wrapped.key_name, body, wrapped.key_version)
        text = answer.data.get("plaintext")
        if not isinstance(text, str):
            raise self._transit.not_vault()
        plaintext = decoded(text)
        if len(plaintext) != DATA_KEY_SIZE:
            raise not_a_data_key(wrapped.key_name)
        call.keys.data_keys += 1
        return plaintext

    @override
    def attested(self, call: Call) -> Mapping[str, str]:
        return self._vault.metadata(call)

    @override
    def attested_already(self) -> Mapping[str, str]:
        return self._vault.metadata_already()

    @override
    def sign(self, call: Call, data: bytes) -> SignedBy:
        key = self._required_signing_key()
        answer = self._transit.ask(call, SIGN, key, {"input": base64.b64encode(data).decode()})
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
        data = self._transit.read(call, key)
        versions = data.get("keys")
        if data.get("type") != "ed25519" or not isinstance(versions, dict):
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
        return self._rewrapping.move(call, wrapped, self.require_own)

    @override
    def versions(self, call: Call, key: str) -> KeyVersions:
        check_name(key)
        return self._rewrapping.versions(call, key)


def _to_encrypt(data_key: bytes) -> dict[str, str]:
    return {"plaintext": base64.b64encode(data_key).decode(), **NO_UPSERT}

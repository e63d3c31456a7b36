"""Builds key providers from the section `keys` of the settings. `PROVIDERS` is the one table of their kinds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sealgate import identity
from sealgate.config import (
    AppRoleAuth,
    JwtAuth,
    KeySettings,
    KubernetesAuth,
    LocalKeySettings,
    Settings,
    TokenAuth,
    VaultKeySettings,
)
from sealgate.errors import NotConfigured
from sealgate.identity import NAMESPACE_VARIABLE
from sealgate.keys import KeyProvider
from sealgate.keys.cache import CachedKeys
from sealgate.keys.local import LocalKeys
from sealgate.keys.provider import Rewrapper
from sealgate.keys.vault.formats import is_header
from sealgate.keys.vault.login import AppRoleLogin, Auth, JwtLogin, StaticToken, TokenFile
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.server import Authorities, TransitKey, VaultServer

LOCAL_MOUNT = "transit"
"""The mount that a policy may write before the name of a key in a local keyring, so that it also fits Vault."""


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """The builders and facts of one kind of key provider. A new kind is one more row of `PROVIDERS`."""

    keys: Callable[[Settings], KeyProvider]
    """Builds the provider that `serve` and the recovery commands use."""
    rewrapper: Callable[[Settings], Rewrapper]
    """Builds what `rewrap` uses."""
    mount: Callable[[Settings], str]
    """The mount that a policy may write before the name of a key."""
    signs_by_default: bool
    """Whether the provider signs audit trails even without `audit.signingKey`."""
    retire: Callable[[Settings, str, int], str]
    """Returns how to retire the versions of a key below the given one: the end of a sentence for a person."""


def provider_kind(settings: Settings) -> ProviderKind:
    """Return the row of `PROVIDERS` for the settings."""
    return PROVIDERS[settings.required_keys().provider]


def key_provider(settings: Settings) -> KeyProvider:
    """Build the key provider for the settings."""
    return provider_kind(settings).keys(settings)


def rewrapper(settings: Settings) -> Rewrapper:
    """Build the rewrapper for the settings: it moves data keys to the newest key version."""
    return provider_kind(settings).rewrapper(settings)


# --- local -----------------------------------------------------------------------------------------------


def _local_keys(settings: Settings) -> LocalKeys:
    section = settings.required_keys().section
    assert isinstance(section, LocalKeySettings)  # noqa: S101 - for the type checker: the table is keyed by the section
    return LocalKeys(section.keyring, section.key)


# --- Vault -----------------------------------------------------------------------------------------------


def _vault_section(settings: Settings) -> VaultKeySettings:
    section = settings.required_keys().section
    assert isinstance(section, VaultKeySettings)  # noqa: S101 - for the type checker: the table is keyed by the section
    return section


def cached_vault_keys(
    keys: KeySettings, signing_key: str = "", environment: Mapping[str, str] = os.environ
) -> CachedKeys:
    """Build the Vault provider behind its cache. It has already begun to log in."""
    assert keys.vault is not None  # noqa: S101 - for the type checker: the settings were validated
    provider = vault_keys(keys.vault, environment, signing_key=signing_key)
    provider.warm_up()
    return CachedKeys(provider, keys.cache.ttl, keys.cache.entries)


def vault_keys(
    settings: VaultKeySettings,
    environment: Mapping[str, str] = os.environ,
    *,
    service_account: Path = identity.SERVICE_ACCOUNT,
    signing_key: str = "",
) -> VaultKeys:
    """Build the Vault provider without a cache.

    Args:
        settings: the section `keys.vault`.
        environment: supplies what the settings leave out: `VAULT_ADDR`, `VAULT_NAMESPACE`, `VAULT_CACERT` or
            `VAULT_CACERT_BYTES`, `VAULT_TOKEN`.
        service_account: where the pod's service account is mounted.
        signing_key: the name of the key that signs audit trails.

    Raises:
        NotConfigured: a setting and its variable are both missing, or malformed.
    """
    server = VaultServer(
        _address(settings, environment),
        _auth(settings, environment, service_account),
        namespace=_value(settings.namespace, environment, "VAULT_NAMESPACE"),
        authorities=_authorities(settings, environment),
        patience=settings.timeout,
    )
    context = _with_namespace(settings.context, "keys.vault.context", environment, service_account)
    key = TransitKey(settings.mount, settings.key, context.encode(), wraps_local=settings.data_keys == "local")
    return VaultKeys(server, key, signing_key=signing_key)


def role_of(
    auth: KubernetesAuth | JwtAuth,
    environment: Mapping[str, str] = os.environ,
    service_account: Path = identity.SERVICE_ACCOUNT,
) -> str:
    """Return the role by which this process logs in: the one for its component, or else `role`.

    The component and the namespace are asserted, not proven. False ones gain nothing: Vault binds each role to a
    service account and its namespace.

    Raises:
        NotConfigured: the role names the namespace, which is not known.
    """
    role = getattr(auth.roles, identity.asserted(environment).component, "") or auth.role
    return _with_namespace(role, "keys.vault.auth", environment, service_account)


def _value(setting: str, environment: Mapping[str, str], name: str) -> str:
    """Return the setting or else the variable `name`, without the line break that a template may leave at its end."""
    return (setting or environment.get(name, "")).strip()


def _address(settings: VaultKeySettings, environment: Mapping[str, str]) -> str:
    address = _value(settings.address, environment, "VAULT_ADDR").rstrip("/")
    scheme, _, server = address.partition("://")
    if scheme not in {"http", "https"} or not server:
        raise NotConfigured(
            "the address of Vault is missing or not an http or https URL",
            says="configuration",
            remedy="Set keys.vault.address or VAULT_ADDR",
        )
    if server.endswith("/v1") or "?" in server or "#" in server:
        raise NotConfigured(
            "the address of Vault contains the path /v1, a query or a fragment",
            says="configuration",
            remedy="Remove /v1 and what follows it from keys.vault.address or VAULT_ADDR",
        )
    return address


def _authorities(settings: VaultKeySettings, environment: Mapping[str, str]) -> Authorities:
    """Return the certificates to trust: those of the settings, or else of the one variable that is set."""
    if settings.ca_bundle:
        return Authorities("keys.vault.caBundle", pem=settings.ca_bundle)
    text, file = _value("", environment, "VAULT_CACERT_BYTES"), _value("", environment, "VAULT_CACERT")
    if text and file:
        raise NotConfigured(
            "both VAULT_CACERT and VAULT_CACERT_BYTES are set", says="environment", remedy="Unset one of them"
        )
    if text:
        return Authorities("VAULT_CACERT_BYTES", pem=text)
    return Authorities("the file that VAULT_CACERT names", file=Path(file)) if file else Authorities()


def _auth(settings: VaultKeySettings, environment: Mapping[str, str], service_account: Path) -> Auth:
    auth = settings.auth
    if isinstance(auth, KubernetesAuth | JwtAuth):
        return JwtLogin(auth.mount, role_of(auth, environment, service_account), auth.jwt_path)
    if isinstance(auth, AppRoleAuth):
        return AppRoleLogin(auth.mount, auth.role_id, auth.secret_id_file)
    if isinstance(auth, TokenAuth):
        token = _value("", environment, "VAULT_TOKEN")
        if not token:
            raise NotConfigured(
                "VAULT_TOKEN is not set, and keys.vault.auth takes the token from it",
                says="environment",
                remedy="Set VAULT_TOKEN in the environment of the plugin, or choose another method in keys.vault.auth",
            )
        if not is_header(token):
            raise NotConfigured(
                "VAULT_TOKEN contains a character that no token has", says="environment", remedy="Set it to the token"
            )
        return StaticToken(token)
    return TokenFile(auth.path)


def _with_namespace(text: str, setting: str, environment: Mapping[str, str], service_account: Path) -> str:
    """Return the text of `setting` with the pod's namespace in the place of its variable."""
    if NAMESPACE_VARIABLE not in text:
        return text
    namespace = identity.asserted(environment, service_account).namespace
    if not namespace:
        raise NotConfigured(
            f"{setting} names {NAMESPACE_VARIABLE}, and the namespace is not known",
            says="configuration",
            remedy="Set SEALGATE_NAMESPACE, or mount the service account's token",
        )
    return text.replace(NAMESPACE_VARIABLE, namespace)


def _retire_in_vault(settings: Settings, name: str, oldest: int) -> str:
    mount = _vault_section(settings).mount
    return f":\n  vault write {mount}/keys/{name}/config min_decryption_version={oldest}"


PROVIDERS: Mapping[str, ProviderKind] = {
    "vault": ProviderKind(
        keys=lambda settings: cached_vault_keys(settings.required_keys(), settings.audit.signing_key),
        rewrapper=lambda settings: vault_keys(_vault_section(settings)),
        mount=lambda settings: _vault_section(settings).mount,
        signs_by_default=False,
        retire=_retire_in_vault,
    ),
    "local": ProviderKind(
        keys=_local_keys,
        rewrapper=_local_keys,
        mount=lambda _: LOCAL_MOUNT,
        signs_by_default=True,
        retire=lambda *_: ", older versions may be removed from the keyring.",
    ),
}
"""By the value of `keys.provider`."""

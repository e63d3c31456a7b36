"""The Vault key provider as the settings and the environment describe it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from proxy import identity
from proxy.config import AppRoleAuth, JwtAuth, KeySettings, KubernetesAuth, TokenAuth, VaultKeySettings
from proxy.keys.cache import CachedKeys
from proxy.keys.vault import VaultKeys
from proxy.keys.vault_auth import AppRoleLogin, Auth, JwtLogin, StaticToken, TokenFile, is_header
from proxy.keys.vault_place import TransitKey, VaultServer
from proxy.plugin import NotConfigured

_NAMESPACE = "${identity.namespace}"


def cached_vault_keys(
    keys: KeySettings, signing_key: str = "", environment: Mapping[str, str] = os.environ
) -> CachedKeys:
    """The provider behind its cache, already on its way to a login."""
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
    """The provider itself.

    Raises:
        NotConfigured: what the settings leave to the environment is not there.
    """
    ca_file = _value("", environment, "VAULT_CACERT")
    server = VaultServer(
        _address(settings, environment),
        _auth(settings, environment),
        namespace=_value(settings.namespace, environment, "VAULT_NAMESPACE"),
        ca_file=Path(ca_file) if ca_file else None,
        patience=settings.timeout,
    )
    context = _context(settings.context, environment, service_account)
    return VaultKeys(server, TransitKey(settings.mount, settings.key, context.encode()), signing_key=signing_key)


def role_of(auth: KubernetesAuth | JwtAuth, environment: Mapping[str, str] = os.environ) -> str:
    """The role by which this process logs in.

    Whoever only says that it is another component gains nothing: each role is bound to a service account.
    """
    return getattr(auth.roles, identity.asserted(environment).component, "") or auth.role


def _value(setting: str, environment: Mapping[str, str], name: str) -> str:
    """The setting, and else the variable; what fills in either may leave a line break at its end."""
    return (setting or environment.get(name, "")).strip()


def _address(settings: VaultKeySettings, environment: Mapping[str, str]) -> str:
    address = _value(settings.address, environment, "VAULT_ADDR").rstrip("/")
    scheme, _, server = address.partition("://")
    if scheme not in {"http", "https"} or not server:
        raise NotConfigured(
            "there is no http or https address of Vault",
            says="configuration",
            remedy="Set keys.vault.address or VAULT_ADDR",
        )
    if server.endswith("/v1") or "?" in server or "#" in server:
        raise NotConfigured(
            "the address of Vault is that of its API",
            says="configuration",
            remedy="Leave /v1 and what follows out of keys.vault.address or VAULT_ADDR",
        )
    return address


def _auth(settings: VaultKeySettings, environment: Mapping[str, str]) -> Auth:
    auth = settings.auth
    if isinstance(auth, KubernetesAuth | JwtAuth):
        return JwtLogin(auth.mount, role_of(auth, environment), auth.jwt_path)
    if isinstance(auth, AppRoleAuth):
        return AppRoleLogin(auth.mount, auth.role_id, auth.secret_id_file)
    if isinstance(auth, TokenAuth):
        token = _value("", environment, "VAULT_TOKEN")
        if not token or not is_header(token):
            raise NotConfigured(
                "keys.vault.auth takes the token from the environment, and there is none",
                says="configuration",
                remedy="Set VAULT_TOKEN, or choose another method",
            )
        return StaticToken(token)
    return TokenFile(auth.path)


def _context(text: str, environment: Mapping[str, str], service_account: Path) -> str:
    if _NAMESPACE not in text:
        return text
    namespace = identity.asserted(environment, service_account).namespace
    if not namespace:
        raise NotConfigured(
            f"keys.vault.context names {_NAMESPACE}, and nothing tells the namespace",
            says="configuration",
            remedy="Set SEALGATE_NAMESPACE, or have the service account's token mounted",
        )
    return text.replace(_NAMESPACE, namespace)

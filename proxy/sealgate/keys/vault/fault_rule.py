"""What a row of the table of faults says, and the errors that follow from Vault's answers alone."""

from __future__ import annotations

from dataclasses import dataclass

from sealgate.errors import NotConfigured, NotPermitted, PluginError
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse

AGAIN = "Try again; if this continues, ask Vault's operator"
"""The remedy of a fault that may pass."""


class TokenRefused(NotPermitted):
    """Status 403: the token has expired, or its policies do not allow the request. Vault does not say which."""


class ContextMissing(NotConfigured):
    """A request without a context used a derived key, which proves that the key is derived."""


class DataKeysUnsupported(NotConfigured):
    """Vault can neither make nor rewrap data keys with a key of this type."""


class VersionTooOld(NotConfigured):
    """The key version is below the key's `min_decryption_version`."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One row of the table.

    `fact` and `remedy` may contain `{server}`, `{authorities}`, `{mount}`, `{key}` and `{version}` of the request, and
    `{status}`.
    """

    error: type[PluginError]
    fact: str
    remedy: str = ""
    tries: int = 1
    """How often the request is sent in all, within the time of the call."""
    outage: bool = False
    """Whether the server is down for all callers. They wait together until it answers, and `tries` does not count."""
    pause: float = 0.1
    """The longest wait before the second try, in seconds. It doubles for each further try."""

    def fault(self, request: VaultRequest, outcome: VaultResponse | Unanswered) -> PluginError:
        """Return the error of this row for `request`, which ended in `outcome`."""
        names = {name: getattr(request, name) for name in ("server", "mount", "key", "version")}
        names["authorities"] = request.authorities or "the bundle of public authorities"
        names["status"] = outcome.status if isinstance(outcome, VaultResponse) else 0
        return self.error(self.fact.format(**names), says="vault", remedy=self.remedy.format(**names))

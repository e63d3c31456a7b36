"""Which keys an identity may use, as Vault itself lists its rights. The errors of refused requests name them.

Vault answers 403 both to a request that no policy allows and, since no policy names it, to one for a key or a mount
that does not exist. So a mistyped setting looks like a missing right until someone sees which keys would work.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealgate.call import Call
from sealgate.errors import NotConfigured, PluginError
from sealgate.keys.single_flight import SingleFlight
from sealgate.keys.vault.fault_rule import TokenRefused
from sealgate.keys.vault.requests import Clock
from sealgate.keys.vault.server import VaultServer
from sealgate.keys.vault.session import Authenticated

_KEY_PATH = re.compile(
    r"(?P<mount>\w[\w/-]*)/(?P<operation>datakey/plaintext|encrypt|decrypt|rewrap)/(?P<key>\w[\w.-]*|)", re.ASCII
)
"""A path that uses a key. The key is empty in a right to all keys of a mount."""
_USES = frozenset({"create", "update"})
_KEPT_FOR = 60.0
"""Seconds for which the list of rights is kept."""
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ListedRight:
    """One path on which the policies of an identity grant something, as Vault lists it for its own web pages."""

    path: str
    """Without the namespace."""
    is_prefix: bool
    """Whether the right covers every path that begins with `path`."""
    capabilities: frozenset[str]
    """As Vault names them, for example `update`."""


@dataclass(frozen=True, slots=True)
class UsableKey:
    """A key that an identity may use for one operation."""

    mount: str
    key: str
    """The beginning of the name if `is_prefix`."""
    is_prefix: bool
    operation: str
    """For example `decrypt`."""

    def covers(self, mount: str, key: str) -> bool:
        """Return whether this is the key `key` of `mount`, or includes it."""
        return mount == self.mount and (key.startswith(self.key) if self.is_prefix else key == self.key)

    def __str__(self) -> str:
        """Return mount and key, for a text that a person reads."""
        return f"{self.mount}/{self.key}{'*' if self.is_prefix else ''}"


def listed_rights(data: Mapping[str, Any], namespace: str) -> list[ListedRight] | None:
    """Return the rights in an answer to `sys/internal/ui/resultant-acl`; None if it does not list any.

    The list does not contain paths with a `+`.
    """
    rights: list[ListedRight] = []
    for name, is_prefix in (("exact_paths", False), ("glob_paths", True)):
        paths = data.get(name)
        if not isinstance(paths, dict):
            return None
        for path, facts in paths.items():
            named = facts.get("capabilities") if isinstance(facts, dict) else None
            capabilities = frozenset(map(str, named)) if isinstance(named, list) else frozenset[str]()
            inside = path.removeprefix(f"{namespace}/") if namespace else path
            rights.append(ListedRight(inside, is_prefix, capabilities))
    return rights


def usable_keys(rights: Iterable[ListedRight]) -> Iterator[UsableKey]:
    """Yield the keys that `rights` allow to use."""
    for right in rights:
        match = _KEY_PATH.fullmatch(right.path)
        if match and right.capabilities & _USES and (match["key"] or right.is_prefix):
            yield UsableKey(match["mount"], match["key"], right.is_prefix, match["operation"])


def shown(keys: Iterable[UsableKey]) -> str:
    """Return the names of `keys` for an error text, without those beyond the first few; empty if there are none."""
    names = list(dict.fromkeys(map(str, keys)))
    if len(names) > _MOST_SHOWN:
        names[_MOST_SHOWN:] = [f"{len(names) - _MOST_SHOWN} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


class UsableKeys:
    """Asks Vault which keys this process may use. Needs Vault's policy `default`."""

    def __init__(self, vault: Authenticated, server: VaultServer, clock: Clock = time.monotonic) -> None:
        self._vault = vault
        self._server = server
        self._clock = clock
        self._flights: SingleFlight[str, list[UsableKey] | None] = SingleFlight()
        self._kept: list[UsableKey] | None = None
        self._kept_until = 0.0

    def keys(self, call: Call) -> list[UsableKey] | None:
        """Return the keys that this process may use, asked at most once a minute; None if Vault does not list them."""
        if self._clock() >= self._kept_until:
            return self._flights.run(call, "", lambda: self._ask(call))
        return self._kept

    def rights(self, call: Call) -> list[ListedRight] | None:
        """Return the rights of this process as Vault lists them; None if it does not list them."""
        request = self._server.request("sys/internal/ui/resultant-acl")
        try:
            data = self._vault.send(call, request, log_in_again=False).data
        except (TokenRefused, NotConfigured):
            return None
        return listed_rights(data, self._server.namespace.strip("/"))

    def capabilities(self, call: Call, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return what this process may do at each of `paths`, as Vault names it (`update`, `root`).

        Raises:
            TokenRefused: this process may not ask.
        """
        request = self._server.request("sys/capabilities-self", {"paths": list(paths)})
        data = self._vault.send(call, request, log_in_again=False).data
        answers = {path: data.get(path) for path in paths}
        if not all(isinstance(capabilities, list) for capabilities in answers.values()):
            raise NotConfigured(
                f"the server at {self._server.shown} does not list capabilities as Vault does",
                says="vault",
                remedy="Check keys.vault.address, and the proxies and load balancers in front of Vault",
            )
        return {path: frozenset(map(str, capabilities or ())) for path, capabilities in answers.items()}

    def may_use(self, call: Call, path: str) -> bool:
        """Return whether the policies of this process allow to use the key at `path`; False if that is unknown."""
        try:
            return bool(self.capabilities(call, [path])[path] & _USES)
        except PluginError:
            return False

    def _ask(self, call: Call) -> list[UsableKey] | None:
        if self._clock() < self._kept_until:
            return self._kept
        try:
            rights = self.rights(call)
        except PluginError:
            return None
        self._kept = None if rights is None else list(usable_keys(rights))
        self._kept_until = self._clock() + _KEPT_FOR
        return self._kept

"""`sealgate init`: writes what a first installation needs, and asks only for what nothing here tells."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sealgate import identity, library
from sealgate.errors import BadRequest, NotConfigured

KEYS = """\
keys:
  provider: vault
  vault:
    address: {address}
{namespace}    mount: {mount}
    key: {key}
    # The pod's service account. Others: jwt, approle, token, tokenFile.
    auth: {{method: kubernetes, role: {role}, roles: {{gc: {gc_role}}}}}
  # How long a data key that was opened is remembered, whatever Vault says meanwhile.
  cache: {{ttl: 10m, entries: 1024}}
"""
CONFIGURATION = """\
# Sealgate's configuration. docs/configuration.md has every setting.
apiVersion: sealgate/v1alpha1
kind: Sealgate

downstream:
  # The storage plugin that Sealgate wraps; its socket is appended as its one argument. This is the bundled one, which
  # stores in {storage}
  # (SEALGATE_BACKEND_URL). A vendor's: command: [/vendor/plugin]
  command: [sealgate, backend]

{keys}
# Who may do what with which artifact: files and directories, or documents in place, which is what a pod needs.
policies: [{policies}]

spool:
  # auto takes the disk beside the socket where the sealed copy fits, and a stream where it does not.
  transfer: auto
"""
VALUES = """\
# Values of the Helm chart. docs/install-helm.md says what is to add: the image, and what the bucket asks for.
configuration:
{keys}  policies:
    -
{policy}
environment:
  - {{name: SEALGATE_BACKEND_URL, value: {url}}}
tenants: {{namespaces: {namespaces}}}
argo:
  namespace: {argo_namespace}
  server: {{serviceAccount: {server}}}
"""
POLICY = """\
# What may be done with which artifact, and which key seals it. One document of any number; deny wins over allow.
apiVersion: sealgate/v1alpha1
kind: ArtifactPolicy
metadata:
  name: own-namespace
spec:
  defaultDecision: deny
  rules:
    # A pod reads and writes beneath the name of its own namespace: the keyFormat of the repository begins with it.
    - name: own-prefix
      effect: allow
      match: {operations: ["*"], keys: ["${identity.namespace}/**"]}
    # What users send by Argo's user interface lies here.
    - name: uploads
      effect: allow
      match: {operations: [read, list, stat, delete], keys: ["uploads/${identity.namespace}/**"]}
    # Argo's server has checked who the user is before it asks, and works for every namespace.
    - name: user-interface
      effect: allow
      match: {operations: [read, write, list, stat], identity: {components: [server], namespaces: [ARGO]}}
    # Who a pod says that it is, Vault must have seen at its login.
    - name: proven
      effect: require
      match: {operations: [read, write, delete]}
      require: {attestedIdentity: true}
  encryption:
    - {name: everything, write: required, readPlaintext: deny}
"""
_POLICIES = ("saver", "loader", "rewrapper")
_VARIABLES = {"address": "VAULT_ADDR", "storage": "SEALGATE_BACKEND_URL"}
_QUESTIONS = {
    "address": "Address of Vault or OpenBao, such as https://vault:8200",
    "storage": "Where artifacts are stored, such as s3://bucket/prefix",
    "namespace": "Kubernetes namespace in which workflows run",
}
_SHAPES = {
    "address": re.compile(r"https?://[^\s'\"`\\{}$]+"),
    "storage": re.compile(r"[a-z0-9]+://[^\s'\"`\\{}$]+"),
    "namespace": re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
    "argo-namespace": re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
    "server-account": re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"),
    "mount": re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*"),
    "key": re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"),
}

_USER = re.compile(r"[a-z0-9]+://[^/?#]*@")
"""A URL with a user in it, and mostly a password."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line gave; what it did not is None, and found out."""

    address: str | None = None
    storage: str | None = None
    namespaces: tuple[str, ...] = ()
    mount: str = "transit"
    key: str = "artifacts"
    argo_namespace: str = "argo"
    server_account: str = "argo-server"


@dataclass(frozen=True, slots=True)
class _VaultRole:
    """A role of Vault, and the service account that may take it."""

    name: str
    account: str
    namespaces: tuple[str, ...]
    policies: str = "sealgate-saver,sealgate-loader"


def init(directory: Path, wishes: Wishes, environment: Mapping[str, str] = os.environ) -> None:
    """Write the files into `directory`, all or none, and say what comes next.

    Raises:
        BadRequest: a file is there already, or something given has not the form of what it should be.
        NotConfigured: something is not given, not to be found out, and there is no terminal to ask on.
    """
    address = _found("address", wishes.address, environment)
    storage = _found("storage", wishes.storage, environment)
    here = identity.asserted(environment).namespace
    namespaces = wishes.namespaces or (_found("namespace", here or None, environment),)
    for name in ("mount", "key", "argo_namespace", "server_account"):
        _require_shape(name.replace("_", "-"), getattr(wishes, name))
    for one in namespaces:
        _require_shape("namespace", one)
    vault_namespace = environment.get("VAULT_NAMESPACE", "")
    if vault_namespace and not _SHAPES["mount"].fullmatch(vault_namespace.strip("/")):
        raise BadRequest("VAULT_NAMESPACE is no path", says="environment", remedy="Set another")
    pods = _VaultRole("argo-artifacts", "argo-workflow", namespaces)
    collection = _VaultRole("argo-artifacts-gc", "argo-artifact-gc", namespaces, policies="")
    server = _VaultRole("argo-artifacts-server", wishes.server_account, (wishes.argo_namespace,))
    policy = POLICY.replace("ARGO", json.dumps(wishes.argo_namespace))
    keys = KEYS.format(
        address=address,
        namespace=f"    namespace: {vault_namespace}\n" if vault_namespace else "",
        mount=wishes.mount,
        key=wishes.key,
        role=pods.name,
        gc_role=collection.name,
    )
    configuration = CONFIGURATION.format(
        storage=storage, keys=keys, policies=json.dumps(str(directory.absolute() / "policies"))
    )
    values = VALUES.format(
        keys=textwrap.indent(keys, " " * 2),
        policy=textwrap.indent(policy.rstrip(), " " * 6),
        namespaces=json.dumps(namespaces),
        argo_namespace=json.dumps(wishes.argo_namespace),
        server=json.dumps(wishes.server_account),
        url=json.dumps(storage),
    )
    files = {
        "sealgate.yaml": configuration,
        "policies/own-namespace.yaml": policy,
        "values.yaml": values,
        "vault.sh": _vault_commands(address, wishes.mount, wishes.key, vault_namespace, (pods, collection, server)),
    }
    _write(directory, files)
    _tell(directory, storage, namespaces[0])


def _found(name: str, given: str | None, environment: Mapping[str, str]) -> str:
    """What was given, else what the environment tells, else what a person answers."""
    value = given or environment.get(_VARIABLES.get(name, ""), "")
    if not value and sys.stdin.isatty():
        with suppress(EOFError):
            value = input(f"{_QUESTIONS[name]}: ").strip()
    if not value:
        variable = f" or {_VARIABLES[name]}" if name in _VARIABLES else ""
        raise NotConfigured(
            f"nothing tells the {name}, and there is no terminal to ask on",
            says="init",
            remedy=f"Give --{name}{variable}",
        )
    _require_shape(name, value)
    return value


def _require_shape(name: str, value: str) -> None:
    if _USER.match(value):
        # The value is not told: a password is in it.
        remedy = "Leave out what stands before the @: secrets are given where the program runs"
        raise BadRequest(f"the {name} has a user in it", says="init", remedy=remedy)
    if not _SHAPES[name].fullmatch(value):
        raise BadRequest(f"{value!r} is no {name}", says="init", remedy=f"Give another --{name}")


def _vault_commands(address: str, mount: str, key: str, namespace: str, roles: tuple[_VaultRole, ...]) -> str:
    """A script for the hands of Vault's administrator; the chart has the same one."""
    lines = ["#!/bin/sh", "set -eu", f'export VAULT_ADDR="${{VAULT_ADDR:-{address}}}"']
    if namespace:
        lines.append(f"export VAULT_NAMESPACE='{namespace}'")
    lines += [
        f"vault secrets list | grep -q '^{mount}/ ' || vault secrets enable -path='{mount}' transit",
        f"vault read '{mount}/keys/{key}' >/dev/null 2>&1 || vault write -f '{mount}/keys/{key}'",
    ]
    for name in _POLICIES:
        text = library.vault_policy(name).strip()
        text = text.replace("transit/", f"{mount}/").replace('/artifacts"', f'/{key}"')
        lines += [f"vault policy write sealgate-{name} - <<'POLICY'", text, "POLICY"]
    for role in roles:
        lines += [
            f"vault write 'auth/kubernetes/role/{role.name}' \\",
            f"  bound_service_account_names='{role.account}' \\",
            f"  bound_service_account_namespaces='{','.join(role.namespaces)}' \\",
            f"  token_policies='{role.policies}' token_ttl='1h'",
        ]
    return "\n".join(lines) + "\n"


def _write(directory: Path, files: Mapping[str, str]) -> None:
    for name in files:
        if os.path.lexists(directory / name):
            raise BadRequest(
                f"{directory / name} exists already", says="init", remedy="Name another directory, or remove it"
            )
    written: list[Path] = []
    try:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        reason = os.strerror(error.errno or 0).lower()
        raise BadRequest(f"{directory} cannot be written to: {reason}", says="init") from None


def _tell(directory: Path, storage: str, namespace: str) -> None:
    for name, what in (
        ("sealgate.yaml", "the configuration"),
        ("policies/own-namespace.yaml", "who may do what with which artifact"),
        ("values.yaml", "the same for the Helm chart"),
        ("vault.sh", "the key, the policies and the roles that Vault needs"),
    ):
        print(f"{directory / name!s:<44} {what}")
    variables = f"SEALGATE_CONFIG={directory}/sealgate.yaml SEALGATE_BACKEND_URL={storage}"
    print("\nNext, the first by whoever may write Vault's policies, the second where workflows run:")
    print(f"  sh {directory}/vault.sh")
    print(f"  {variables} sealgate doctor --plugin crypt --scratch {namespace}/.sealgate-doctor")

"""`sealgate init`: write the files of a first installation, and ask on the terminal for what is not given."""

from __future__ import annotations

import argparse
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
from sealgate.cli.exit_codes import DONE
from sealgate.errors import BadRequest, NotConfigured

SUMMARY = "write a configuration, a policy and Vault's commands for a first installation"
KEYS = """\
keys:
  provider: vault
  vault:
    address: {address}
{namespace}    mount: {mount}
    key: {key}
    # Log in with the pod's service account. Other methods: jwt, approle, token, tokenFile.
    auth: {{method: kubernetes, role: {role}, roles: {{gc: {gc_role}}}}}
  # How long a process keeps a data key that Vault unwrapped. Until then Vault is not asked again.
  cache: {{ttl: 10m, entries: 1024}}
"""
CONFIGURATION = """\
# Sealgate's configuration. docs/configuration.md has every setting.
apiVersion: sealgate/v1alpha1
kind: Sealgate

downstream:
  # The storage plugin that Sealgate wraps. The path of its socket is appended as its one argument. This is the bundled
  # plugin; SEALGATE_BACKEND_URL says where it stores:
  # {storage}
  # For a vendor's plugin: command: [/vendor/plugin]
  command: [sealgate, backend]

{keys}
# Which operations are allowed on which artifacts: files, directories, or documents in place, which suit a pod.
policies: [{policies}]

spool:
  # auto seals to a file beside the socket if the sealed copy fits there, and to a stream if it does not.
  transfer: auto
"""
VALUES = """\
# Values of the Helm chart. Add the image, and what the bucket needs: docs/install-helm.md.
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
# Which operations are allowed on which artifacts, and which key seals them. You can add more documents; a deny rule in
# one document wins over the allow rules of all.
apiVersion: sealgate/v1alpha1
kind: ArtifactPolicy
metadata:
  name: own-namespace
spec:
  defaultDecision: deny
  rules:
    # A pod reads and writes under its own namespace. The keyFormat of the artifact repository must begin with it.
    - name: own-prefix
      effect: allow
      match: {operations: ["*"], keys: ["${identity.namespace}/**"]}
    # Files that users upload in Argo's user interface are stored here.
    - name: uploads
      effect: allow
      match: {operations: [read, list, stat, delete], keys: ["uploads/${identity.namespace}/**"]}
    # Argo's server checks its users itself, and works for every namespace.
    - name: user-interface
      effect: allow
      match: {operations: [read, write, list, stat], identity: {components: [server], namespaces: [ARGO]}}
    # Vault must have confirmed the namespace and the service account when the pod logged in.
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
"""The whole value of each option must match. No shape lets a value leave its quotes in YAML or in a shell."""
_USER = re.compile(r"[a-z0-9]+://[^/?#]*@")
"""A URL with a user name, and usually a password."""


@dataclass(frozen=True, slots=True)
class _FirstInstallation:
    """The names and addresses that the written files share."""

    address: str
    """The URL of Vault or OpenBao."""
    storage: str
    """The URL of the storage, for the bundled backend."""
    namespaces: tuple[str, ...]
    """The Kubernetes namespaces in which workflows run."""
    mount: str
    key: str
    argo_namespace: str
    server_account: str
    vault_namespace: str


@dataclass(frozen=True, slots=True)
class _VaultRole:
    """A role of Vault, and the service account that may log in with it."""

    name: str
    account: str
    namespaces: tuple[str, ...]
    policies: str = "sealgate-saver,sealgate-loader"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate init` to `parser`."""
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", nargs="?", default=Path("sealgate"))
    parser.add_argument("--address", metavar="URL", help="the address of Vault or OpenBao; default: VAULT_ADDR")
    parser.add_argument("--storage", metavar="URL", help="where artifacts are stored; default: SEALGATE_BACKEND_URL")
    parser.add_argument(
        "--namespace", metavar="NAME", action="append", help="a namespace in which workflows run; may be repeated"
    )
    parser.add_argument("--mount", default="transit", help="the mount of Vault's Transit engine; default: %(default)s")
    parser.add_argument("--key", default="artifacts", help="the name of the key in it; default: %(default)s")
    parser.add_argument(
        "--argo-namespace",
        default="argo",
        metavar="NAME",
        help="the namespace of Argo itself; default: %(default)s",
    )
    parser.add_argument(
        "--server-account",
        default="argo-server",
        metavar="NAME",
        help="the service account of Argo's server; default: %(default)s",
    )


def run(options: argparse.Namespace) -> int:
    """Write all files into the directory, or none, and print the next steps.

    Raises:
        BadRequest: a file exists already, or a value does not have the shape of its option.
        NotConfigured: a value is missing, and there is no terminal to ask on.
    """
    installation = _installation(options, os.environ)
    _write(options.directory, _files(options.directory, installation))
    _print_next_steps(options.directory, installation)
    return DONE


def _installation(options: argparse.Namespace, environment: Mapping[str, str]) -> _FirstInstallation:
    """Collect and check every value."""
    address = _value("address", options.address, environment)
    storage = _value("storage", options.storage, environment)
    own_namespace = identity.asserted(environment).namespace or None
    namespaces = tuple(options.namespace or ()) or (_value("namespace", own_namespace, environment),)
    for name in ("mount", "key", "argo_namespace", "server_account"):
        _require_shape(name.replace("_", "-"), getattr(options, name))
    for namespace in namespaces:
        _require_shape("namespace", namespace)
    vault_namespace = environment.get("VAULT_NAMESPACE", "")
    if vault_namespace and not _SHAPES["mount"].fullmatch(vault_namespace.strip("/")):
        raise BadRequest("VAULT_NAMESPACE is not a path", says="environment", remedy="Correct VAULT_NAMESPACE")
    return _FirstInstallation(
        address,
        storage,
        namespaces,
        options.mount,
        options.key,
        options.argo_namespace,
        options.server_account,
        vault_namespace,
    )


def _value(name: str, given: str | None, environment: Mapping[str, str]) -> str:
    """Return the given value, or else the environment variable, or else the answer on the terminal."""
    value = given or environment.get(_VARIABLES.get(name, ""), "")
    if not value and sys.stdin.isatty():
        with suppress(EOFError):
            value = input(f"{_QUESTIONS[name]}: ").strip()
    if not value:
        variable = f", or set {_VARIABLES[name]}" if name in _VARIABLES else ""
        raise NotConfigured(
            f"the {name} is not given, and standard input is not a terminal to ask on",
            says="init",
            remedy=f"Give --{name}{variable}",
        )
    _require_shape(name, value)
    return value


def _require_shape(name: str, value: str) -> None:
    if _USER.match(value):
        # The text does not repeat the value, because it may contain a password.
        remedy = "Remove the part before the @, and set secrets where the program runs"
        raise BadRequest(f"the {name} contains a user name", says="init", remedy=f"{remedy}, not in --{name}")
    if not _SHAPES[name].fullmatch(value):
        raise BadRequest(f"{value!r} is not a valid {name}", says="init", remedy=f"Correct --{name}")


def _files(directory: Path, installation: _FirstInstallation) -> dict[str, str]:
    """Return the text of each file by its path in `directory`."""
    pods = _VaultRole("argo-artifacts", "argo-workflow", installation.namespaces)
    collection = _VaultRole("argo-artifacts-gc", "argo-artifact-gc", installation.namespaces, policies="")
    server = _VaultRole("argo-artifacts-server", installation.server_account, (installation.argo_namespace,))
    vault_namespace = installation.vault_namespace
    keys = KEYS.format(
        address=installation.address,
        namespace=f"    namespace: {vault_namespace}\n" if vault_namespace else "",
        mount=installation.mount,
        key=installation.key,
        role=pods.name,
        gc_role=collection.name,
    )
    policy = POLICY.replace("ARGO", json.dumps(installation.argo_namespace))
    policies = json.dumps(str(directory.absolute() / "policies"))
    values = VALUES.format(
        keys=textwrap.indent(keys, " " * 2),
        policy=textwrap.indent(policy.rstrip(), " " * 6),
        namespaces=json.dumps(installation.namespaces),
        argo_namespace=json.dumps(installation.argo_namespace),
        server=json.dumps(installation.server_account),
        url=json.dumps(installation.storage),
    )
    return {
        "sealgate.yaml": CONFIGURATION.format(storage=installation.storage, keys=keys, policies=policies),
        "policies/own-namespace.yaml": policy,
        "values.yaml": values,
        "vault.sh": _vault_commands(installation, (pods, collection, server)),
    }


def _vault_commands(installation: _FirstInstallation, roles: tuple[_VaultRole, ...]) -> str:
    """Return a script for Vault's administrator. The Helm chart prints the same commands."""
    mount, key = installation.mount, installation.key
    lines = ["#!/bin/sh", "set -eu", f'export VAULT_ADDR="${{VAULT_ADDR:-{installation.address}}}"']
    if installation.vault_namespace:
        lines.append(f"export VAULT_NAMESPACE='{installation.vault_namespace}'")
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
    """Write every file, or remove those that were written.

    Raises:
        BadRequest: a file exists already, or the directory cannot be written to.
    """
    for name in files:
        if os.path.lexists(directory / name):
            raise BadRequest(
                f"{directory / name} exists already", says="init", remedy="Name another directory, or remove the file"
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


def _print_next_steps(directory: Path, installation: _FirstInstallation) -> None:
    for name, content in (
        ("sealgate.yaml", "the configuration"),
        ("policies/own-namespace.yaml", "which operations are allowed on which artifacts"),
        ("values.yaml", "the same for the Helm chart"),
        ("vault.sh", "the key, the policies and the roles that Vault needs"),
    ):
        print(f"{directory / name!s:<44} {content}")
    variables = f"SEALGATE_CONFIG={directory}/sealgate.yaml SEALGATE_BACKEND_URL={installation.storage}"
    scratch = f"{installation.namespaces[0]}/.sealgate-doctor"
    print("\nNext, as an administrator of Vault, create the key, the policies and the roles:")
    print(f"  sh {directory}/vault.sh")
    print("Then check the installation, where workflows run:")
    print(f"  {variables} sealgate doctor --plugin crypt --scratch {scratch}")

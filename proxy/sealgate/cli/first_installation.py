"""The files of a first installation: a configuration, a policy, the chart's values, and a script for Vault."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

from sealgate import library

_KEYS = """\
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
_CONFIGURATION = """\
# Sealgate's configuration. docs/configuration.md has every setting.
apiVersion: sealgate/v1alpha1
kind: Sealgate

downstream:
  # The storage plugin that Sealgate wraps. This is the bundled one, in Sealgate's own process. In a process of its own,
  # which holds no keys: command: [sealgate, backend], with the url as SEALGATE_BACKEND_URL. For a vendor's plugin:
  # command: [/vendor/plugin]. The path of its socket is appended to a command as the last argument.
  builtin: {{url: {storage}}}

{keys}
# The Transit key that signs the audit trail, of the type ed25519.
audit: {{signingKey: {signing_key}}}

# Which operations are allowed on which artifacts: files, directories, or documents in place, which suit a pod.
policies: [{policies}]
"""
_VALUES = """\
# Values of the Helm chart. Add the image, and what the bucket needs: docs/install-helm.md.
configuration:
{keys}  audit: {{signingKey: {signing_key}}}
  policies:
    -
{policy}
environment:
  - {{name: SEALGATE_BACKEND_URL, value: {url}}}
tenants: {{namespaces: {namespaces}}}
argo:
  namespace: {argo_namespace}
  server: {{serviceAccount: {server}}}
# Refuses workflows that bypass Sealgate or name artifacts of other namespaces. It needs Argo's full CRDs.
admission: {{enabled: {admission}}}
"""
_POLICY = """\
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
    # Argo's server stores what users upload.
    - name: user-uploads
      effect: allow
      match:
        operations: [write, list, stat]
        keys: ["uploads/**"]
        identity: {components: [server], namespaces: [ARGO]}
USER_INTERFACE    # Vault must have confirmed the namespace and the service account when the pod logged in.
    - name: proven
      effect: require
      match: {operations: [read, write, delete]}
      require: {attestedIdentity: true}
  encryption:
    - {name: everything, write: required, readPlaintext: deny}
"""
_USER_INTERFACE = """\
    # Argo's server shows artifacts in its user interface. It checks whether a user may see a workflow, and the author
    # of the workflow chooses the keys in it. SAFE
    - name: user-interface
      effect: allow
      match:
        operations: [read, list, stat]
        keys: KEYS
        identity: {components: [server], namespaces: [ARGO]}
"""
_NO_USER_INTERFACE = """\
    # Argo's server may read no artifact. It checks whether a user may see a workflow, and the author of the workflow
    # chooses the keys in it: it could show the artifacts of another namespace. `init --shared-server` allows reading.
"""
_ONE_NAMESPACE = "There is one namespace, so none of another can be among them."
_ADMISSION = "The chart's admission policy (admission.enabled) must refuse those of another namespace."


@dataclass(frozen=True, slots=True)
class FirstInstallation:
    """The names and addresses that the written files share."""

    address: str
    """The URL of Vault or OpenBao."""
    storage: str
    """The URL of the storage, for the bundled backend."""
    namespaces: tuple[str, ...]
    """The Kubernetes namespaces in which workflows run."""
    mount: str
    key: str
    signing_key: str
    """The key that signs audit trails."""
    argo_namespace: str
    server_account: str
    vault_namespace: str
    shares_server: bool
    """Whether Argo's server may read the artifacts of several namespaces."""

    @property
    def server_reads(self) -> bool:
        """Whether Argo's server may read artifacts."""
        return self.shares_server or len(self.namespaces) == 1


@dataclass(frozen=True, slots=True)
class _VaultRole:
    """A role of Vault, and the service account that may log in with it."""

    name: str
    account: str
    namespaces: tuple[str, ...]
    policies: str = "sealgate-saver,sealgate-loader,sealgate-certifier"


def files_of(directory: Path, installation: FirstInstallation) -> dict[str, str]:
    """Return the text of each file by its path in `directory`."""
    pods = _VaultRole("argo-artifacts", "argo-workflow", installation.namespaces)
    collection = _VaultRole("argo-artifacts-gc", "argo-artifact-gc", installation.namespaces, "sealgate-certifier")
    server = _VaultRole("argo-artifacts-server", installation.server_account, (installation.argo_namespace,))
    vault_namespace = installation.vault_namespace
    keys = _KEYS.format(
        address=json.dumps(installation.address),
        namespace=f"    namespace: {json.dumps(vault_namespace)}\n" if vault_namespace else "",
        mount=json.dumps(installation.mount),
        key=json.dumps(installation.key),
        role=pods.name,
        gc_role=collection.name,
    )
    policy = _policy(installation)
    policies = json.dumps(str(directory.absolute() / "policies"))
    values = _VALUES.format(
        keys=textwrap.indent(keys, " " * 2),
        policy=textwrap.indent(policy.rstrip(), " " * 6),
        namespaces=json.dumps(installation.namespaces),
        argo_namespace=json.dumps(installation.argo_namespace),
        server=json.dumps(installation.server_account),
        url=json.dumps(installation.storage),
        signing_key=json.dumps(installation.signing_key),
        admission=json.dumps(installation.shares_server),
    )
    return {
        "sealgate.yaml": _CONFIGURATION.format(
            storage=json.dumps(installation.storage),
            keys=keys,
            policies=policies,
            signing_key=json.dumps(installation.signing_key),
        ),
        "policies/own-namespace.yaml": policy,
        "values.yaml": values,
        "vault.sh": _vault_commands(installation, (pods, collection, server)),
    }


def _policy(installation: FirstInstallation) -> str:
    keys = [f"{prefix}{namespace}/**" for namespace in installation.namespaces for prefix in ("", "uploads/")]
    rule = _USER_INTERFACE if installation.server_reads else _NO_USER_INTERFACE
    rule = rule.replace("SAFE", _ADMISSION if installation.shares_server else _ONE_NAMESPACE)
    text = _POLICY.replace("USER_INTERFACE", rule.replace("KEYS", json.dumps(keys)))
    return text.replace("ARGO", json.dumps(installation.argo_namespace))


def _vault_commands(installation: FirstInstallation, roles: tuple[_VaultRole, ...]) -> str:
    """Return a script for Vault's administrator. The Helm chart prints the same commands."""
    mount, key = installation.mount, installation.key
    lines = ["#!/bin/sh", "set -eu", f'export VAULT_ADDR="${{VAULT_ADDR:-{installation.address}}}"']
    if installation.vault_namespace:
        lines.append(f"export VAULT_NAMESPACE='{installation.vault_namespace}'")
    lines += [
        f"vault secrets list | grep -q '^{mount}/ ' || vault secrets enable -path='{mount}' transit",
        f"vault read '{mount}/keys/{key}' >/dev/null 2>&1 || vault write -f '{mount}/keys/{key}'",
    ]
    for name in ("saver", "loader", "rewrapper"):
        lines += _policy_commands(name, mount, "artifacts", key)
    signing = f"'{mount}/keys/{installation.signing_key}'"
    lines.append(f"vault read {signing} >/dev/null 2>&1 || vault write {signing} type=ed25519")
    for name in ("certifier", "auditor"):
        lines += _policy_commands(name, mount, "audit", installation.signing_key)
    for role in roles:
        lines += [
            f"vault write 'auth/kubernetes/role/{role.name}' \\",
            f"  bound_service_account_names='{role.account}' \\",
            f"  bound_service_account_namespaces='{','.join(role.namespaces)}' \\",
            f"  token_policies='{role.policies}' token_ttl='1h'",
        ]
    return "\n".join(lines) + "\n"


def _policy_commands(name: str, mount: str, shipped_key: str, key: str) -> list[str]:
    """Return the commands that write the shipped policy `name` with `mount`, and with `key` in place of its key."""
    text = library.vault_policy(name).strip().replace("transit/", f"{mount}/").replace(f'/{shipped_key}"', f'/{key}"')
    return [f"vault policy write sealgate-{name} - <<'POLICY'", text, "POLICY"]

"""Broken states, made for real, each with the one check of `sealgate doctor` that names it (docs/doctor.md)."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import pki
from harness.chain import SEALGATE, SECOND_VENDOR
from harness.doctor import Doctor, Report
from harness.openbao import OpenBao, Transit
from harness.s3 import Server, versitygw_at
from harness.users import with_read_only_root

NOTHING = 'path "nothing/of/this" { capabilities = ["read"] }'
_MAKING = '\npath "transit/datakey/plaintext/artifacts" { capabilities = ["update"] }'
ENCRYPT_ALONE = "\n".join(
    f'path "transit/{operation}/artifacts" {{ capabilities = ["update"] }}' for operation in ("encrypt", "decrypt")
)


@dataclass
class TlsServer:
    """A Vault with one listener for each of `addresses`, and what a client has to trust."""

    addresses: dict[str, str]
    trusted: Path


def start_tls_server(server: OpenBao, home: Path) -> TlsServer:
    """Start `server` with a certificate that is right, one for another host, and one that has expired."""
    root = pki.authority()
    shown = {
        "right": pki.server(root),
        "another host": pki.server(root, names=("vault.example",)),
        "expired": pki.server(root, begins=-3, ends=-1),
    }
    trusted, _ = root.write(home, "trusted")
    addresses = {
        name: server.add_tls_listener(*each.write(home, f"tls-{at}")) for at, (name, each) in enumerate(shown.items())
    }
    server.start()
    return TlsServer(addresses, trusted)


@dataclass
class Scene:
    """What a fault is made with."""

    doctor: Doctor
    openbao: OpenBao
    transit: Transit
    tls: TlsServer

    def vault(
        self,
        *policies: str,
        offline: bool = True,
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        more: dict[str, object] | None = None,
        **vault,
    ) -> Report:
        """Run doctor with keys of Vault, as an identity that has these policies. `more` are further settings."""
        token = (environment or {}).get("VAULT_TOKEN")
        if token is None:
            token = self.transit.token(*policies, no_default_policy=False)
        self.doctor.secrets += [token] if token else []
        settings = {"mount": self.transit.mount, "auth": {"method": "token"}, "timeout": "5s", **vault}
        given = {"VAULT_ADDR": self.transit.server.address, "VAULT_TOKEN": token, **(environment or {})}
        keys = {"provider": "vault", "vault": settings}
        return self.doctor(
            *arguments, *(("--offline",) if offline else ()), settings={"keys": keys, **(more or {})}, **given
        )

    def signing(self, key: str, *further: str) -> Report:
        """Run doctor with `key` as the key that signs the trail, as an identity with one more policy for each text."""
        policies = [*self.shipped("saver", "loader"), *map(self.transit.policy, further)]
        return self.vault(*policies, more={"audit": {"signingKey": key}})

    def policy_key(self, key: str) -> Report:
        """Run doctor with a policy that seals under `key`, as an identity that may use the configured key alone."""
        rule = {"name": "pci", "match": {"keys": ["pci/**"]}, "key": key}
        document = {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "ArtifactPolicy",
            "metadata": {"name": "keys"},
            "spec": {"encryption": [rule, {"name": "rest"}]},
        }
        return self.vault(*self.shipped("saver", "loader"), more={"policies": [document]})

    def without_disk(self, settings: dict[str, object]) -> Report:
        """Run doctor with a read-only disk, except for its own directories."""
        within = with_read_only_root(self.doctor.home, self.doctor.socket.parent.parent)
        return self.doctor("--socket", str(self.doctor.socket), "--offline", settings=settings, within=within)

    def shipped(self, *names: str) -> list[str]:
        return self.transit.shipped_policies(*names)

    def at(self, address: str, *, trusts: bool = True, **environment: str) -> Report:
        """Run doctor with another address of Vault."""
        given = {"VAULT_ADDR": address, **({"VAULT_CACERT": str(self.tls.trusted)} if trusts else {}), **environment}
        return self.vault(environment=given)

    def downstream(self, *command: str, **environment: str) -> Report:
        """Run doctor with this command as the downstream."""
        return self.doctor(settings={"downstream": {"command": list(command), "startTimeout": "20s"}}, **environment)

    def vendor(self, fault: str) -> Report:
        """Run doctor in front of a vendor's plugin that has this fault."""
        file = self.doctor.home / "configuration"
        file.write_text(f"fault: {fault}\n")
        return self.doctor("--configuration", str(file))

    def backend(self, store: str, **options: object) -> Report:
        """Run doctor in front of the bundled backend, with this store and these options."""
        given = {"SEALGATE_BACKEND_URL": store, "SEALGATE_BACKEND_CONFIG": json.dumps(options)}
        return self.downstream(*SEALGATE, "backend", **given)

    def external(self, *policies: str, **vault) -> Report:
        """Run doctor with a key that is in an HSM."""
        behind = self.transit.server.transit()
        self.transit.delete_key()
        self.transit.create_external_key("artifacts", behind)
        return self.vault(*policies, **vault)

    def plain(self, text: str) -> str:
        """Return `text` without what differs from run to run."""
        for address in (self.transit.server.address, *self.tls.addresses.values()):
            text = text.replace(address.partition("//")[2], "vault:8200")
        text = text.replace(self.transit.mount, "transit").replace(sys.executable, "/vendor/plugin")
        text = text.replace(str(self.tls.trusted), "/etc/ca.crt").replace(str(self.doctor.home), "/home")
        text = text.replace(str(self.doctor.socket.parent.parent), "/tmp")
        text = re.sub(r"127\.0\.0\.1:\d\d+", "127.0.0.1:9464", text)
        text = re.sub(r"\[d=[0-9a-f]{16}\]", "[d=53e1c0de53e1c0de]", text)
        text = re.sub(r"CONFIG_YAML:1:\d+", "CONFIG_YAML:1:17", text)
        text = re.sub(r"temporary files it has \d+ bytes", "temporary files it has 112 bytes", text)
        text = re.sub(r"/t{80}", "/a-long-name", re.sub(r"/d{85}d*", "/a-long-name", text))
        return re.sub(
            r"after [0-9.]+ s", "after 0.1 s", re.sub(r"\.sealgate-doctor/[0-9a-f]{16}", ".sealgate-doctor/…", text)
        )


Fault = tuple[str, Callable[[Scene], Report]]
"""The name of the check, and what makes the state and runs doctor in it."""


def _sealed(scene: Scene) -> Report:
    token = scene.transit.token()
    scene.openbao.seal()
    try:
        return scene.at(scene.openbao.address, VAULT_TOKEN=token)
    finally:
        scene.openbao.unseal()


def _two_variables(scene: Scene) -> Report:
    return scene.at(scene.tls.addresses["right"], VAULT_CACERT_BYTES=scene.tls.trusted.read_text())


def _underived(scene: Scene) -> Report:
    reading = 'path "transit/keys/artifacts" { capabilities = ["read"] }'
    return scene.vault(*scene.shipped("saver", "loader"), scene.transit.policy(reading), context="team-a")


def _nowhere(scene: Scene) -> Report:
    temporary = scene.doctor.home / ("t" * 80)
    temporary.mkdir()
    return scene.doctor("--socket", f"/tmp/{'d' * 85}/socket", "--offline", TMPDIR=str(temporary))


@contextmanager
def _store(scene: Scene) -> Iterator[Server]:
    root = scene.doctor.home / "buckets"
    root.mkdir()
    with versitygw_at(root) as store:
        yield store


def _without_bucket(scene: Scene) -> Report:
    with _store(scene) as store:
        return scene.backend("s3://no-such-bucket", **store.config())


def _elsewhere(scene: Scene) -> Report:
    with _store(scene) as other:
        down = other.config(endpoint="http://127.0.0.1:1", retry_timeout_seconds=0)
        given = {"SEALGATE_BACKEND_URL": f"s3://{other.new_bucket()}", "SEALGATE_BACKEND_CONFIG": json.dumps(down)}
        return scene.downstream(*SEALGATE, "backend", AWS_ENDPOINT_URL_S3=other.endpoint, **given)


def _taken(scene: Scene) -> Report:
    with socket.create_server(("127.0.0.1", 0)) as server:
        page = {"metrics": "prometheus", "prometheus": {"port": server.getsockname()[1]}}
        return scene.doctor("--offline", settings={"telemetry": page})


def _sealed_under_the_signing_key(scene: Scene) -> Report:
    scene.transit.create_key("audit", type="ed25519")
    using = ENCRYPT_ALONE.replace("artifacts", "audit") + _MAKING.replace("artifacts", "audit")
    return scene.vault(scene.transit.policy(using), key="audit")


def _https_store(scene: Scene) -> Report:
    with _store(scene) as store:
        endpoint = store.endpoint.replace("http://", "https://")
        return scene.backend("s3://bucket", **store.config(endpoint=endpoint, retry_timeout_seconds=0))


def _overwriting(scene: Scene) -> Report:
    document = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "ArtifactPolicy",
        "metadata": {"name": "once"},
        "spec": {
            "rules": [
                {"name": "all", "effect": "allow"},
                {"name": "once", "effect": "require", "require": {"overwrite": "deny"}},
            ]
        },
    }
    return scene.doctor(settings={"policies": [document]})


SERVER, MAKE, OPEN, KEY = "vault: server", "data key: make", "data key: open", "vault: key"
START, SAVE, SEALED, DELETE = "downstream: start", "storage: save", "storage: sealed", "storage: delete"
ABSENT, ONCE = "storage: absent keys", "storage: write once"
SOCKET, SECOND_SOCKET, SPOOL = "socket directory", "second socket", "spool"
SINKS, SIGNATURE, POLICY_KEYS, METRICS, LOGIN = (
    "audit: sinks", "audit: signature", "policies: keys", "metrics", "vault: login",
)  # fmt: skip
_ENDS = "import sys; sys.exit('the licence has run out')"
FAULTS: dict[str, Fault] = {
    "the configuration is not valid": ("configuration", lambda scene: scene.doctor(settings='{"apiVersion": [}')),
    "requirePolicy is yes": (
        "configuration",
        lambda scene: scene.doctor(settings="{apiVersion: sealgate/v1alpha1, kind: Sealgate, requirePolicy: yes}"),
    ),
    "nothing listens at Vault's address": (SERVER, lambda scene: scene.at("http://127.0.0.1:1")),
    "https:// in front of a server without TLS": (
        SERVER,
        lambda scene: scene.at(scene.transit.server.address.replace("http://", "https://")),
    ),
    "http:// in front of a server with TLS": (
        SERVER,
        lambda scene: scene.at(scene.tls.addresses["right"].replace("https://", "http://")),
    ),
    "a private authority that no setting names": (
        SERVER,
        lambda scene: scene.at(scene.tls.addresses["right"], trusts=False),
    ),
    "Vault's certificate is for another host": (SERVER, lambda scene: scene.at(scene.tls.addresses["another host"])),
    "Vault's certificate has expired": (SERVER, lambda scene: scene.at(scene.tls.addresses["expired"])),
    "caBundle has no certificate": (
        "configuration",
        lambda scene: scene.vault(caBundle="nothing", environment={"VAULT_ADDR": scene.tls.addresses["right"]}),
    ),
    "both VAULT_CACERT and VAULT_CACERT_BYTES": (SERVER, _two_variables),
    "Vault is sealed": (SERVER, _sealed),
    "VAULT_TOKEN is not set": (LOGIN, lambda scene: scene.vault(environment={"VAULT_TOKEN": ""})),
    "the role has no policy": (MAKE, lambda scene: scene.vault(scene.transit.policy(NOTHING))),
    "the key's name is mistyped": (MAKE, lambda scene: scene.vault(*scene.shipped("saver"), key="artifcats")),
    "the mount is mistyped": (OPEN, lambda scene: scene.vault(*scene.shipped("loader"), mount="trasnit")),
    "data is sealed under the key that signs": (MAKE, _sealed_under_the_signing_key),
    "policies allow encrypt and decrypt alone": (
        MAKE,
        lambda scene: scene.vault(scene.transit.policy(ENCRYPT_ALONE)),
    ),
    "the key is in an HSM or KMS": (MAKE, lambda scene: scene.external(*scene.shipped("saver", "loader"))),
    "the same, where the key may be read": (
        KEY,
        lambda scene: scene.external(*scene.shipped("saver", "loader", "rewrapper")),
    ),
    "a context with a key that is not derived": (KEY, _underived),
    "a policy names a key that the role may not use": (POLICY_KEYS, lambda scene: scene.policy_key("payments")),
    "a policy names a key that is mistyped": (POLICY_KEYS, lambda scene: scene.policy_key("artifcats")),
    "an audit file is on a read-only disk": (
        SINKS,
        lambda scene: scene.without_disk({"audit": {"sinks": [{"type": "file", "path": "/var/lib/audit.jsonl"}]}}),
    ),
    "an audit file is in a directory that is not there": (
        SINKS,
        lambda scene: scene.doctor(
            "--offline", settings={"audit": {"sinks": [{"type": "file", "path": "/no/such/audit.jsonl"}]}}
        ),
    ),
    "no key signs the audit trail": (SIGNATURE, lambda scene: scene.vault(*scene.shipped("saver", "loader"))),
    "the key that signs is not there, or the role may not use it": (SIGNATURE, lambda scene: scene.signing("audit")),
    "the key that signs is of another type": (
        SIGNATURE,
        lambda scene: scene.signing("artifacts", 'path "transit/sign/artifacts" { capabilities = ["update"] }'),
    ),
    "another program has the port of the metrics": (METRICS, _taken),
    "the spool is on a read-only disk": (
        SPOOL,
        lambda scene: scene.without_disk({"spool": {"directory": "/var/lib/spool"}}),
    ),
    "the path of the plugin's socket is too long": (
        SOCKET,
        lambda scene: scene.doctor("--socket", f"/tmp/{'d' * 97}/socket", "--offline"),
    ),
    "the path of the downstream's socket is too long everywhere": (SECOND_SOCKET, _nowhere),
    "the downstream's program is not there": (START, lambda scene: scene.downstream("/no/such/plugin")),
    "the downstream ends at once": (START, lambda scene: scene.downstream(sys.executable, "-c", _ENDS)),
    "the downstream crashes": (START, lambda scene: scene.downstream("sh", "-c", "kill -SEGV $$")),
    "the downstream's answer for an absent key is unclear": (
        ABSENT,
        lambda scene: scene.downstream(*SECOND_VENDOR, VENDOR_ABSENT="sorry: the drawer is vacant"),
    ),
    "the store of the bundled backend is down": (
        SAVE,
        lambda scene: scene.backend("s3://bucket", **Server("http://127.0.0.1:1").config(retry_timeout_seconds=0)),
    ),
    "the same, while a variable names a store that works": (SAVE, _elsewhere),
    "the bucket of the bundled backend is not there": (SAVE, _without_bucket),
    "the endpoint of the bundled backend is https://, and its server speaks http": (SAVE, _https_store),
    "the directory of the bundled backend is not there": (SAVE, lambda scene: scene.backend("file:///no/such")),
    "the endpoint of the bundled backend has no scheme": (
        SAVE,
        lambda scene: scene.backend("s3://bucket", **Server("http://store.example").config(endpoint="store.example")),
    ),
    "the endpoint of the bundled backend is http:// without allow_http": (
        SAVE,
        lambda scene: scene.backend("s3://bucket", **Server("http://store.example").config(allow_http=False)),
    ),
    "a policy denies overwriting, and the downstream has no create-only writes": (ONCE, _overwriting),
    "the downstream refuses to save": (SAVE, lambda scene: scene.vendor("refuse on Save")),
    "the downstream reports success and stores nothing": (SEALED, lambda scene: scene.vendor("forget on Save")),
    "the downstream reports success and deletes nothing": (DELETE, lambda scene: scene.vendor("forget on Delete")),
}


def rows(scene: Scene, name: str) -> list[list[str]]:
    """Make the state and run doctor. Return the cells for the page: the check, its fact, its remedy."""
    check, run = FAULTS[name]
    report = run(scene)
    found = [line for line in report.checks if line["check"] == check and line["state"] in {"FAILED", "warning"}]
    assert found, report.output
    return [[f"`{check}`", scene.plain(line["fact"]), scene.plain(line["remedy"])] for line in found[:1]]

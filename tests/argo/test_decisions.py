"""Each row of the decision table through the socket, with the identity and the storage of the row."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from harness.argo import Argo
from harness.chain import Proxy
from harness.library import Row, policy_text, rows, without_id
from harness.openbao import OpenBao
from harness.vault_logins import ServiceAccount, jwt

from sealgate.call import Call, Operation
from sealgate.envelope import MANIFEST, Manifest, new_header, seal_manifest, seal_stream
from sealgate.keys.local import LocalKeys
from sealgate.policy.encryption import Encryption
from sealgate.policy.engine import ProcessPolicy

ROWS = rows(small=True)
KEYS = ["default", "phi", "shared", "tenant-team-a", "tenant-ml-1", "main", "scratch", "curated"]
# A proven identity cannot be empty, so through the socket row 12 is decided like the row before it.
CODES = {"12": "IDENTITY"}
SOURCE, TARGET = "source", "target"


@dataclass
class Stage:
    """Proxies by policy and identity. Each is started for the first row that needs it."""

    home: Path
    stack: ExitStack
    bao: OpenBao | None = None
    proxies: dict[tuple[object, ...], Proxy] = field(default_factory=dict)

    def proxy(self, row: Row) -> Proxy:
        name = (row.policy, row.process.attested, *sorted(row.process.identity.items()))
        if name not in self.proxies:
            home = self.home / str(len(self.proxies))
            home.mkdir()
            write_keyring(home / "keyring.json")
            settings: dict[str, object] = {"policies": [str(home / "policy.yaml")]}
            (home / "policy.yaml").write_text(policy_text(row.policy, small=True))
            if row.process.attested and row.process.identity.get("namespace"):
                settings["keys"] = self.vault(home, row.process.identity)
            proxy = Proxy(home, settings=settings, environment=environment(row.process.identity)).start()
            self.stack.callback(proxy.stop)
            self.proxies[name] = proxy
        return self.proxies[name]

    def vault(self, home: Path, identity) -> dict[str, object]:
        """Return settings for keys from a server that proves the identity at login."""
        if self.bao is None:
            self.bao = OpenBao(self.home / "bao").start()
            self.stack.callback(self.bao.stop)
        transit = self.bao.transit()
        transit.create_key("pci-payments")
        account = ServiceAccount()
        claims = {
            "/kubernetes.io/namespace": "service_account_namespace",
            "/kubernetes.io/serviceaccount/name": "service_account_name",
        }
        rights = transit.policy(f'path "{transit.mount}/*" {{ capabilities = ["update"] }}')
        login = jwt(transit, account, home / "token", [rights], claim_mappings=claims)
        pod = {"namespace": identity["namespace"], "serviceaccount": {"name": identity["serviceAccount"]}}
        (home / "token").write_text(account.token(**{"kubernetes.io": pod}))
        settings = {
            "address": self.bao.address,
            "namespace": transit.namespace,
            "mount": transit.mount,
            "auth": {"method": "jwt", "role": login.role, "mount": login.mount, "jwtPath": str(home / "token")},
        }
        policy = home / "policy.yaml"
        policy.write_text(policy.read_text().replace("transit/keys", f"{transit.mount}/keys"))
        return {"provider": "vault", "vault": settings}


def write_keyring(path: Path) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    path.write_text(json.dumps({"keys": {name: {"latest": 1, "versions": {"1": key}} for name in KEYS}}))
    path.chmod(0o600)


def environment(identity) -> dict[str, str]:
    component = identity.get("component", "")
    container = {"init": "init-artifact-crypt", "sidecar": "artifact-plugin-crypt", "gc": "artifact-plugin-crypt"}
    found = {
        "SEALGATE_NAMESPACE": identity.get("namespace", ""),
        "SEALGATE_SERVICE_ACCOUNT": identity.get("serviceAccount", ""),
    }
    if component != "server":
        found["ARGO_WORKFLOW_NAME"] = identity.get("workflow", "some")
        found["ARGO_CONTAINER_NAME"] = container.get(component, "")
        found["ARGO_NODE_ID"] = "" if component == "gc" else "node"
    return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path_factory.mktemp("decisions"), stack)


def plant(proxy: Proxy, key: str, plaintext: bytes, sealed_at: int | None, under: str = "") -> Path:
    """Store an object under `key`, sealed at `sealed_at` with the key `under`, or in plaintext if that is None."""
    stored = proxy.storage / key
    stored.parent.mkdir(parents=True, exist_ok=True)
    if sealed_at is None:
        stored.write_bytes(plaintext)
        return stored
    data_key = LocalKeys(proxy.keyring).new_data_key(Call(Operation.SAVE), under)
    header = new_header(data_key.plaintext, data_key.wrapped, sealed_at=sealed_at)
    chunks = seal_stream(header, data_key.plaintext, key, iter([plaintext]))
    stored.write_bytes(b"".join(bytes(chunk) for chunk in chunks))
    return stored


def plant_tree(proxy: Proxy, key: str, files: dict[str, bytes], sealed_at: int, under: str = "") -> None:
    """Store a directory with its manifest under `key`, as a Save through Sealgate does."""
    data_key = LocalKeys(proxy.keyring).new_data_key(Call(Operation.SAVE), under)
    header = new_header(data_key.plaintext, data_key.wrapped, sealed_at=sealed_at)
    manifest = Manifest({path: len(content) for path, content in files.items()})
    sealed = {MANIFEST: seal_manifest(header, data_key.plaintext, key, manifest)}
    for path, content in files.items():
        sealed[path] = seal_stream(header, data_key.plaintext, f"{key}/{path}", iter([content]))
    for path, chunks in sealed.items():
        stored = proxy.storage / key / path
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(b"".join(bytes(chunk) for chunk in chunks))


def arrange_storage(proxy: Proxy, row: Row) -> None:
    """Store what the row says, and nothing else."""
    for left in proxy.storage.iterdir():
        shutil.rmtree(left)
    request, measures = row.request, row.measures
    asked = ProcessPolicy(row.documents, row.process).encryption(request)
    under = asked.key if isinstance(asked, Encryption) and asked.key in KEYS else ""
    if row.case.expect.code == "BAD_KEY":
        return
    if measures.listing:
        for number in range(measures.listing):
            plant(proxy, f"{request.key}/{number}", b"", None)
    elif measures.total:
        files = {str(number): bytes(measures.total // 3 + 1) for number in range(3)}
        plant_tree(proxy, request.key, files, int(time.time()), under)
    elif request.operation == "Delete":
        plant(proxy, request.key, b"x", None if measures.age is None else int(time.time()) - measures.age)
    elif request.operation in {"Load", "OpenStream"} or measures.exists:
        plant(proxy, request.key, b"what was stored", None if measures.sealed is False else int(time.time()), under)


def attempt(argo: Argo, proxy: Proxy, row: Row) -> None:
    key = row.request.key
    match row.request.operation:
        case "Save":
            source = proxy.work / SOURCE
            source.write_bytes(bytes(row.measures.bytes or 10))
            argo.save(key, source)
        case "Load":
            argo.load(key, proxy.work / TARGET)
        case "OpenStream":
            argo.open_stream(key)
        case "Delete":
            argo.delete(key)
        case "ListObjects":
            argo.list_objects(key)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_of_the_decision_table_holds_through_the_socket(stage, row):
    proxy = stage.proxy(row)
    arrange_storage(proxy, row)
    before = {path: path.read_bytes() for path in proxy.storage.rglob("*") if path.is_file()}
    expect, error = row.case.expect, None
    try:
        attempt(proxy.argo(), proxy, row)
    except grpc.RpcError as raised:
        error = raised
    target = proxy.work / TARGET
    after = {path: path.read_bytes() for path in proxy.storage.rglob("*") if path.is_file()}
    if expect.decision == "deny":
        assert error is not None
        code = CODES.get(row.number, expect.code)
        metadata = dict(error.trailing_metadata())
        assert error.code().name == ("INVALID_ARGUMENT" if code == "BAD_KEY" else "PERMISSION_DENIED"), error.details()
        assert metadata["sealgate-code"] == code, error.details()
        assert metadata["sealgate-decision-id"] in error.details()
        assert len(error.details().encode()) <= 400
        if row.number not in CODES and row.number != "40":
            assert without_id(error.details()) == row.refusal()
        assert not target.exists()
        assert after == before, "a refused call changed what is stored"
    else:
        assert error is None, error.details()
        if row.request.operation == "Load":
            assert target.read_bytes() == b"what was stored"
            target.unlink()
        if row.request.operation == "Save":
            stored = (proxy.storage / row.request.key).read_bytes()
            assert stored.startswith(b"\x89SEAL")
        if row.request.operation == "Delete":
            assert (proxy.storage / row.request.key).exists() == (expect.decision == "skip")
    if expect.decision == "allow" and expect.proposed == "deny":
        warned = f"key={row.request.key}, would_deny=" in proxy.output()
        assert warned == (row.number == "31"), "mode warn logs, and mode shadow does not"

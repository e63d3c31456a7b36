"""The faults of Vault while a proxy runs: each is caused on a real server and repaired again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import vault_logins as logins
from harness.chain import SEALGATE, Proxy, eventually, write_keyring
from harness.openbao import ApiError, OpenBao, Transit
from harness.stand import Stand

READING, WRITING = ("Load", "OpenStream"), ("Save", "SaveStream")
"""The operations that need a data key."""
OUTAGE = "2s"
"""The timeout for Vault where a call waits for a server that does not answer."""
TOKEN_LIVES = "2s"


class Scene:
    """A proxy with stored artifacts, and the Vault that its keys come from."""

    def __init__(self, openbao: OpenBao, account: logins.ServiceAccount, home: Path) -> None:
        self.openbao = openbao
        self.account = account
        self.home = home
        self.transit: Transit = openbao.transit()
        self.policies = self.transit.shipped_policies("saver", "loader")
        self.proxy: Proxy
        self.stand: Stand

    def begin(self, fault: Fault, **environment: str) -> None:
        cache = {"entries": 1024 if fault.remembered else 0}
        self.proxy = Proxy(
            self.home,
            settings={"keys": {**self.keys(fault.auth(self), timeout=fault.timeout), "cache": cache}},
            environment={"VENDOR_STREAMS": "1", **environment},
        ).start()
        self.stand = Stand(self.proxy, "team-a/model")

    def keys(self, auth: dict[str, str], **vault: Any) -> dict[str, Any]:
        vault = {"address": self.openbao.address, "mount": self.transit.mount, "auth": auth, **vault}
        return {"provider": "vault", "vault": vault}

    @property
    def stored(self) -> Path:
        return self.proxy.storage / self.stand.stored

    @contextmanager
    def sealed_under(self, keys: dict[str, Any]) -> Iterator[None]:
        """Replace the stored artifact by one that was sealed with other `keys`."""
        settings = {"apiVersion": "sealgate/v1alpha1", "kind": "Sealgate", "keys": keys}
        other, kept = self.home / "other", self.stored.read_bytes()
        environment = {
            "SEALGATE_CONFIG_YAML": json.dumps(settings),
            "VAULT_TOKEN": self.openbao.root,
            "PATH": os.environ["PATH"],
        }
        command = [*SEALGATE, "seal", str(self.stand.source), str(other), "--artifact-key", self.stand.stored]
        subprocess.run(command, env=environment, check=True)
        other.replace(self.stored)
        yield
        self.stored.write_bytes(kept)


def jwt(scene: Scene, **options: Any) -> dict[str, str]:
    login = logins.jwt(scene.transit, scene.account, scene.home / "jwt", scene.policies, **options)
    return {"method": "jwt", "role": login.role, "mount": login.mount, "jwtPath": str(login.jwt_path)}


def revocable(scene: Scene) -> dict[str, str]:
    return jwt(scene, token_type="service")


def short_lived(scene: Scene) -> dict[str, str]:
    return jwt(scene, token_ttl=TOKEN_LIVES)


def token_file(scene: Scene) -> dict[str, str]:
    (scene.home / "token").write_text(scene.transit.token(*scene.policies))
    return {"method": "tokenFile", "path": str(scene.home / "token")}


@dataclass(frozen=True)
class Fault:
    """A fault, and the status of reading and writing while it lasts."""

    cause: Callable[[Scene], AbstractContextManager[None]] = nullcontext
    reading: str = "OK"
    writing: str = "OK"
    timeout: str = "60s"
    auth: Callable[[Scene], dict[str, str]] = jwt
    remembered: bool = False
    """Whether the data key of the stored artifact is in the cache."""
    of_one_artifact: bool = False

    def status(self, operation: str) -> str:
        return self.reading if operation in READING else self.writing if operation in WRITING else "OK"


FAULTS: dict[str, Fault] = {}


def fault(name: str, **facts: Any):
    """Register a generator that causes a fault and, after its one yield, repairs it, also after a failed test."""

    def register(cause: Callable[[Scene], Iterator[None]]):
        @contextmanager
        def undone(scene: Scene) -> Iterator[None]:
            steps = cause(scene)
            next(steps)
            try:
                yield
            finally:
                next(steps, None)

        FAULTS[name] = Fault(undone, **facts)
        return cause

    return register


# --- the artifact was sealed under another key -----------------------------------------------------------


@fault(
    "the artifact was sealed under a key that the role may not use", reading="PERMISSION_DENIED", of_one_artifact=True
)
def another_key(scene: Scene):
    scene.transit.create_key("another")
    with scene.sealed_under(scene.keys({"method": "token"}, key="another")):
        yield


@fault("the artifact was sealed under a key of another mount", reading="FAILED_PRECONDITION", of_one_artifact=True)
def another_mount(scene: Scene):
    another = scene.openbao.transit(mount="another-transit")
    with scene.sealed_under(scene.keys({"method": "token"}, mount=another.mount)):
        yield
    scene.openbao.api("DELETE", f"sys/mounts/{another.mount}")


@fault("the artifact was sealed under a local keyring", reading="FAILED_PRECONDITION", of_one_artifact=True)
def local_keyring(scene: Scene):
    keyring = write_keyring(scene.home / "another-keyring.json")
    with scene.sealed_under({"provider": "local", "local": {"keyring": str(keyring)}}):
        yield


@fault("another Vault answers, with a mount and a key of the same names", reading="DATA_LOSS")
def another_vault(scene: Scene):
    with backed_up(scene):
        scene.transit.create_key("artifacts")
        yield
        scene.transit.delete_key()


# --- the key was changed ---------------------------------------------------------------------------------


@fault("the key was rotated")
def rotated(scene: Scene):
    scene.transit.rotate()
    yield


@fault("min_decryption_version was raised above the artifact's version", reading="FAILED_PRECONDITION")
def version_too_old(scene: Scene):
    scene.transit.rotate()
    scene.transit.configure(min_decryption_version=2)
    yield
    scene.transit.configure(min_decryption_version=1)


@fault("the key was deleted", reading="FAILED_PRECONDITION", writing="FAILED_PRECONDITION")
def deleted(scene: Scene):
    with backed_up(scene):
        yield


@fault("the key was soft-deleted", reading="FAILED_PRECONDITION", writing="FAILED_PRECONDITION")
def soft_deleted(scene: Scene):
    key = f"{scene.transit.mount}/keys/artifacts"
    scene.transit.configure(deletion_allowed=True)
    try:
        scene.openbao.api("DELETE", f"{key}/soft-delete")
    except ApiError as error:
        pytest.skip(f"this server has no soft deletion: {error}")
    yield
    scene.openbao.post(f"{key}/soft-delete-restore")


@contextmanager
def backed_up(scene: Scene) -> Iterator[None]:
    """Delete the key, and restore it from a backup at the end."""
    scene.transit.configure(exportable=True, allow_plaintext_backup=True)
    backup = scene.openbao.api("GET", f"{scene.transit.mount}/backup/artifacts")["data"]["backup"]
    scene.transit.delete_key()
    yield
    scene.openbao.post(f"{scene.transit.mount}/restore/artifacts", {"backup": backup})


# --- the role and its token ------------------------------------------------------------------------------


@fault("the role's policies were taken away", reading="PERMISSION_DENIED", writing="PERMISSION_DENIED")
def policy_taken_away(scene: Scene):
    path = [f"sys/policies/acl/{name}" for name in scene.policies]
    texts = [scene.openbao.api("GET", each)["data"]["policy"] for each in path]
    for each in path:
        scene.openbao.api("DELETE", each)
    yield
    for each, text in zip(path, texts, strict=True):
        scene.openbao.api("PUT", each, {"policy": text})


@fault(
    "the role was deleted and its tokens revoked",
    reading="PERMISSION_DENIED",
    writing="PERMISSION_DENIED",
    auth=revocable,
)
def role_deleted(scene: Scene):
    mount = login_mount(scene)
    role = f"auth/{mount}/role/{logins.ROLE}"
    kept = scene.openbao.api("GET", role)["data"]
    scene.openbao.api("DELETE", role)
    scene.openbao.post(f"sys/leases/revoke-prefix/auth/{mount}")
    yield
    scene.openbao.post(role, kept)


@fault("the process's token was revoked", auth=revocable)
def token_revoked(scene: Scene):
    scene.openbao.post(f"sys/leases/revoke-prefix/auth/{login_mount(scene)}")
    yield


@fault("the process's token expired", auth=short_lived)
def token_expired(scene: Scene):
    # The token of the process was issued before this one, so it expires first.
    login = {"role": logins.ROLE, "jwt": (scene.home / "jwt").read_text().strip()}
    await_expiry(scene, scene.openbao.post(f"auth/{login_mount(scene)}/login", login)["auth"]["client_token"])
    yield


@fault("the token in a token file expired", reading="PERMISSION_DENIED", writing="PERMISSION_DENIED", auth=token_file)
def token_of_a_file_expired(scene: Scene):
    token = scene.transit.token(*scene.policies, ttl=TOKEN_LIVES)
    (scene.home / "token").write_text(token)
    await_expiry(scene, token)
    yield
    (scene.home / "token").write_text(scene.transit.token(*scene.policies))


def login_mount(scene: Scene) -> str:
    return scene.proxy.settings["keys"]["vault"]["auth"]["mount"]


def await_expiry(scene: Scene, token: str) -> None:
    def refused() -> bool:
        try:
            scene.transit.post(f"{scene.transit.mount}/datakey/plaintext/artifacts", token=token)
        except ApiError as error:
            return error.status == 403
        return False

    assert eventually(refused)


# --- the server ------------------------------------------------------------------------------------------


@fault("Vault is sealed", reading="UNAVAILABLE", writing="UNAVAILABLE", timeout=OUTAGE)
def sealed(scene: Scene):
    scene.openbao.seal()
    yield
    scene.openbao.unseal()


@fault("Vault is sealed, and the data key is in the cache", writing="UNAVAILABLE", timeout=OUTAGE, remembered=True)
def sealed_and_remembered(scene: Scene):
    yield from sealed(scene)


@fault("Vault hangs (SIGSTOP)", reading="UNAVAILABLE", writing="UNAVAILABLE", timeout=OUTAGE)
def hangs(scene: Scene):
    scene.openbao.freeze()
    yield
    scene.openbao.thaw()


@fault("Vault was killed", reading="UNAVAILABLE", writing="UNAVAILABLE", timeout=OUTAGE)
def killed(scene: Scene):
    scene.openbao.stop()
    yield
    scene.openbao.start()


@fault("Vault was killed and started again")
def started_again(scene: Scene):
    scene.openbao.stop()
    scene.openbao.start()
    yield


@fault("a rate-limit quota is exhausted (429)", reading="UNAVAILABLE", writing="UNAVAILABLE", timeout="1s")
def quota(scene: Scene):
    name = f"sys/quotas/rate-limit/{scene.transit.mount}"
    scene.openbao.post(name, {"path": f"{scene.transit.mount}/", "rate": 0.001, "interval": "1m"})

    def exhausted() -> bool:
        try:
            scene.transit.post(f"{scene.transit.mount}/datakey/plaintext/artifacts")
        except ApiError as error:
            return error.status == 429
        return False

    assert eventually(exhausted)
    yield
    scene.openbao.api("DELETE", name)

"""Real processes through normal work and every fault: nothing that they write, print or pass on contains a secret."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from harness import vault_logins as logins
from harness.chain import SEALGATE, TESTS, VENDOR, eventually
from harness.outcome import outcome
from harness.secrecy import Secrets, forms
from harness.vault_causes import FAULTS, Fault, Scene, jwt, token_file

from sealgate.envelope import read_header

PLAINTEXT = b"What team-a knows, and team-b shall not. "
DATA = PLAINTEXT * 5000


def approle(scene: Scene) -> dict[str, str]:
    login = logins.approle(scene.transit, scene.home, scene.policies)
    file = str(login.secret_id_file)
    return {"method": "approle", "roleId": login.role_id, "secretIdFile": file, "mount": login.mount}


def short_and_revocable(scene: Scene) -> dict[str, str]:
    return jwt(scene, token_type="service", token_ttl="2s")


def from_the_environment(_: Scene) -> dict[str, str]:
    return {"method": "token"}


METHODS = {auth.__name__: auth for auth in (short_and_revocable, approle, from_the_environment, token_file)}


class Day:
    """One proxy, the operations on it, and everything that it writes."""

    def __init__(self, scene: Scene, auth: Callable[[Scene], dict[str, str]]) -> None:
        self.scene = scene
        self.token = scene.transit.token(*scene.policies)
        self.seen: list[bytes | str] = []
        self._private = [scene.home / name for name in ("tmp", "user")]
        for directory in self._private:
            directory.mkdir()
        tmp, user = map(str, self._private)
        scene.begin(Fault(auth=auth, timeout="1s"), TMPDIR=tmp, HOME=user, VAULT_TOKEN=self.token)
        scene.stand.source.write_bytes(DATA)

    def operations(self) -> dict[str, Callable[[], object]]:
        argo, stand = self.scene.proxy.argo(), self.scene.stand
        return {
            **stand.tries(argo),
            "SaveStream": lambda: argo.save_stream(stand.new, DATA),
            "Delete": lambda: argo.delete("team-a/nothing"),
        }

    def works(self, *names: str) -> bool:
        """Return whether these operations succeed, by default all. Remove what they load, and keep what they store."""
        self.scene.stand.target.unlink(missing_ok=True)
        operations = self.operations()
        return {self.result_of(operations[name]) for name in names or operations} == {"OK"}

    def result_of(self, do: Callable[[], object]) -> str:
        found = outcome(do)
        self.seen.append(found.text)
        return found.code

    def fails(self, fault: Fault) -> None:
        with fault.cause(self.scene), ThreadPoolExecutor() as pool:
            self.scene.stand.target.unlink(missing_ok=True)
            failed = set(pool.map(self.result_of, self.operations().values())) - {"OK"}
        assert failed <= {fault.reading, fault.writing}
        assert bool(failed) == ({fault.reading, fault.writing} != {"OK"})
        assert eventually(lambda: self.works("Load", "Save"))

    def read_processes(self) -> None:
        process = psutil.Process(self.scene.proxy.process.pid)
        children = process.children(recursive=True)
        assert len(children) == 2, "the guardian and the downstream"
        self.seen.append(of_process(process.pid, "cmdline"))
        self.seen += [of_process(child.pid, fact) for child in children for fact in ("cmdline", "environ")]

    def read_spool(self) -> None:
        """Read the spool while a Save of a directory is in progress."""
        scene = self.scene
        tree = scene.proxy.work / "tree"
        tree.mkdir()
        shutil.copy(scene.stand.source, tree / "file")
        argo = scene.proxy.argo("fault: hang on Save\n")
        with ThreadPoolExecutor() as pool:
            saving = pool.submit(outcome, lambda: argo.save(f"{scene.stand.new}-tree", tree))
            assert eventually(lambda: "hang on Save of " in scene.proxy.output())
            spooled = [file.read_bytes() for path in scene.proxy.spools() for file in files(path)]
            assert any(len(data) > len(DATA) for data in spooled)
            self.seen += spooled
            argo.close()
            assert saving.result().code == grpc.StatusCode.CANCELLED.name

    def places(self) -> list[Path]:
        """Return where the processes may have written, except the root of Argo's paths."""
        proxy = self.scene.proxy
        return [proxy.log, proxy.storage, proxy.socket.parent, *self._private]

    def written(self) -> list[bytes | str]:
        return [*self.seen, *(file.read_bytes() for place in self.places() for file in files(place))]

    def data_keys(self) -> Iterator[bytes]:
        """Yield the data key of each stored object, opened by the server without the code under test."""
        for path in files(self.scene.proxy.storage / "team-a"):
            with path.open("rb") as file:
                header, _ = read_header(lambda size, offset, file=file: os.pread(file.fileno(), size, offset))
            yield self.scene.transit.decrypt(header.key)


def of_process(number: int, fact: str) -> bytes:
    return Path(f"/proc/{number}/{fact}").read_bytes()


def files(place: Path) -> list[Path]:
    return [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]


def by_hand(day: Day) -> None:
    """Run the commands of an administrator, first with rights and then without."""
    scene = day.scene
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"command": VENDOR},
        "keys": scene.keys({"method": "token"}, timeout="5s"),
    }
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(TESTS.parent),
        "SEALGATE_CONFIG_YAML": json.dumps(settings),
        "VENDOR_ROOT": str(scene.proxy.storage),
    }

    def run(*arguments: str, token: str = day.token) -> int:
        more = {"env": {**environment, "VAULT_TOKEN": token}, "cwd": scene.home}
        done = subprocess.run([*SEALGATE, *arguments], capture_output=True, check=False, **more)
        day.seen.extend((done.stdout, done.stderr))
        return done.returncode

    assert run("seal", str(scene.stand.source), "by-hand", "--unbound") == 0
    assert run("inspect", "by-hand") == 0
    assert run("open", "by-hand", "opened") == 0
    scene.transit.rotate()
    rewrapper = scene.transit.token(*scene.transit.shipped_policies("rewrapper"))
    assert run("rewrap", "team-a", "--output", "json", token=rewrapper) == 0
    scene.transit.rotate()
    assert run("doctor", "--output", "json") == 0
    for command in (("open", "by-hand", "in-vain"), ("rewrap", "team-a"), ("doctor",)):
        assert run(*command, token="hvs.a-token-that-was-never-issued") != 0
    day.seen.append((scene.home / "by-hand").read_bytes())


def secrets_of(server_saw: list[dict], days: list[Day]) -> Secrets:
    """Return every secret that the server received or sent, from its raw audit log, and its root token."""
    secrets = Secrets()
    secrets.add("plaintext", PLAINTEXT)
    secrets.add("token", days[0].scene.openbao.root)
    secrets.add("token", "hvs.a-token-that-was-never-issued")
    names = {"client_token": "token", "jwt": "JWT", "secret_id": "secret id", "plaintext": "data key"}
    for record in server_saw:
        parts = [record.get("auth"), record["request"], record["request"].get("data")]
        answer = record.get("response") or {}
        parts += [answer.get("auth"), answer.get("data")]
        for part in filter(None, parts):
            for field, name in names.items():
                if isinstance(part.get(field), str) and part[field] != "":
                    secrets.add(name, part[field])
    for day in days:
        for data_key in day.data_keys():
            secrets.add("data key", data_key)
    return secrets


def test_no_secret_is_written_during_normal_work_and_every_fault(openbao, account, tmp_path):
    before = openbao.audit_size("raw")
    days: list[Day] = []
    try:
        for name, auth in METHODS.items():
            (tmp_path / name).mkdir()
            days.append(Day(Scene(openbao, account, tmp_path / name), auth))
            day = days[-1]
            day.scene.proxy.argo().save(day.scene.stand.stored, day.scene.stand.source)
            assert day.works()
            day.read_processes()
            day.read_spool()
        for fault in FAULTS.values():
            if fault.reading == "OK":
                continue
            with contextlib.suppress(pytest.skip.Exception):  # the server does not support this fault
                days[-1 if fault.auth is token_file else 0].fails(fault)
        for day in days[1:]:
            day.fails(FAULTS["the role's policies were taken away"])
        by_hand(days[-1])
        secrets = secrets_of(openbao.audit("raw", since=before), days)
        assert secrets.names() == {"plaintext", "token", "JWT", "secret id", "data key"}
        for day in days:
            assert secrets.found_in(*day.written()) == set()
            work = [path.read_bytes() for path in files(day.scene.proxy.work)]
            assert secrets.found_in(*work) == {"plaintext"}, "Argo asked for the plaintext"
        assert_would_be_found(secrets, days[1])
    finally:
        for day in days:
            day.scene.proxy.stop()


def assert_would_be_found(secrets: Secrets, day: Day) -> None:
    """Check that a secret in any of the places would be found."""
    secret_id = (day.scene.home / "secret-id").read_text().strip()
    for place in day.places():
        planted = place if place.is_file() else place / "planted"
        kept = planted.read_bytes() if planted.exists() else None
        planted.write_bytes((kept or b"") + b"secret_id=" + secret_id.encode() + b"\n")
        assert secrets.found_in(*day.written()) == {"secret id"}, place
        planted.write_bytes(kept) if kept is not None else planted.unlink()


SECRET = bytes(range(150, 182))


@pytest.mark.parametrize("form", list(forms(SECRET)))
@pytest.mark.parametrize("around", [b"", b"x", b"yz"])
def test_a_secret_is_found_in_each_way_of_writing_it(form, around):
    secrets = Secrets()
    secrets.add("data key", SECRET)
    assert secrets.found_in(around + form + around) == {"data key"}
    assert secrets.found_in(bytes(32), "nothing") == set()


@pytest.mark.parametrize("fact", ["cmdline", "environ"])
def test_a_secret_that_a_process_is_given_is_found(fact):
    secrets = Secrets()
    secrets.add("token", "hvs.a-token-that-was-never-issued")
    given = "hvs.a-token-that-was-never-issued"
    arguments = ["sh", "-c", "read nothing", *([given] if fact == "cmdline" else [])]
    environment = {"PATH": os.environ["PATH"], **({"TOKEN": given} if fact == "environ" else {})}
    with subprocess.Popen(arguments, env=environment, stdin=subprocess.PIPE) as process:
        # Arguments and environment are visible a moment after the process has become the program.
        assert eventually(lambda: all(of_process(process.pid, each) for each in ("cmdline", "environ")))
        found = {each: secrets.found_in(of_process(process.pid, each)) for each in ("cmdline", "environ")}
    assert found == {"cmdline": set(), "environ": set(), fact: {"token"}}


@pytest.mark.parametrize("around", range(4))
def test_a_secret_is_found_within_something_longer_that_was_encoded(around):
    secrets = Secrets()
    secrets.add("data key", SECRET)
    longer = os.urandom(around) + SECRET + os.urandom(around)
    for form in forms(longer):
        assert secrets.found_in(form) == {"data key"}

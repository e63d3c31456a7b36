"""`sealgate demo`: send an artifact through the whole chain on this machine, and check and explain each step."""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sealgate.call import Call, Operation
from sealgate.cli.exit_codes import BAD_USAGE, DONE, NOT_SO
from sealgate.cli.progress import Progress
from sealgate.errors import DownstreamStatus
from sealgate.plugin import Artifact
from sealgate.rpc.client import Downstream
from sealgate.rpc.endpoint import Endpoint

SUMMARY = "show the whole chain on this machine; needs no configuration"
_KEY = "team-a/train-7x2p/model.bin"
_OTHER_KEY = "team-a/train-7x2p/metrics.bin"
_START_SECONDS = 30.0
_POLICY = {
    "apiVersion": "sealgate/v1alpha1",
    "kind": "ArtifactPolicy",
    "metadata": {"name": "demo"},
    "spec": {
        "rules": [
            {"name": "everybody", "effect": "allow"},
            {
                "name": "no-secrets",
                "effect": "deny",
                "match": {"keys": ["**/*.pem"]},
                "message": "do not store credentials as artifacts",
            },
        ]
    },
}
_SHOWN = 32
"""Bytes that a step shows of a file."""
_SAMPLE_SIZE = 3_000_000
"""About the size of the generated artifact in bytes."""


class _UnexpectedResult(Exception):
    """A step of the demo had another result than the one that it describes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate demo` to `parser`."""
    parser.add_argument("--file", type=Path, metavar="FILE", help="send this file instead of a generated one")


def run(options: argparse.Namespace) -> int:
    """Run every step, and return 0 if each had the result that it describes."""
    file = options.file
    if file is not None and not file.is_file():
        print(f"sealgate demo: {file} is not a file", file=sys.stderr)
        return BAD_USAGE
    try:
        with tempfile.TemporaryDirectory(prefix="sealgate-demo-") as made, _chain(Path(made)) as chain:
            for number, step in enumerate(chain.steps(file), start=1):
                print(f"{number}. {step.__doc__}", flush=True)
                chain.show(step)
                print()
    except _UnexpectedResult as fault:
        print(f"   FAILED: {fault}", file=sys.stderr)
        return NOT_SO
    except DownstreamStatus as fault:
        print(f"   FAILED: {fault.code}: {fault.fact}", file=sys.stderr)
        return NOT_SO
    print("Every step had the result that it describes.")
    return DONE


@contextmanager
def _chain(home: Path) -> Iterator[_Walkthrough]:
    """Start a proxy with the bundled backend as Argo would, and connect a client in Argo's place."""
    for name in ("storage", "work", "plugins/crypt"):
        (home / name).mkdir(parents=True)
    _write_keyring(home / "keyring.json")
    configuration = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"builtin": {"url": f"file://{home}/storage"}},
        "keys": {"provider": "local", "local": {"keyring": str(home / "keyring.json")}},
        "paths": {"roots": [str(home / "work")]},
        "policies": [_POLICY],
    }
    (home / "sealgate.json").write_text(json.dumps(configuration, indent=2))
    environment = {**os.environ, "SEALGATE_CONFIG": str(home / "sealgate.json")}
    for name in ("SEALGATE_CONFIG_YAML", "SEALGATE_BACKEND_URL", "SEALGATE_BACKEND_CONFIG"):
        environment.pop(name, None)
    socket = home / "plugins/crypt/socket"
    with (home / "log").open("wb") as log, (home / "audit.jsonl").open("wb") as trail:
        command = [sys.executable, "-m", "sealgate", "serve", str(socket)]
        proxy = subprocess.Popen(command, env=environment, stdout=trail, stderr=log)
        try:
            with closing(Downstream(Endpoint(socket, _START_SECONDS))) as client:
                yield _Walkthrough(home, client, environment)
        except Exception:
            print((home / "log").read_text(errors="replace"), file=sys.stderr)
            raise
        finally:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait()


def _write_keyring(path: Path) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump({"keys": {"default": {"latest": 1, "versions": {"1": key}}}}, file)


class _Walkthrough:
    """The steps of the demo. The docstring of a step is the line that introduces it on the screen."""

    def __init__(self, home: Path, client: Downstream, environment: dict[str, str]) -> None:
        self._trail = home / "audit.jsonl"
        self._environment = environment
        self._work = home / "work"
        self._storage = home / "storage"
        self._client = client
        self._plain = b""
        self._lines: list[str] = []

    def show(self, step: Callable[[], None]) -> None:
        """Carry out `step`, and print what it says once it ends, because until then a line shows that it runs."""
        try:
            with Progress("running"):
                step()
        finally:
            print("".join(f"   {line}\n" for line in self._lines), end="")
            self._lines.clear()

    def steps(self, file: Path | None) -> Iterator[Callable[[], None]]:
        """Write the artifact (`file`, or a generated one), and yield every step in order."""
        self._sent = self._work / "model.bin"
        if file is None:
            line = b"confidential: weights of the fraud model, layer %06d\n"
            self._sent.write_bytes(b"".join(line % n for n in range(_SAMPLE_SIZE // len(line))))
        else:
            self._sent.write_bytes(file.read_bytes())
        self._plain = self._sent.read_bytes()
        yield from (
            self.start,
            self.save,
            self.storage,
            self.load,
            self.stream,
            self.tamper,
            self.swap,
            self.cut,
            self.climb,
            self.deny,
            self.delete,
            self.audit,
            self.forge,
        )

    def start(self) -> None:
        """Start the proxy with the bundled storage plugin in its process."""
        if not self._client.get_capabilities(Call(Operation.GET_CAPABILITIES)).save_stream:
            raise _UnexpectedResult("the proxy offers no SaveStream")
        self._say("Argo would talk to it on a Unix socket; a vendor's plugin would be behind it, on a second one")

    def save(self) -> None:
        """Save an artifact, as a workflow step does with its output."""
        self._client.save(Call(Operation.SAVE), Artifact(_KEY, name="model"), self._sent)
        self._say(f"{len(self._plain):,} bytes saved as {_KEY}")
        self._say(f"the workflow's file begins   {self._plain[:_SHOWN]!r}")

    def storage(self) -> None:
        """Read what is in storage, as its administrator could."""
        stored = self._stored(_KEY).read_bytes()
        if self._plain[:64] and self._plain[:64] in stored:
            raise _UnexpectedResult("plaintext is in storage")
        self._say(f"{len(stored):,} bytes in storage, which begin   {stored[:8]!r}, the signature of a sealed file")
        self._say(f"and continue after the header like this   {stored[-_SHOWN:].hex(' ', 4)}")

    def load(self) -> None:
        """Load the artifact, as the next step of the workflow does with its input."""
        loaded = self._work / "loaded.bin"
        self._client.load(Call(Operation.LOAD), Artifact(_KEY, name="model"), loaded)
        self._require(loaded.read_bytes() == self._plain, "the loaded file differs")
        self._say("the loaded file equals the saved one, byte for byte")

    def stream(self) -> None:
        """Stream the artifact, as Argo's user interface does for a download."""
        with closing(self._client.open_stream(Call(Operation.OPEN_STREAM), Artifact(_KEY))) as chunks:
            self._require(b"".join(chunks) == self._plain, "the streamed bytes differ")
        self._say("the streamed bytes equal the saved ones, and each segment was verified before it was sent")

    def tamper(self) -> None:
        """Flip one bit in storage, and load again."""
        stored = self._stored(_KEY)
        original = stored.read_bytes()
        stored.write_bytes(original[:-20] + bytes([original[-20] ^ 1]) + original[-19:])
        self._refused("DATA_LOSS", lambda: self._load(_KEY))
        stored.write_bytes(original)

    def swap(self) -> None:
        """Copy the object to the key of another artifact, and load that one."""
        other = self._stored(_OTHER_KEY)
        other.write_bytes(self._stored(_KEY).read_bytes())
        self._refused("DATA_LOSS", lambda: self._load(_OTHER_KEY))
        other.unlink()

    def cut(self) -> None:
        """Cut off the end of the object, and load again."""
        stored = self._stored(_KEY)
        original = stored.read_bytes()
        stored.write_bytes(original[:-100])
        self._refused("DATA_LOSS", lambda: self._load(_KEY))
        stored.write_bytes(original)

    def climb(self) -> None:
        """Load a key with `..` in it. Such a key is refused whatever the policy says."""
        self._refused("INVALID_ARGUMENT", lambda: self._load("team-a/../team-b/model.bin"))

    def deny(self) -> None:
        """Save a private key, which the policy denies."""
        key = _KEY.replace("model.bin", "server.pem")
        self._refused("PERMISSION_DENIED", lambda: self._client.save(Call(Operation.SAVE), Artifact(key), self._sent))
        self._require(not self._stored(key).exists(), "a denied Save stored something")

    def delete(self) -> None:
        """Delete the artifact, as garbage collection does."""
        self._client.delete(Call(Operation.DELETE), Artifact(_KEY))
        self._require(not self._stored(_KEY).exists(), "the object is still in storage")
        self._say("the object is gone from storage")

    def audit(self) -> None:
        """Verify the audit trail, which holds the records of every step."""
        done = self._verify(self._trail)
        self._require(done.returncode == 0, done.stdout)
        for line in done.stdout.splitlines():
            self._say(line)

    def forge(self) -> None:
        """Change a denial in the trail to an allowed access, and verify again."""
        changed = self._work / "changed.jsonl"
        text = self._trail.read_text()
        changed.write_text(text.replace('"action":"Denied"', '"action":"Allowed"', 1))
        done = self._verify(changed)
        self._require(done.returncode == 1, "a changed trail was verified")
        self._say(next(line for line in done.stdout.splitlines() if line.startswith("altered")))

    def _verify(self, trail: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sealgate", "audit", "verify", str(trail)]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)

    def _stored(self, key: str) -> Path:
        return self._storage / key

    def _load(self, key: str) -> None:
        self._client.load(Call(Operation.LOAD), Artifact(key), self._work / "refused.bin")

    def _refused(self, code: str, attempt: Callable[[], None]) -> None:
        try:
            attempt()
        except DownstreamStatus as answer:
            self._require(answer.code == code, f"the answer was {answer.code}: {answer.fact}")
            self._require(not (self._work / "refused.bin").exists(), "a refused Load left a file")
            self._say(f"refused: {answer.code}")
            self._say(answer.fact)
            self._say("no file was left behind")
        else:
            raise _UnexpectedResult("the call was not refused")

    @staticmethod
    def _require(condition: bool, otherwise: str) -> None:
        if not condition:
            raise _UnexpectedResult(otherwise)

    def _say(self, text: str) -> None:
        self._lines.append(text)

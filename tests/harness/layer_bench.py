"""A stack without gRPC: the layer that decides, around the layer that seals, around a plugin in memory."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from harness.counting_keys import CountingKeys
from harness.memory_plugin import MemoryPlugin
from harness.policy import document, documents

from sealgate import envelope
from sealgate.call import Call, Operation
from sealgate.errors import Denied, PluginError
from sealgate.layers.governed import Governed
from sealgate.layers.sealed import Sealed
from sealgate.plugin import Artifact
from sealgate.policy.load import Installation
from sealgate.policy.rules import Process
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import Transfer

NOW = 2_000_000_000
DAY, MIB = 86_400, 1 << 20
WAYS = pytest.mark.parametrize("transfer", [Transfer.FILE, Transfer.STREAM])
ALLOW = {"effect": "allow"}
KEYS = ("default", "one", "two", "tenant-team-a")


class Bench:
    """The stack, a directory for local files, and the last call."""

    def __init__(self, home: Path, *written: dict, transfer=Transfer.AUTO, below=None, process=Process({}), **allowed):  # noqa: B008 - the default is frozen
        self.work = home / "work"
        self.work.mkdir(parents=True)
        self.below = below or MemoryPlugin()
        keyring = home / "keyring.json"
        secret = "A" * 43 + "="
        keyring.write_text(json.dumps({"keys": {n: {"latest": 1, "versions": {"1": secret}} for n in KEYS}}))
        keyring.chmod(0o600)
        self.keys = CountingKeys(keyring)
        self.sealed = Sealed(
            self.below, self.keys, roots=Roots([self.work]), spool=Spool(home / "spool"), transfer=transfer
        )
        policies = documents(*written, installation=Installation("transit", **allowed))
        self.process = process
        self.now: float = NOW
        self.governed = Governed(
            self.sealed, policies, identify=lambda _: self.process, stored=self.sealed.stored, clock=lambda: self.now
        )
        self.call = Call(Operation.LOAD)

    def do(self, operation: Operation, key: str, *arguments, configuration=""):
        self.call = Call(operation)
        method = {
            Operation.SAVE: self.governed.save,
            Operation.LOAD: self.governed.load,
            Operation.DELETE: self.governed.delete,
            Operation.LIST_OBJECTS: self.governed.list_objects,
            Operation.IS_DIRECTORY: self.governed.is_directory,
            Operation.SAVE_STREAM: self.governed.save_stream,
        }[operation]
        return method(self.call, Artifact(key, configuration=configuration), *arguments)

    def save(self, key: str, path: Path, **options):
        self.do(Operation.SAVE, key, path, **options)

    def save_stream(self, key: str, chunks, **options):
        self.do(Operation.SAVE_STREAM, key, iter(chunks), **options)

    def load(self, key: str, name="loaded") -> Path:
        self.do(Operation.LOAD, key, self.work / name)
        return self.work / name

    def delete(self, key: str):
        self.do(Operation.DELETE, key)

    def list(self, key: str) -> list[str]:
        return self.do(Operation.LIST_OBJECTS, key)

    def stream(self, key: str) -> list[bytes]:
        self.call = Call(Operation.OPEN_STREAM)
        with closing(self.governed.open_stream(self.call, Artifact(key))) as chunks:
            return [bytes(chunk) for chunk in chunks]

    def plant(self, key: str, data=b"stored", age: int | None = 0, context=(), under="default"):
        """Store an object that was sealed `age` seconds ago under the key `under`; as plaintext if `age` is None."""
        if age is None:
            self.below.objects[key] = data
            return
        made = self.keys.new_data_key(Call(Operation.SAVE), under)
        header = envelope.new_header(made.plaintext, made.wrapped, sealed_at=NOW - age, context=context)
        chunks = envelope.seal_stream(header, made.plaintext, key, iter([data]))
        self.below.objects[key] = b"".join(bytes(chunk) for chunk in chunks)

    def plant_tree(self, key: str, files: dict[str, bytes], *, age=0, context=(), under="default"):
        """Store a directory that was sealed `age` seconds ago under the key `under`."""
        made = self.keys.new_data_key(Call(Operation.SAVE), under)
        header = envelope.new_header(made.plaintext, made.wrapped, sealed_at=NOW - age, context=context)
        for path, data in files.items():
            chunks = envelope.seal_stream(header, made.plaintext, f"{key}/{path}", iter([data]))
            self.below.objects[f"{key}/{path}"] = b"".join(map(bytes, chunks))
        manifest = envelope.Manifest({path: len(data) for path, data in files.items()})
        sealed = envelope.seal_manifest(header, made.plaintext, key, manifest)
        self.below.objects[f"{key}/{envelope.MANIFEST}"] = b"".join(map(bytes, sealed))

    def file(self, data=b"plain", name="file") -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


def denied(do, code: str, kind: type[PluginError] = Denied) -> PluginError:
    with pytest.raises(kind) as raised:
        do()
    assert code in raised.value.says, raised.value.says
    return raised.value


def retained(on_delete: str) -> dict:
    keep = {"effect": "require", "match": {"keys": ["r/**"]}, "require": {"minAge": "30d"}, "onDelete": on_delete}
    return document([ALLOW, keep])


def header_of(bench: Bench, key: str) -> envelope.Header:
    data = bench.below.objects[key]
    return envelope.read_header(lambda size, offset: data[offset : offset + size])[0]

"""A store in memory, a local keyring with versions, and rotations over the stored objects."""

from __future__ import annotations

import base64
import json

from harness.content import blob
from harness.memory_plugin import MemoryPlugin

from sealgate import envelope
from sealgate.call import Call, Operation
from sealgate.keys.local import LocalKeys
from sealgate.plugin import Artifact
from sealgate.rotation import Pace, Patience, Rotation
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects, Transfer

DATA = blob(300_000)


class Recorded:
    """The local keyring; records the size of each batch of data keys and counts requests for versions."""

    def __init__(self, keys):
        self._keys = keys
        self.batches = []
        self.version_requests = 0
        self.fault = None

    def require_own(self, wrapped):
        self._keys.require_own(wrapped)

    def versions(self, call, key):
        self.version_requests += 1
        return self._keys.versions(call, key)

    def rewrap_many(self, call, wrapped):
        if self.fault:
            raise self.fault
        self.batches.append(len(wrapped))
        return self._keys.rewrap_many(call, wrapped)


class World:
    """A store, a keyring with versions, and rotations over them."""

    def __init__(self, home, plugin=None, transfer=Transfer.AUTO):
        self.keyring = home / "keyring.json"
        self.turn_to(1)
        self.plugin = plugin or MemoryPlugin()
        self.keys = Recorded(LocalKeys(self.keyring))
        self.stored = StoredObjects(self.plugin, Spool(home / "spool"), transfer)
        self.patience = Patience(60)
        self.call = Call(Operation.LOAD)

    def turn_to(self, latest):
        versions = {str(n): base64.b64encode(bytes([n]) * 32).decode() for n in range(1, latest + 1)}
        self.keyring.write_text(json.dumps({"keys": {"default": {"latest": latest, "versions": versions}}}))
        self.keyring.chmod(0o600)

    def save(self, *keys, data=DATA, made=None):
        """Seal `data` under each key, all under one data key if `made` is given."""
        for key in keys:
            fresh = made or LocalKeys(self.keyring).new_data_key(self.call)
            header = envelope.new_header(fresh.plaintext, fresh.wrapped, sealed_at=1)
            sealed = envelope.seal_stream(header, fresh.plaintext, key, iter([data]))
            self.plugin.objects[key] = b"".join(map(bytes, sealed))

    def rotate(self, prefix="ns", *, dry_run=False):
        rotation = self.rotation(prefix, dry_run=dry_run)
        with self.patience.watching():
            return rotation.run(rotation.objects(prefix))

    def rotation(self, prefix="ns", *, dry_run=False):
        pace = Pace(0, self.patience.stop.wait)
        artifact = Artifact(prefix)
        return Rotation(self.stored, self.keys, artifact, pace=pace, patience=self.patience, dry_run=dry_run)

    def opened(self, key):
        keys = LocalKeys(self.keyring)
        stored = iter([self.plugin.objects[key]])
        return b"".join(
            map(bytes, envelope.open_stream(stored, lambda header: keys.unwrap(self.call, header.key), key))
        )

    def header(self, key):
        return envelope.split_stream(iter([self.plugin.objects[key]]))[0]

    def body(self, key):
        return b"".join(map(bytes, envelope.split_stream(iter([self.plugin.objects[key]]))[1]))

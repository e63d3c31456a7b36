"""What `sealgate doctor` asks of the downstream: to keep a tiny artifact for a moment, through the whole stack."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from sealgate import envelope
from sealgate.call import Call, Operation
from sealgate.cli.doctor.checks import POLICIES, Check, CheckResult, Role, failed, not_checked, ok
from sealgate.cli.doctor.vault import MAKE, OPEN
from sealgate.compose.downstream import downstream_client
from sealgate.compose.keys import key_provider
from sealgate.compose.policies import load_policies
from sealgate.compose.stack import governed
from sealgate.config import PathSettings, Settings
from sealgate.errors import BadRequest, DataLoss, DownstreamStatus, NotSealed, PluginError, Refused, Unavailable
from sealgate.layers.author_block import forwarded
from sealgate.plugin import Artifact, ArtifactPlugin
from sealgate.policy import canonical_keys
from sealgate.rpc.client import Downstream
from sealgate.storage.local_paths import local_errors
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects, Transfer

_START, _SAVE, _LOAD = "downstream: start", "storage: save", "storage: load"
_LOOK, _DELETE = "storage: sealed", "storage: delete"
_PLAINTEXT = b"What sealgate doctor saves, looks at in storage, loads and deletes. "
_LARGEST = 1 << 16
"""Of what is read back. A downstream that gives more has something else."""


class StorageChecks:
    """The questions, in order, about one artifact of its own."""

    def __init__(
        self, settings: Settings, role: Role, artifact: Artifact, beside: Path | None, resources: ExitStack
    ) -> None:
        self._settings = settings
        self._role = role
        self._artifact = artifact
        self._beside = beside
        """The plugin's own directory, which a downstream in another container sees, too."""
        self._resources = resources
        self._plaintext = _PLAINTEXT + secrets.token_bytes(32)
        self._attempted = self._saved = False

    def checks(self) -> list[Check]:
        """In the order in which they are made: what was saved is removed, whatever went wrong before."""
        begun = [Check(_START, self._start)]
        if Role.SAVER not in self._role.parts:
            return [*begun, Check(_SAVE, lambda _: [not_checked(f"a {self._role} saves nothing that could be loaded")])]
        saving = [
            *begun,
            Check(_SAVE, self._save, needs=(_START, MAKE, POLICIES)),
            Check(_LOOK, self._look, needs=(_SAVE,)),
        ]
        loading = [Check(_LOAD, self._load, needs=(_SAVE, OPEN))] if Role.LOADER in self._role.parts else []
        return [*saving, *loading, Check(_DELETE, self._delete, needs=(_START, MAKE, POLICIES))]

    # --- the stack ----------------------------------------------------------------------------------------

    @cached_property
    def _home(self) -> Path:
        with local_errors("the directory of temporary files"):
            home = Path(self._resources.enter_context(TemporaryDirectory(prefix="sealgate-doctor-")))
            (home / "work").mkdir()
        return home

    @cached_property
    def _downstream(self) -> Downstream:
        downstream = downstream_client(self._settings, self._home / "socket")
        self._resources.callback(downstream.close)
        return downstream

    @cached_property
    def _spool(self) -> Spool:
        elsewhere = self._settings.required_downstream().socket is not None
        beside = self._beside if elsewhere and self._beside and self._beside.is_dir() else self._home
        spool = Spool(self._settings.spool.directory or beside)
        self._resources.callback(spool.close)
        return spool

    @cached_property
    def _stack(self) -> ArtifactPlugin:
        settings = replace(self._settings, paths=PathSettings(roots=(self._home / "work",)))
        return governed(settings, load_policies(settings), key_provider(settings), self._downstream, self._spool)

    # --- the questions ------------------------------------------------------------------------------------

    def _start(self, call: Call) -> Iterator[CheckResult]:
        try:
            streams = self._downstream.get_capabilities(call).save_stream
        except Unavailable as fault:
            yield failed(
                f"{fault.fact} ({fault.says})",
                "Look at what it writes, with --verbose; " + (fault.remedy or "correct downstream"),
            )
            return
        yield ok(f"it answers, and {'takes streams' if streams else 'takes files only'}")

    def _save(self, call: Call) -> Iterator[CheckResult]:
        path = self._home / "work" / "saved"
        with local_errors("a temporary file"):
            path.write_bytes(self._plaintext)
        self._attempted = True
        self._stack.save(_to(Operation.SAVE, call), self._artifact, path)
        self._saved = True
        yield ok(f"{len(self._plaintext)} bytes were saved as {self._artifact.key}")

    def _look(self, call: Call) -> Iterator[CheckResult]:
        try:
            stored = self._read(call)
        except PluginError as fault:
            raise DataLoss(
                f"the downstream reported success, and what it stored cannot be read: {fault.fact}",
                says="downstream",
                remedy="Look at the downstream's own settings and rights, and at its log with --verbose",
            ) from None
        if self._plaintext in stored or _PLAINTEXT in stored:
            yield failed("plaintext lies in storage", "Do not use this installation")
            return
        header, _ = envelope.read_header(lambda size, offset: stored[offset : offset + size])
        yield ok(f"{len(stored)} bytes lie in storage, sealed under key {header.key.key_name}")

    def _load(self, call: Call) -> Iterator[CheckResult]:
        path = self._home / "work" / "loaded"
        self._stack.load(_to(Operation.LOAD, call), self._artifact, path)
        with local_errors("a temporary file"):
            same = path.read_bytes() == self._plaintext
        if same:
            yield ok("what was saved is loaded, byte for byte")
        else:
            yield failed("what was loaded is not what was saved", "Do not use this installation")

    def _delete(self, call: Call) -> Iterator[CheckResult]:
        if not self._attempted:
            yield not_checked("nothing was saved")
            return
        remedy = f"Remove the object {self._artifact.key} by hand, and give the downstream the right to delete"
        try:
            self._stack.delete(_to(Operation.DELETE, call), self._artifact)
        except PluginError as fault:
            if self._saved:
                yield failed(f"the artifact could not be removed: {fault.fact}", remedy)
            else:
                yield not_checked(f"whether something lies under {self._artifact.key} cannot be told: {fault.fact}")
            return
        if self._is_there(call):
            yield failed("the downstream reported success, and the artifact can still be read", remedy)
        else:
            yield ok("it is removed again")

    def _is_there(self, call: Call) -> bool:
        try:
            return bool(self._read(call))
        except (Refused, DownstreamStatus, DataLoss):
            return False

    def _read(self, call: Call) -> bytes:
        """What lies in storage, past the layer that opens it."""
        stored = StoredObjects(self._downstream, self._spool, Transfer(self._settings.spool.transfer))
        found = bytearray()
        with closing(stored.read(call, forwarded(self._artifact))) as chunks:
            for chunk in chunks:
                found += chunk
                if len(found) > _LARGEST:
                    raise NotSealed("it is far larger than what was saved", says="downstream")
        return bytes(found)


def _to(operation: Operation, call: Call) -> Call:
    """The call that a policy decides on: what is done, in the time that the check has."""
    return Call(operation, call.deadline)


def scratch_artifact(place: str, plugin: str, configuration: str) -> Artifact:
    """An artifact beneath the key `place`, where nothing else can lie.

    Raises:
        BadRequest: no artifact may have such a key.
    """
    key = f"{place}/{secrets.token_hex(8)}"
    if fault := canonical_keys.fault_of(key):
        raise BadRequest(fault, remedy="Give --scratch a plain key")
    return Artifact(key, name="sealgate-doctor", plugin=plugin, configuration=configuration)

"""What `sealgate doctor` checks of the downstream: it saves, reads and deletes a small artifact through all layers."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from sealgate import envelope
from sealgate.call import Call, Operation
from sealgate.cli.doctor.absent_keys import AbsentKeyAnswers
from sealgate.cli.doctor.checks import MAKE, OPEN, POLICIES, Check, CheckResult, Role, failed, not_checked, ok, warning
from sealgate.compose.downstream import downstream_source, stored_objects
from sealgate.compose.keys import key_provider
from sealgate.compose.policies import load_policies
from sealgate.compose.stack import governed_layer, sealed_layer
from sealgate.config import PathSettings, Settings
from sealgate.errors import (
    AlreadyStored,
    BadRequest,
    DataLoss,
    Denied,
    DownstreamStatus,
    NotSealed,
    PluginError,
    Refused,
    Unavailable,
)
from sealgate.layers.author_block import without_author_block
from sealgate.plugin import Artifact, ArtifactPlugin
from sealgate.policy import canonical_keys
from sealgate.rpc.client import Downstream
from sealgate.rpc.in_process import InProcess
from sealgate.storage.deletion import Deleter
from sealgate.storage.local_paths import local_errors
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects

_START, _ABSENT = "downstream: start", "storage: absent keys"
_SAVE, _LOAD = "storage: save", "storage: load"
_LOOK, _ONCE, _DELETE = "storage: sealed", "storage: write once", "storage: delete"
_BY_FILE = "storage: by file"
_PLAINTEXT = b"The text that sealgate doctor saves, reads, loads and then deletes. "
_LARGEST = 1 << 16
"""The most bytes that are read back. A downstream that returns more has stored something else."""


class StorageChecks:
    """Checks that an artifact of its own can be saved, loaded and deleted."""

    def __init__(
        self, settings: Settings, role: Role, artifact: Artifact, beside: Path | None, resources: ExitStack
    ) -> None:
        self._settings = settings
        self._role = role
        self._artifact = artifact
        self._beside = beside
        """The plugin's own directory, which a downstream in another container also mounts."""
        self._resources = resources
        self._plaintext = _PLAINTEXT + secrets.token_bytes(32)
        self._attempted = self._saved = False

    def checks(self) -> list[Check]:
        """Return the checks, in order. The last deletes what was saved, even if a check before it failed."""
        start = Check(_START, self._start)
        absent = Check(_ABSENT, self._ask_for_absent_key, needs=(_START,))
        if Role.SAVER not in self._role.parts:
            skipped = not_checked(f"skipped, because a {self._role} saves no artifact")
            return [start, absent, Check(_SAVE, lambda _: [skipped])]
        saving = [
            start,
            absent,
            Check(_SAVE, self._save, needs=(_START, MAKE, POLICIES)),
            Check(_LOOK, self._look, needs=(_SAVE,)),
            Check(_ONCE, self._write_once, needs=(_SAVE,)),
        ]
        loading = [Check(_LOAD, self._load, needs=(_SAVE, OPEN))] if Role.LOADER in self._role.parts else []
        if self._chooses_its_way:
            loading.append(Check(_BY_FILE, self._by_file, needs=(_LOAD if loading else _SAVE,)))
        return [*saving, *loading, Check(_DELETE, self._delete, needs=(_START, MAKE, POLICIES))]

    # --- the layers ---------------------------------------------------------------------------------------

    @cached_property
    def _home(self) -> Path:
        with local_errors("the directory of temporary files"):
            home = Path(self._resources.enter_context(TemporaryDirectory(prefix="sealgate-doctor-")))
            (home / "work").mkdir()
        return home

    @cached_property
    def _downstream(self) -> Downstream | InProcess:
        downstream = downstream_source(self._settings, self._home / "socket")
        self._resources.callback(downstream.close)
        return downstream

    @cached_property
    def _spool(self) -> Spool:
        is_external = self._settings.required_downstream().socket is not None
        beside = self._beside if is_external and self._beside and self._beside.is_dir() else self._home
        spool = Spool(self._settings.spool.directory or beside)
        self._resources.callback(spool.close)
        return spool

    @property
    def _chooses_its_way(self) -> bool:
        downstream = self._settings.downstream
        return self._settings.spool.transfer == "auto" and downstream is not None and downstream.builtin is None

    @cached_property
    def _objects(self) -> StoredObjects:
        """The stored objects, without the layer that seals."""
        return stored_objects(self._settings, self._downstream, self._spool)

    @cached_property
    def _stack(self) -> ArtifactPlugin:
        return self._stack_of(self._settings)

    def _stack_of(self, settings: Settings) -> ArtifactPlugin:
        settings = replace(settings, paths=PathSettings(roots=(self._home / "work",)))
        policies, keys = load_policies(settings), key_provider(settings)
        return governed_layer(sealed_layer(settings, self._downstream, keys, self._spool), policies, keys)

    # --- the checks ---------------------------------------------------------------------------------------

    def _start(self, call: Call) -> Iterator[CheckResult]:
        try:
            streams = self._downstream.get_capabilities(call).save_stream
        except Unavailable as fault:
            yield failed(
                f"{fault.fact} ({fault.says})",
                "Read the downstream's output with --verbose. " + (fault.remedy or "Correct downstream"),
            )
            return
        yield ok(f"the downstream answers and accepts {'streams' if streams else 'files only'}")

    def _ask_for_absent_key(self, call: Call) -> Iterator[CheckResult]:
        """Ask for a new random key, under which nothing can be stored, and report what the downstream answers."""
        artifact = dataclasses.replace(without_author_block(self._artifact), key=f"{self._artifact.key}-absent")
        answers = AbsentKeyAnswers(self._objects, artifact, deletes=Role.SAVER in self._role.parts)
        yield from answers.results(call)

    def _save(self, call: Call) -> Iterator[CheckResult]:
        path = self._home / "work" / "saved"
        with local_errors("a temporary file"):
            path.write_bytes(self._plaintext)
        self._attempted = True
        try:
            self._stack.save(_to(Operation.SAVE, call), self._artifact, path)
        except Denied as fault:
            if type(fault) is not Denied:  # it was not decided on the key
                raise
            self._attempted = False
            yield _denied(fault, "save")
            return
        self._saved = True
        yield ok(f"saved {len(self._plaintext)} bytes as {self._artifact.key}")

    def _look(self, call: Call) -> Iterator[CheckResult]:
        try:
            stored = self._read(call)
        except PluginError as fault:
            raise DataLoss(
                f"the downstream reported success, but what it stored cannot be read: {fault.fact}",
                says="downstream",
                remedy="Check the downstream's settings and its rights in storage; read its log with --verbose",
            ) from None
        if self._plaintext in stored or _PLAINTEXT in stored:
            yield failed("storage contains the plaintext", "Do not use this installation")
            return
        header, _ = envelope.read_header(lambda size, offset: stored[offset : offset + size])
        yield ok(f"storage contains {len(stored)} bytes, sealed under key {header.key.key_name}")

    def _write_once(self, call: Call) -> Iterator[CheckResult]:
        """Create an object beside the artifact twice: the store must refuse the second time."""
        if not self._downstream.get_capabilities(call).creates:
            yield self._without_create_only()
            return
        beside = dataclasses.replace(without_author_block(self._artifact), key=f"{self._artifact.key}-once")
        writing = Call(Operation.SAVE_STREAM, call.deadline, only_new=True)
        try:
            for _ in range(2):
                self._downstream.save_stream(writing, beside, iter([b""]))
            yield warning(
                "the store ignores conditional writes: with overwrite: deny, two Saves at once may both succeed",
                "Use a store that obeys If-None-Match, or object lock, if the policies deny overwriting",
            )
        except AlreadyStored:
            yield ok("the store refuses to replace an object, so overwrite: deny holds for Saves at the same time")
        finally:
            yield from self._remove(call, beside)

    def _remove(self, call: Call, artifact: Artifact) -> Iterator[CheckResult]:
        """Delete an artifact beside the saved one, and report if that fails."""
        try:
            Deleter(self._objects).delete_artifact(_to(Operation.DELETE, call), artifact)
        except PluginError as fault:
            remedy = f"Delete the object {artifact.key} by hand, and give the downstream the right to delete"
            yield failed(f"the object {artifact.key} could not be deleted: {fault.fact}", remedy)

    def _by_file(self, call: Call) -> Iterator[CheckResult]:
        """Save and load beside the artifact by the downstream's Save and Load, by which `auto` moves directories."""
        artifact = dataclasses.replace(self._artifact, key=f"{self._artifact.key}-by-file")
        stack = self._stack_of(replace(self._settings, spool=replace(self._settings.spool, transfer="file")))
        saved, loaded = self._home / "work" / "saved", self._home / "work" / "loaded-by-file"
        try:
            stack.save(_to(Operation.SAVE, call), artifact, saved)
            if Role.LOADER in self._role.parts:
                stack.load(_to(Operation.LOAD, call), artifact, loaded)
            yield ok("the downstream also moves what it finds at a path, as it does with directories")
        finally:
            yield from self._remove(call, without_author_block(artifact))

    def _without_create_only(self) -> CheckResult:
        """Return a warning if a policy denies overwriting, also one on trial."""
        fact = "no create-only writes: with overwrite: deny, two Saves at the same time may both succeed"
        rules = [rule for document in load_policies(self._settings).documents for rule in document.spec.rules]
        if all(rule.require.overwrite != "deny" for rule in rules):
            return ok(fact)
        return warning(
            f"a policy denies overwriting, and the downstream has {fact}",
            "Use a downstream with create-only writes, as sealgate backend has them, or a bucket with object lock",
        )

    def _load(self, call: Call) -> Iterator[CheckResult]:
        path = self._home / "work" / "loaded"
        try:
            self._stack.load(_to(Operation.LOAD, call), self._artifact, path)
        except Denied as fault:
            if type(fault) is not Denied:
                raise
            yield _denied(fault, "save and load")
            return
        with local_errors("a temporary file"):
            same = path.read_bytes() == self._plaintext
        if same:
            yield ok("loaded the bytes that were saved")
        else:
            yield failed("the loaded bytes are not those that were saved", "Do not use this installation")

    def _delete(self, call: Call) -> Iterator[CheckResult]:
        if not self._attempted:
            yield not_checked("nothing was saved")
            return
        remedy = f"Delete the object {self._artifact.key} by hand, and give the downstream the right to delete"
        try:
            refused = self._delete_artifact(call)
        except PluginError as fault:
            if self._saved:
                yield failed(f"the artifact could not be deleted: {fault.fact}", remedy)
            else:
                yield not_checked(f"cannot check whether storage contains {self._artifact.key}: {fault.fact}")
            return
        if self._is_there(call):
            yield failed("the downstream reported success, but the artifact can still be read", remedy)
        elif refused:
            yield ok(f"deleted the artifact past the policies, by which this component deletes nothing: {refused}")
        else:
            yield ok("deleted the artifact")

    def _delete_artifact(self, call: Call) -> str:
        """Delete the artifact. If policies keep it, delete it without them: it belongs to this check alone.

        Returns:
            Why policies kept it; empty if they did not.
        """
        refused = ""
        try:
            self._stack.delete(_to(Operation.DELETE, call), self._artifact)
        except Denied as fault:
            refused = fault.fact
        if refused or self._is_there(call):  # a rule may also skip the Delete and report success
            Deleter(self._objects).delete_artifact(_to(Operation.DELETE, call), without_author_block(self._artifact))
            refused = refused or "a rule skips the Delete"
        return refused

    def _is_there(self, call: Call) -> bool:
        try:
            return bool(self._read(call))
        except (Refused, DownstreamStatus, DataLoss):
            return False

    def _read(self, call: Call) -> bytes:
        """Read the stored object from the downstream, without opening it."""
        content = bytearray()
        with closing(self._objects.read(call, without_author_block(self._artifact))) as chunks:
            for chunk in chunks:
                content += chunk
                if len(content) > _LARGEST:
                    raise NotSealed("the stored object is far larger than what was saved", says="downstream")
        return bytes(content)


def _denied(fault: Denied, verbs: str) -> CheckResult:
    remedy = f"Give --scratch a prefix beneath which policies let this component {verbs}, and --role its task"
    return failed(f"{fault.fact} ({fault.says})", remedy)


def _to(operation: Operation, call: Call) -> Call:
    """Return a call for `operation`, which policies decide on, with the deadline of the check's `call`."""
    return Call(operation, call.deadline)


def scratch_artifact(place: str, plugin: str, configuration: str) -> Artifact:
    """Return an artifact with a new random key under the prefix `place`, so that it replaces no other object.

    Raises:
        BadRequest: the key is not canonical.
    """
    key = f"{place}/{secrets.token_hex(8)}"
    if fault := canonical_keys.fault_of(key):
        raise BadRequest(fault, remedy="Give --scratch a canonical key")
    return Artifact(key, name="sealgate-doctor", plugin=plugin, configuration=configuration)

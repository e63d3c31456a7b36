"""Directories: a manifest is moved like the files that it lists, and a directory that is moved in part loads whole."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from harness.content import read_tree, write_tree
from harness.counting_keys import CountingKeys
from harness.memory_plugin import MemoryPlugin
from harness.rotating import World

from sealgate.call import Call, Operation
from sealgate.envelope import MANIFEST
from sealgate.layers.sealed import Sealed
from sealgate.plugin import Artifact
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import Transfer

KEY = "ns/tree"


class Killed(BaseException):
    """The end of the process: no handler of the product sees it."""


class Mortal(MemoryPlugin):
    """Stores `left` objects, and then ends the process that stores."""

    left = 1 << 30

    def __init__(self, *, streams: bool) -> None:
        super().__init__(streams=streams)
        self._lock = threading.Lock()

    def _spend(self):
        with self._lock:
            if self.left == 0:
                raise Killed
            self.left -= 1

    def save(self, call, artifact, path):
        self._spend()
        super().save(call, artifact, path)

    def save_stream(self, call, artifact, chunks):
        data = b"".join(bytes(chunk) for chunk in chunks)
        if self.streams:
            self._spend()
        super().save_stream(call, artifact, iter([data]))


class Directory:
    """A saved directory, and Loads of it."""

    def __init__(self, home, world):
        self._home = home
        self._world = world
        self.keys = CountingKeys(world.keyring)
        source = home / "source"
        source.mkdir()
        self.content = read_tree(write_tree(source))
        self._sealed(Transfer.FILE).save(Call(Operation.SAVE), Artifact(KEY), source)

    def _sealed(self, transfer):
        spool = Spool(self._home / f"spool-{transfer}")
        return Sealed(self._world.plugin, self.keys, roots=Roots([self._home]), spool=spool, transfer=transfer)

    def requests_of_a_whole_load(self, transfer):
        """Load the directory, check that it is whole, and return how many data keys were unwrapped for it."""
        before = self.keys.requests["unwrap"]
        target = self._home / f"loaded-{before}"
        self._sealed(transfer).load(Call(Operation.LOAD), Artifact(KEY), target)
        assert read_tree(target) == self.content
        return self.keys.requests["unwrap"] - before


WAYS = [(True, Transfer.AUTO), (False, Transfer.AUTO), (True, Transfer.FILE)]


@pytest.fixture(params=WAYS, ids=str)
def world(tmp_path, request):
    streams, transfer = request.param
    return World(tmp_path, Mortal(streams=streams), transfer)


@pytest.fixture
def directory(tmp_path, world):
    return Directory(tmp_path, world)


@pytest.fixture
def loads(world):
    """How a directory of this world can be loaded."""
    return [Transfer.FILE, Transfer.STREAM] if world.plugin.streams else [Transfer.FILE]


def test_a_manifest_is_one_of_the_objects_and_only_its_wrapped_key_is_replaced(world, directory, loads):
    objects = sorted(world.plugin.objects)
    manifest = f"{KEY}/{MANIFEST}"
    assert manifest in objects
    authenticated, body = world.header(manifest).authenticated, world.body(manifest)
    world.turn_to(2)
    report = world.rotate()
    assert (report.found, report.moved, report.failed) == (len(objects), len(objects), 0)
    assert (world.header(manifest).authenticated, world.body(manifest)) == (authenticated, body)
    assert len({world.header(key).key for key in objects}) == 1
    assert world.header(manifest).key.key_version == 2
    assert [directory.requests_of_a_whole_load(transfer) for transfer in loads] == [1] * len(loads)


def test_a_directory_is_moved_by_its_own_key_too(world, directory, loads):
    world.turn_to(2)
    assert world.rotate(KEY).moved == len(world.plugin.objects)
    assert [directory.requests_of_a_whole_load(transfer) for transfer in loads] == [1] * len(loads)


def test_a_manifest_that_is_left_behind_is_reported(world, directory):
    world.turn_to(2)
    manifest = f"{KEY}/{MANIFEST}"
    before = world.plugin.objects[manifest]
    world.rotate()
    world.plugin.objects[manifest] = before
    report = world.rotate(dry_run=True)
    assert (report.stale, report.may_be_raised_to("default")) == (1, 1)


@pytest.mark.parametrize("written", range(7))
def test_a_rewrap_that_is_killed_after_any_object_leaves_the_directory_whole(world, directory, loads, written):
    objects = list(world.plugin.objects)
    assert len(objects) == 6
    world.turn_to(2)
    world.plugin.left = written
    with suppress(Killed):
        world.rotate()
    versions = [world.header(key).key.key_version for key in objects]
    assert versions.count(2) == written
    for transfer in loads:
        assert directory.requests_of_a_whole_load(transfer) <= 2
    del world.plugin.left
    assert world.rotate().moved == len(objects) - written
    for transfer in loads:
        assert directory.requests_of_a_whole_load(transfer) <= 2

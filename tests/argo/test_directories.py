"""A directory is one artifact: a Load gives exactly what one Save stored, or an error and nothing.

Each rule is shown with every way of transfer, in front of a vendor's plugin and of the bundled backend, with storage
changed behind the plugin's back.
"""

from __future__ import annotations

import itertools
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from argo.test_decisions import plant
from harness.argo import Argo
from harness.chain import SEALGATE, Proxy, eventually
from harness.content import read_tree, write_tree
from harness.outcome import assert_own_line, outcome
from harness.policy import document
from harness.trails import read

from sealgate import envelope
from sealgate.call import Call, Operation
from sealgate.envelope import MANIFEST, Binding
from sealgate.keys.local import LocalKeys
from sealgate.rpc import artifact_pb2 as pb

BEHIND = [f"{downstream} {transfer}" for downstream in ("vendor", "bundled") for transfer in ("file", "stream", "auto")]
CHAINS = [*BEHIND, "builtin stream"]
NOW = int(time.time())


def options(chain: str) -> dict:
    downstream, transfer = chain.split()
    if downstream == "builtin":
        return {"downstream": {"builtin": {}}}
    return {
        "downstream": [*SEALGATE, "backend"] if downstream == "bundled" else None,
        "settings": {"spool": {"transfer": transfer}},
        "environment": {"VENDOR_STREAMS": "1"} if transfer == "stream" else {},
    }


@pytest.fixture(scope="module", params=CHAINS)
def chain(request, tmp_path_factory) -> Iterator[Proxy]:
    started = Proxy(tmp_path_factory.mktemp("chain"), **options(request.param)).start()
    yield started
    assert started.stop() == 0, started.output()


@dataclass
class Place:
    """A directory artifact with a tree to save, and a destination for Loads."""

    proxy: Proxy
    key: str

    @property
    def argo(self) -> Argo:
        return self.proxy.argo()

    @property
    def stored(self) -> Path:
        return self.proxy.storage / self.key

    @property
    def target(self) -> Path:
        return self.proxy.work / f"{self.key.replace('/', '-')}-loaded"

    def tree(self, name: str, files: dict[str, bytes] | None = None) -> Path:
        root = self.proxy.work / f"{self.key.replace('/', '-')}-{name}"
        if files is None:
            return write_tree(root)
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root

    def save(self, name: str = "tree", files: dict[str, bytes] | None = None) -> Path:
        tree = self.tree(name, files)
        self.argo.save(self.key, tree)
        return tree

    def load(self) -> dict[str, bytes | None]:
        shutil.rmtree(self.target, ignore_errors=True)
        self.argo.load(self.key, self.target)
        return read_tree(self.target)

    def assert_refused(self, says: str = "", code: str = "DATA_LOSS") -> None:
        """Check that a Load fails, leaves nothing, and is recorded as a failure."""
        shutil.rmtree(self.target, ignore_errors=True)
        before = set(self.proxy.work.iterdir())
        found = outcome(lambda: self.argo.load(self.key, self.target))
        assert_own_line(found, code, "Load", self.key)
        assert says in found.text, found
        assert set(self.proxy.work.iterdir()) == before
        assert not self.proxy.spools()
        last = self.records()[-1]
        assert (last["status"], last["status_code"]) == ("Failure", "PLAINTEXT" if "PERM" in code else code)

    def records(self) -> list[dict]:
        return [
            record
            for record in read(self.proxy.trail)
            if record.get("api", {}).get("operation") == "Load" and record["resource"]["uid"] == self.key
        ]


@pytest.fixture
def place(chain) -> Place:
    # The key has no words by which a downstream could say that an object is absent.
    return Place(chain, f"team/t{next(_numbers)}")


_numbers = itertools.count()


ABC = {name: name.encode() * 100 for name in "abc"}

# --- what is saved comes back -----------------------------------------------------------------------------


def test_a_directory_comes_back_with_its_empty_directories(place):
    tree = place.save()
    assert place.load() == read_tree(tree)
    assert place.load()["nothing in it"] is None
    last = place.records()[-1]
    assert (last["status"], last["unmapped"]["io"].get("left_out", 0)) == ("Success", 0)
    assert last["unmapped"]["io"]["files"] == 5


def test_an_empty_directory_comes_back(place):
    (place.tree("tree", {"x": b""}) / "x").unlink()
    place.save("tree", {})
    assert place.load() == {}
    assert place.argo.is_directory(place.key)
    assert place.argo.list_objects(place.key) == []


def test_the_manifest_is_no_object_of_the_directory(place):
    place.save("tree", ABC)
    assert (place.stored / MANIFEST).read_bytes()[:8] == envelope.MAGIC
    assert place.argo.list_objects(place.key) == [f"{place.key}/{name}" for name in "abc"]
    argo, key = place.argo, f"{place.key}/{MANIFEST}"
    for operation, do in (
        ("Load", lambda: argo.load(key, place.target)),
        ("OpenStream", lambda: argo.open_stream(key)),
        ("Save", lambda: argo.save(key, place.tree("tree") / "a")),
        ("SaveStream", lambda: argo.save_stream(key, b"x")),
        ("Delete", lambda: argo.delete(key)),
    ):
        found = outcome(do)
        assert_own_line(found, "INVALID_ARGUMENT", operation, key)
        assert f"the name {MANIFEST} is reserved" in found.text
    assert place.load() == ABC


def test_a_tree_with_the_name_of_a_manifest_is_not_saved(place):
    found = outcome(lambda: place.save("tree", {**ABC, f"deeper/{MANIFEST}": b"mine"}))
    assert_own_line(found, "INVALID_ARGUMENT", "Save", place.key)
    assert f"the name {MANIFEST} is reserved" in found.text
    assert not place.stored.exists()


# --- what storage does to it ------------------------------------------------------------------------------


def test_a_directory_whose_file_was_deleted_is_refused(place):
    place.save("tree", ABC)
    (place.stored / "b").unlink()
    place.assert_refused('"b" in the directory is missing')
    (place.stored / "c").unlink()
    place.assert_refused('"b" in the directory is missing; 1 more of its files')


def test_a_file_that_a_marker_of_a_directory_replaced_is_refused(place):
    place.argo.save_stream(place.key, b"some plaintext")
    place.stored.unlink()
    place.stored.mkdir()
    (place.stored / ".sealgate-directory").touch()
    place.assert_refused("no Save through Sealgate has finished storing it")
    assert "crypto" not in place.records()[-1]["unmapped"]


def test_a_file_in_a_directory_that_a_directory_replaced_is_refused(place):
    place.save("tree", ABC)
    (place.stored / "b").unlink()
    (place.stored / "b").mkdir()
    (place.stored / "b" / ".sealgate-directory").touch()
    place.assert_refused('"b" in the directory is missing')


def test_planted_directories_do_not_arrive(place):
    place.save("tree", ABC)
    for path in ("planted", "planted/deeper", "other"):
        (place.stored / path).mkdir()
    (place.stored / "other" / ".sealgate-directory").touch()
    assert place.load() == ABC


def test_planted_files_do_not_arrive_and_are_counted(place):
    place.save("tree", ABC)
    place.argo.save_stream(f"{place.key}-beside", b"another artifact")
    plant(place.proxy, f"{place.key}/plain", b"never sealed", None)
    plant(place.proxy, f"{place.key}/deeper/sealed", b"sealed for its own key", NOW)
    shutil.copyfile(place.proxy.storage / f"{place.key}-beside", place.stored / "moved")
    assert place.load() == ABC
    assert place.records()[-1]["unmapped"]["io"]["left_out"] == 3
    assert f"objects were left out: operation=Load, key={place.key}, reason=they are not in the" in place.proxy.output()


def test_a_file_of_an_earlier_save_is_refused(place):
    place.save("earlier", dict.fromkeys("abc", b"earlier"))
    earlier = {name: (place.stored / name).read_bytes() for name in ("b", MANIFEST)}
    tree = place.save("later", dict.fromkeys("abc", b"later"))
    later = (place.stored / "b").read_bytes()
    (place.stored / "b").write_bytes(earlier["b"])
    place.assert_refused('"b" in the directory is from another Save')
    (place.stored / MANIFEST).write_bytes(earlier[MANIFEST])
    place.assert_refused('"a" in the directory is from another Save')
    (place.stored / "b").write_bytes(later)
    place.assert_refused("is from another Save; 2 more of its files")
    place.argo.save(place.key, tree)
    assert place.load() == read_tree(tree)


def test_a_file_or_a_manifest_of_another_directory_is_refused(place):
    place.save("tree", ABC)
    other = Place(place.proxy, f"{place.key}-other")
    other.save("tree", ABC)
    own = {name: (place.stored / name).read_bytes() for name in ("a", MANIFEST)}
    for name in ("a", MANIFEST):
        (place.stored / name).write_bytes((other.stored / name).read_bytes())
        place.assert_refused()
        (place.stored / name).write_bytes(own[name])
    shutil.copyfile(place.stored / "b", place.stored / "a")
    place.assert_refused()
    (place.stored / "a").write_bytes(own["a"])
    assert place.load() == ABC
    shutil.rmtree(place.stored)
    shutil.copytree(other.stored, place.stored)
    place.assert_refused()


@pytest.mark.parametrize("change", ["deleted", "emptied", "cut", "flipped", "a file", "plaintext"])
def test_a_directory_whose_manifest_is_not_the_saved_one_is_refused(place, change):
    place.save("tree", ABC)
    manifest = place.stored / MANIFEST
    sealed = manifest.read_bytes()
    if change == "deleted":
        manifest.unlink()
    else:
        manifest.write_bytes(
            {
                "emptied": b"",
                "cut": sealed[:-1],
                "flipped": sealed[:-20] + bytes([sealed[-20] ^ 1]) + sealed[-19:],
                "a file": (place.stored / "a").read_bytes(),
                "plaintext": b"SGM1\0\0\0\0",
            }[change]
        )
    place.assert_refused(code="PERMISSION_DENIED" if change == "plaintext" else "DATA_LOSS")


def test_a_plaintext_file_in_the_place_of_a_sealed_one_is_refused(place):
    place.save("tree", ABC)
    (place.stored / "b").write_bytes(ABC["b"])
    place.assert_refused(code="PERMISSION_DENIED")


def test_a_part_of_a_directory_is_opened_by_its_own_key_if_it_is_a_file(place):
    tree = place.save()
    name = "deeper/and deeper/größe-尺寸-🔒.bin"
    assert place.argo.open_stream(f"{place.key}/{name}") == (tree / name).read_bytes()
    part = Place(place.proxy, f"{place.key}/deeper")
    part.assert_refused("no Save through Sealgate has finished storing it")


# --- a folder that another program made -------------------------------------------------------------------


def test_an_empty_folder_inside_changes_nothing_and_goes_with_the_directory(place):
    tree = place.save("tree", ABC)
    for _ in range(2):
        (place.stored / "newfolder").mkdir(exist_ok=True)
        assert place.load() == ABC
        assert place.argo.list_objects(place.key) == [f"{place.key}/{name}" for name in "abc"]
        place.argo.save(place.key, tree)
    (place.stored / "newfolder").mkdir(exist_ok=True)
    place.argo.delete(place.key)
    assert not place.argo.is_directory(place.key)
    assert place.argo.list_objects(place.key) == []


# --- a Save over what was there ---------------------------------------------------------------------------


def test_a_directory_and_a_file_replace_each_other(place):
    file = place.tree("file", {"f": b"a file"}) / "f"
    trees = [place.tree("one", ABC), place.tree("two", {"other": b"tree"})]
    for source in (file, trees[0], file, trees[1], trees[0], file):
        place.argo.save(place.key, source)
        if source is file:
            assert place.argo.open_stream(place.key) == b"a file"
            assert place.stored.is_file()
            assert not place.argo.is_directory(place.key)
        else:
            assert place.load() == read_tree(source)


def test_an_upload_replaces_a_directory(place):
    place.save("tree", ABC)
    place.argo.save_stream(place.key, b"uploaded")
    assert place.argo.open_stream(place.key) == b"uploaded"


# --- a Save that is killed --------------------------------------------------------------------------------

MANY = {f"{number % 3}/{number:02}": b"%d" % number for number in range(12)}


@pytest.mark.parametrize("again", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("chain_options", [options(chain) for chain in CHAINS[:3]], ids=CHAINS[:3])
def test_a_directory_of_a_killed_save_is_refused_until_it_is_saved_again(start, key, chain_options, again):
    proxy = start(**chain_options)
    place = Place(proxy, key)
    if again:
        place.save("earlier", dict.fromkeys(MANY, b"earlier"))
    tree = place.tree("tree", MANY)
    argo = proxy.argo("fault: half\n")
    call = threading.Thread(target=lambda: outcome(lambda: argo.save(key, tree)))
    call.start()
    assert eventually((proxy.storage / "hang-began").exists)
    proxy.kill()
    call.join()
    assert again or sum(path.is_file() for path in place.stored.rglob("*")) == 5
    proxy.start()
    place.assert_refused()
    argo = proxy.argo()
    argo.save(key, tree)
    assert place.load() == read_tree(tree)


# --- objects that are bound to no key ---------------------------------------------------------------------


def plant_unbound(proxy: Proxy, key: str, plaintext: bytes) -> None:
    """Store what `sealgate seal` writes without an artifact key."""
    made = LocalKeys(proxy.keyring).new_data_key(Call(Operation.SAVE), "")
    header = envelope.new_header(made.plaintext, made.wrapped, sealed_at=NOW, binding=Binding.NONE)
    stored = proxy.storage / key
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_bytes(b"".join(map(bytes, envelope.seal_stream(header, made.plaintext, "", iter([plaintext])))))


def test_an_object_that_is_bound_to_no_key_is_refused(place):
    plant_unbound(place.proxy, place.key, b"any artifact")
    place.assert_refused("is not bound to an artifact key")
    found = outcome(lambda: place.argo.open_stream(place.key))
    assert_own_line(found, "DATA_LOSS", "OpenStream", place.key)
    assert "allowUnbound" in found.text


@pytest.mark.parametrize("chain_options", [options(chain) for chain in CHAINS[:2]], ids=CHAINS[:2])
def test_an_object_that_is_bound_to_no_key_is_opened_where_the_configuration_allows_it(start, key, chain_options):
    settings = {**chain_options["settings"], "allowUnbound": True}
    proxy = start(**{**chain_options, "settings": settings})
    plant_unbound(proxy, key, b"any artifact")
    assert proxy.argo().open_stream(key) == b"any artifact"
    proxy.argo().load(key, proxy.work / "loaded")
    assert (proxy.work / "loaded").read_bytes() == b"any artifact"


# --- plaintext by a policy --------------------------------------------------------------------------------

READS = document([{"effect": "allow"}], encryption=[{"readPlaintext": "allow"}])


@pytest.mark.parametrize("transfer", ["file", "stream"])
@pytest.mark.parametrize("downstream", ["vendor", "bundled"])
def test_a_policy_that_reads_plaintext_reads_no_sealed_directory_without_its_manifest(start, key, downstream, transfer):
    chosen = options(f"{downstream} {transfer}")
    proxy = start(**{**chosen, "settings": {**chosen["settings"], "policies": [READS]}})
    place = Place(proxy, key)
    for name in ("a", "deeper/b"):
        plant(proxy, f"{key}/{name}", b"never sealed", None)
    assert {name: data for name, data in place.load().items() if data} == dict.fromkeys(
        ("a", "deeper/b"), b"never sealed"
    )
    sealed = Place(proxy, f"{key}-sealed")
    sealed.save("tree", ABC)
    assert sealed.load() == ABC
    (sealed.stored / MANIFEST).unlink()
    sealed.assert_refused("no Save through Sealgate has finished storing it")
    shutil.rmtree(sealed.stored)
    plant(proxy, f"{sealed.key}/a", b"never sealed", None)
    plant(proxy, f"{sealed.key}/b", b"sealed", NOW)
    sealed.assert_refused("no Save through Sealgate has finished storing it")


# --- what the downstream is asked -------------------------------------------------------------------------


def capabilities(argo: Argo) -> tuple[bool, dict[str, str]]:
    stub = argo.channel().unary_unary(
        "/artifact.ArtifactService/GetCapabilities",
        request_serializer=pb.GetCapabilitiesRequest.SerializeToString,
        response_deserializer=pb.GetCapabilitiesResponse.FromString,
    )
    answer, call = stub.with_call(pb.GetCapabilitiesRequest(), timeout=60)
    return answer.supports_save_stream, dict(call.trailing_metadata())


def test_the_bundled_backend_says_that_it_replaces_whole_artifacts(bundled):
    assert bundled.argo().is_directory("any") is False, "the backend is running"
    backend = Argo(bundled.socket.parent / ".sealgate-downstream" / "socket")
    marks = {"sealgate-replaces": "1", "sealgate-creates": "1", "sealgate-upload-end": "1"}
    assert capabilities(backend) == (True, marks)
    backend.close()
    assert capabilities(bundled.argo()) == (True, {"sealgate-upload-end": "1"}), "the proxy promises less"


KEEPS = ["IsDirectory", "ListObjects", "OpenStream", "Save", "SaveStream"]


@pytest.mark.parametrize(("replaces", "asked"), [("1", ["Save", "SaveStream"]), ("", KEEPS), ("0", KEEPS)])
def test_a_downstream_that_replaces_whole_artifacts_is_asked_nothing_more(start, replaces, asked):
    proxy = start(environment={"VENDOR_STREAMS": "1", "VENDOR_REPLACES": replaces})
    tree = Place(proxy, "t").tree("tree", {"a": b"x"})
    argo = proxy.argo("fault: shown\n")  # the vendor prints the calls and does nothing else
    argo.save("f", tree / "a")
    argo.save("t", tree)
    seen = re.findall(r"shown on (\w+) of [ft]$", proxy.output(), re.MULTILINE)
    assert sorted(seen) == asked, seen


@pytest.mark.parametrize("last", ["save", "delete"])
def test_more_objects_than_the_baseline_lists_are_listed_and_removed(make, last):
    """No listing limit applies to what a Save or a Delete needs, in the proxy or in the child behind it."""
    allow_all = {"settings": {"policies": [document([{"effect": "allow"}])]}}
    proxy = make(downstream=[*SEALGATE, "backend"], **allow_all).start()
    stored = proxy.storage / "ns/many"
    stored.mkdir(parents=True)
    for number in range(10_001):
        (stored / f"{number:05}").touch()
    with closing(proxy.argo(timeout=600)) as argo:
        assert len(argo.list_objects("ns/many")) == 10_001
        if last == "save":
            argo.save("ns/many", write_tree(proxy.work / "tree"))
            assert len(list(stored.rglob("*"))) < 100
        else:
            argo.delete("ns/many")
            assert not stored.exists()


@pytest.mark.large
@pytest.mark.timeout(900)
@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_a_directory_of_10001_files_is_saved_listed_loaded_saved_again_and_deleted(make, transfer):
    """No listing limit applies to what a Save, a Load or a Delete needs, in the proxy or in the child behind it."""
    allow_all = {"settings": {"policies": [document([{"effect": "allow"}])], "spool": {"transfer": transfer}}}
    proxy = make(downstream=[*SEALGATE, "backend"], **allow_all).start()
    tree = proxy.work / "tree"
    tree.mkdir()
    for number in range(10_001):
        (tree / f"{number:05}").write_bytes(b"%d" % number)
    with closing(proxy.argo(timeout=600)) as argo:
        for _ in range(2):
            argo.save("ns/many", tree)
        assert len(argo.list_objects("ns/many")) == 10_001
        argo.load("ns/many", proxy.work / "loaded")
        assert {path.name: path.read_bytes() for path in (proxy.work / "loaded").iterdir()} == {
            path.name: path.read_bytes() for path in tree.iterdir()
        }
        argo.delete("ns/many")
        assert argo.is_directory("ns/many") is False

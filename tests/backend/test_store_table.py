"""Every operation on every kind of store, through the socket. A table of docs/backend.md is written from this."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness.argo import Argo
from harness.chain import SEALGATE, Proxy
from harness.content import read_tree
from harness.gateways import limiting_deletions, weak_etags
from harness.outcome import IN_THE_ANSWER, TRANSIENT, outcome
from harness.page import Table
from harness.policy import document
from harness.s3 import Server
from harness.stores import ROWS, Row

PAGE = Path(__file__).parents[2] / "docs" / "backend.md"
TABLE = Table(PAGE, list(ROWS), below="## Tested on")
ONCE = {"effect": "require", "match": {"keys": ["once/**"]}, "require": {"overwrite": "deny"}}
SIZES = (0, 1, 70_000, (3 << 20) + 1)
TREE = {"a": b"1", "b c/d": b"", "b c/é %41": b"3" * 70_000, "deep/er/file": b"4"}
WITHOUT_CREATE_ONLY = "the store has no create-only writes"

pytestmark = pytest.mark.timeout(900, func_only=False)  # the first test installs a server


@dataclass
class Place:
    """A proxy in front of the store of one row."""

    proxy: Proxy
    argo: Argo
    row: Row
    _paths: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def fresh(self) -> Path:
        return self.proxy.work / f"p{next(self._paths)}"

    def tree(self, files: dict[str, bytes]) -> Path:
        root = self.fresh()
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root

    def loaded(self, key: str) -> Path:
        self.argo.load(key, path := self.fresh())
        return path


def files_in(root: Path) -> dict[str, bytes]:
    return {path: content for path, content in read_tree(root).items() if content is not None}


def files(place: Place) -> str:
    for size in (*SIZES, 1):  # the last one replaces another
        content = os.urandom(size)
        (path := place.fresh()).write_bytes(content)
        place.argo.save(f"other-bucket/file-{size}", path)
        assert place.loaded(f"other-bucket/file-{size}").read_bytes() == content
    return "right"


def streams(place: Place) -> str:
    for size in SIZES:
        content = os.urandom(size)
        place.argo.save_stream(f"stream/{size}", content)
        assert place.argo.open_stream(f"stream/{size}") == content
    return "right"


def directories(place: Place) -> str:
    for tree in (TREE, {"a": b"other", "new": b"5"}):  # the second one replaces the first
        place.argo.save("tree", place.tree(tree))
        assert files_in(place.loaded("tree")) == tree
    return "right"


def listing(place: Place) -> str:
    place.argo.save("listed", place.tree(TREE))
    assert sorted(place.argo.list_objects("listed")) == sorted(f"listed/{path}" for path in TREE)
    assert place.argo.is_directory("listed") is True
    assert place.argo.is_directory("listed/a") is False
    assert place.argo.list_objects("listed/a") == []
    return "right"


def absent(place: Place) -> str:
    for read in (lambda: place.loaded("absent/key"), lambda: place.argo.open_stream("absent/key")):
        assert outcome(read).code in {IN_THE_ANSWER, "NOT_FOUND"}
    assert place.argo.list_objects("absent/key") == []
    assert place.argo.is_directory("absent/key") is False
    place.argo.delete("absent/key")
    return "right"


def create_only(place: Place) -> str:
    place.argo.save_stream("once/key", b"first")
    assert outcome(lambda: place.argo.save_stream("once/key", b"second")).code == "PERMISSION_DENIED"
    assert place.argo.open_stream("once/key") == b"first"
    return "not offered" if WITHOUT_CREATE_ONLY in place.proxy.output() else "right"


def deletions(place: Place) -> str:
    place.argo.save("deleted/tree", place.tree(TREE))
    place.argo.save_stream("deleted/file", b"x")
    for key in ("deleted/tree", "deleted/file", "deleted/tree"):
        place.argo.delete(key)
        assert place.argo.is_directory(key) is False
        assert outcome(lambda key=key: place.argo.open_stream(key)).code in {IN_THE_ANSWER, "NOT_FOUND"}
    if place.row.names:
        assert not any("deleted" in name for name in place.row.names())
    if place.row.in_bulk is not None:
        assert place.row.in_bulk.count("bulk") <= 2, "a lasting answer is remembered; the library repeats it once"
    return "right"


OPERATIONS: list[Callable[[Place], str]] = [files, streams, directories, listing, absent, create_only, deletions]


@contextmanager
def opened(name: str, home: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    with ROWS[name](home, request.getfixturevalue) as row:
        proxy = Proxy(
            home,
            downstream=[*SEALGATE, "backend"],
            settings={"policies": [document([{"effect": "allow"}, ONCE])]},
            environment=row.environment,
        )
        with closing(Argo(proxy.start().socket, row.configuration)) as argo:
            yield Place(proxy, argo, row)
        assert proxy.stop() == 0, proxy.output()


@pytest.mark.parametrize("name", ROWS)
def test_every_operation_is_right_through_the_socket(name, tmp_path, request):
    with opened(name, tmp_path, request) as place:
        found = [operation(place) for operation in OPERATIONS]
        names = {key.removeprefix(place.row.prefix) for key in place.row.names()} if place.row.names else set()
    assert not names or "other-bucket/file-1" in names, "a key does not choose the bucket"
    TABLE.hold(name, [found], write=request.config.getoption("write_docs"))


def test_the_page_has_these_stores_and_no_others(request):
    if request.config.getoption("write_docs"):
        pytest.skip("the page is being written")
    assert TABLE.names() == list(ROWS)


def test_names_of_the_longest_length_that_a_file_may_have_are_stored_in_a_directory(tmp_path, request):
    with opened("directory", tmp_path, request) as place:
        for length in (249, 250, 254, 255):
            name = "n" * length
            place.argo.save_stream(f"models/{name}", b"x")
            assert place.argo.open_stream(f"models/{name}") == b"x"
            tree = {name: b"y", f"{name[1:]}/{name}": b"z"}
            place.argo.save(f"tree/{name}", place.tree(tree))
            assert files_in(place.loaded(f"tree/{name}")) == tree
        place.argo.delete("tree")
        assert place.argo.list_objects("tree") == []


def s3_proxy(home: Path, server: Server, bucket: str, **options) -> Proxy:
    home.mkdir(exist_ok=True)
    config = json.dumps(server.config(**options))
    environment = {"SEALGATE_BACKEND_URL": f"s3://{bucket}", "SEALGATE_BACKEND_CONFIG": config}
    return Proxy(home, downstream=[*SEALGATE, "backend"], environment=environment).start()


def test_a_weak_etag_is_not_taken_for_a_replaced_object(tmp_path, versitygw):
    bucket, content = versitygw.new_bucket(), os.urandom(20 << 20)
    proxy = s3_proxy(tmp_path, versitygw, bucket)
    proxy.argo().save_stream("models/one", content)
    assert proxy.stop() == 0
    with weak_etags(versitygw.endpoint) as endpoint:
        proxy = s3_proxy(tmp_path, versitygw, bucket, endpoint=endpoint)
        assert proxy.argo().open_stream("models/one") == content
        assert proxy.stop() == 0


@pytest.mark.parametrize("denied", ["one", "one/b"], ids=["by a status", "within the answer to a bulk deletion"])
def test_a_right_to_delete_that_is_missing_is_named_with_its_remedy(tmp_path, moto, denied):
    bucket = moto.new_bucket()
    with limiting_deletions(moto, denied=denied) as (endpoint, _):
        proxy = s3_proxy(tmp_path, moto, bucket, endpoint=endpoint)
        tree = proxy.work / "tree"
        tree.mkdir()
        for name in "abc":
            (tree / name).write_bytes(b"x")
        proxy.argo().save("models/one", tree)
        found = outcome(lambda: proxy.argo().delete("models/one"))
        assert "refused the credentials, or they lack a right" in found.text
        assert "rights to list, read, write and delete" in found.text
        assert not any(word in found.text for word in TRANSIENT)
        assert proxy.argo().is_directory("models/one") is True or denied == "one"
        proxy.stop()

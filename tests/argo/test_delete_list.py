"""Facts 39 to 45 of docs/argo-contract.md: Delete, ListObjects, IsDirectory."""

from __future__ import annotations

import pytest
from harness.chain import Proxy
from harness.content import read_tree, write_tree
from harness.outcome import assert_own_line, outcome
from harness.policy import document


@pytest.fixture(params=["proxy", "bundled", "builtin"])
def chain(request) -> Proxy:
    return request.getfixturevalue(request.param)


@pytest.fixture
def argo(chain):
    return chain.argo()


@pytest.fixture
def tree(chain, argo, key):
    """A local directory that is stored under `key`."""
    written = write_tree(chain.work / key.replace("/", "-"))
    argo.save(key, written)
    return written


def test_39_deleting_a_missing_artifact_succeeds_every_time(chain, argo, key):
    argo.save_stream(key, b"some plaintext")
    for _ in range(6):
        argo.delete(key)
    assert not (chain.storage / key).exists()


def test_40_a_directory_is_deleted_with_everything_beneath_it(chain, argo, key, tree):
    argo.save_stream(f"{key}-beside", b"some plaintext")
    argo.delete(key)
    assert argo.list_objects(key) == []
    assert not (chain.storage / key).exists()
    assert argo.open_stream(f"{key}-beside") == b"some plaintext"


def test_41_a_listing_has_every_object_by_its_full_and_plain_key(argo, key, tree):
    files = [name for name, data in read_tree(tree).items() if data is not None]
    assert argo.list_objects(key) == sorted(f"{key}/{name}" for name in files)


def test_42_a_listing_larger_than_argo_accepts_is_an_error(proxy, start, key):
    found = outcome(lambda: proxy.argo("fault: huge\n").list_objects(key))
    assert_own_line(found, "PERMISSION_DENIED", "ListObjects", key)
    assert proxy.argo().list_objects(key) == []
    unlimited = start(settings={"policies": [document([{"effect": "allow"}])]})
    found = outcome(lambda: unlimited.argo("fault: huge\n").list_objects(key))
    assert_own_line(found, "RESOURCE_EXHAUSTED", "ListObjects", key)


def test_43_an_empty_directory_has_an_empty_listing(chain, argo, key):
    (chain.work / "empty").mkdir()
    argo.save(key, chain.work / "empty")
    assert argo.list_objects(key) == []
    assert argo.is_directory(key)


def test_44_is_directory_is_true_for_directories_alone(argo, key, tree):
    assert argo.is_directory(key)
    assert argo.is_directory(f"{key}/deeper")
    assert not argo.is_directory(f"{key}/file")
    assert not argo.is_directory(f"{key}-missing")


def test_44_is_directory_is_false_where_the_downstream_lacks_it(proxy, key):
    assert not proxy.argo("fault: unimplemented\n").is_directory(key)


def test_45_a_file_has_nothing_beside_or_beneath_it(chain, argo, key):
    argo.save_stream(key, b"some plaintext")
    source = chain.work / "one file"
    source.write_bytes(b"some plaintext")
    argo.save(f"{key}-saved", source)
    for stored in (key, f"{key}-saved"):
        assert not argo.is_directory(stored)
        assert argo.list_objects(stored) == []
    beside = (chain.storage / key).parent.glob(f"{key.rpartition('/')[2]}*")
    assert sorted(path.name for path in beside) == [f"{key}{end}".rpartition("/")[2] for end in ("", "-saved")]

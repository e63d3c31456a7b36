"""A Delete succeeds only if nothing of the artifact is left, whatever the downstream answers."""

from __future__ import annotations

import pytest
from harness.layer_bench import ALLOW, WAYS, Bench
from harness.memory_plugin import MemoryPlugin
from harness.policy import document

from sealgate.call import Operation
from sealgate.errors import DataLoss, DownstreamStatus, LimitReached, PluginError, Refused
from sealgate.storage.stored_objects import Transfer

ONCE = document([ALLOW, {"effect": "require", "require": {"overwrite": "deny"}}])


class Locking(MemoryPlugin):
    """Refuses to delete the objects `locked`, with the text `answer`."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer = answer
        self.locked: set[str] = set()

    def delete(self, call, artifact):
        if artifact.key in self.locked:
            raise Refused(self.answer.format(key=artifact.key))
        super().delete(call, artifact)


@pytest.mark.parametrize(
    ("key", "answer", "error"),
    [
        ("not-found/r", "cannot delete object {key}: AccessDenied", Refused),
        ("r", "lock table: object not found, so {key} stays", DataLoss),
    ],
)
def test_the_text_of_an_error_never_makes_a_delete_succeed(tmp_path, key, answer, error):
    bench = Bench(tmp_path, below=Locking(answer))
    bench.save("first", bench.file())
    bench.delete("first")
    bench.save(key, bench.file())
    bench.below.locked = {key}
    with pytest.raises(error):
        bench.delete(key)
    assert bench.below.objects.keys() == {key}


def test_no_words_of_a_key_let_a_write_once_object_be_replaced(tmp_path):
    class Failing(MemoryPlugin):
        fails = False

        def open_stream(self, call, artifact):
            if self.fails:
                raise Refused(f"cannot read object {artifact.key}: backend overloaded")
            if artifact.key not in self.objects:
                raise DownstreamStatus("NOT_FOUND", "")
            yield from super().open_stream(call, artifact)

    bench = Bench(tmp_path, ONCE, below=Failing())
    bench.save("not-found/r", bench.file(b"one"))
    bench.below.fails = True
    with pytest.raises(PluginError):
        bench.save("not-found/r", bench.file(b"two"))
    bench.below.fails = False
    assert bench.stream("not-found/r") == [b"one"]


class Vacant(MemoryPlugin):
    """Says in words of its own that nothing is stored."""

    def open_stream(self, call, artifact):
        if artifact.key not in self.objects:
            raise DownstreamStatus("INTERNAL", "the drawer is vacant")
        yield from super().open_stream(call, artifact)


@WAYS
def test_a_directory_replaces_a_file_where_absent_keys_have_an_unknown_text(tmp_path, transfer):
    bench = Bench(tmp_path, below=Vacant(), transfer=transfer)
    bench.save("k", bench.file(b"old"))
    bench.file(b"new", "tree/a")
    bench.save("k", bench.work / "tree")
    assert bench.below.objects.keys() == {"k/a", "k/.sealgate-manifest"}


@pytest.mark.parametrize("configuration", ['{"bucket": "b", "key": "-----BEGIN\\nabc"}', "sas: sig=a%2Fb\n"])
def test_an_artifact_with_escapes_in_its_configuration_can_be_deleted_again(tmp_path, configuration):
    class Storing(MemoryPlugin):
        def list_objects(self, call, artifact):
            if not (listed := self._beneath(artifact)) and artifact.key not in self.objects:
                raise Refused(f"no key found of name {artifact.key}")
            return listed

    bench = Bench(tmp_path, below=Storing())
    bench.save("f", bench.file(), configuration=configuration)
    for _ in range(2):
        bench.do(Operation.DELETE, "f", configuration=configuration)
    assert not bench.below.objects


class Refusing(MemoryPlugin):
    """Deletes one object, and refuses to delete a key beneath which objects are stored."""

    text = "remove {key}: directory not empty"

    def delete(self, call, artifact):
        self._note("delete", artifact)
        if artifact.key not in self.objects and self._beneath(artifact):
            raise Refused(self.text.format(key=artifact.key))
        self.objects.pop(artifact.key, None)


@WAYS
@pytest.mark.parametrize("text", [Refusing.text, "Is a directory: '{key}'", "unlinkat {key}: is a directory"])
def test_a_directory_is_deleted_though_the_delete_of_its_key_is_refused(tmp_path, transfer, text):
    bench = Bench(tmp_path, below=Refusing(), transfer=transfer)
    bench.below.text = text
    bench.file(b"x", "tree/a")
    bench.file(b"y", "tree/b/c")
    for _ in range(2):
        bench.save("ns/d", bench.work / "tree")
        bench.delete("ns/d")
        assert not bench.below.objects


def test_a_refused_delete_fails_if_an_object_stays_at_the_key(tmp_path):
    bench = Bench(tmp_path, below=Locking("locked: {key}"))
    bench.below.locked = {"d"}
    bench.plant("d")
    bench.plant("d/x")
    with pytest.raises(Refused, match="locked: d"):
        bench.delete("d")
    assert bench.below.objects.keys() == {"d"}


class Deleting(MemoryPlugin):
    """Deletes the object at the key alone, and lists relative names."""

    def delete(self, call, artifact):
        self._note("delete", artifact)
        self.objects.pop(artifact.key, None)

    def list_objects(self, call, artifact):
        self._note("list_objects", artifact)
        return [key.removeprefix(f"{artifact.key}/") for key in self._beneath(artifact)]


class ListsNothing(Deleting):
    def list_objects(self, call, artifact):
        self._note("list_objects", artifact)
        return []


class ListsTooMuch(MemoryPlugin):
    def list_objects(self, call, artifact):
        raise LimitReached("the downstream sent more than 33554432 bytes in one message", says="downstream")


@pytest.mark.parametrize("plugin", [Deleting, ListsNothing])
def test_a_listing_without_the_key_does_not_hide_what_a_delete_left(tmp_path, plugin):
    bench = Bench(tmp_path, below=plugin())
    bench.file(b"x", "tree/a")
    bench.save("f", bench.file())
    bench.delete("f")
    bench.save("d", bench.work / "tree")
    with pytest.raises(DataLoss, match="still stored beneath the key"):
        bench.delete("d")


def test_a_directory_with_too_long_a_listing_can_be_deleted(tmp_path):
    bench = Bench(tmp_path, below=ListsTooMuch())
    bench.plant_tree("d", {"a": b"x"})
    bench.delete("d")
    assert not bench.below.objects


@pytest.mark.parametrize("is_directory", [False, True])
def test_a_delete_loads_nothing_where_the_downstream_streams(tmp_path, is_directory):
    bench = Bench(tmp_path, below=MemoryPlugin(), transfer=Transfer.FILE)
    bench.file(b"x", "tree/a")
    bench.save("k", bench.work / "tree" if is_directory else bench.file())
    bench.below.calls.clear()
    bench.delete("k")
    assert not bench.below.objects
    assert "load" not in bench.below.calls

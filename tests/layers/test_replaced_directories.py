"""A Save of a directory over an earlier one: what has the place of a new directory goes first, the rest goes last."""

from __future__ import annotations

import pytest
from harness.layer_bench import ALLOW, WAYS, Bench
from harness.memory_plugin import MemoryPlugin
from harness.policy import document

from sealgate import envelope
from sealgate.errors import DownstreamStatus, PluginError

PLAIN = document([ALLOW], encryption=[{"write": "passthrough", "readPlaintext": "allow"}])
MANIFEST = f"k/{envelope.MANIFEST}"


class AbsentKeysFail(MemoryPlugin):
    """Refuses to delete what is not stored, with an answer that nothing recognizes."""

    def delete(self, call, artifact):
        if artifact.key not in self.objects and not self._beneath(artifact):
            raise DownstreamStatus("INTERNAL", "the drawer is vacant")
        super().delete(call, artifact)


@WAYS
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "passthrough"])
@pytest.mark.parametrize("plugin", [MemoryPlugin, AbsentKeysFail])
@pytest.mark.parametrize("old", [["a"], ["a", "a/b"], ["a", "a/b", "a/c", "z"]])
def test_a_file_that_became_a_directory_is_replaced_by_it(tmp_path, transfer, sealed, plugin, old):
    bench = Bench(
        tmp_path,
        *(() if sealed else (PLAIN,)),
        transfer=transfer,
        below=plugin(),
        **({} if sealed else {"allows_passthrough": True}),
    )
    for path in old:
        bench.plant(f"k/{path}", b"old", age=0 if sealed else None)
    bench.file(b"new", "new/a/b/c")
    bench.file(b"new", "new/d")
    bench.save("k", bench.work / "new")
    new = {"k/a/b/c", "k/d"}
    assert bench.below.objects.keys() == (new | {MANIFEST} if sealed else new)
    with pytest.raises(PluginError):
        bench.stream("k/a")
    loaded = bench.load("k")
    assert {path.relative_to(loaded).as_posix() for path in loaded.rglob("*") if path.is_file()} == {"a/b/c", "d"}

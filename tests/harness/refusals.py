"""Generates docs/refusals.md, which shows the text of each refusal. `make refusals` writes it, and a test compares it.

The refusals of the library are decisions of the engine. Another test compares them with the answers at the socket. All
other refusals come from calls of the layers.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.layer_bench import ALLOW, Bench
from harness.library import rows, without_id
from harness.memory_plugin import MemoryPlugin
from harness.policy import document

from sealgate import config
from sealgate.call import Call, Operation
from sealgate.compose.policies import load_policies
from sealgate.errors import PluginError, Refused
from sealgate.plugin import Artifact
from sealgate.policy.rules import Process
from sealgate.storage.stored_objects import Transfer

PAGE = Path(__file__).parents[2] / "docs" / "refusals.md"
HEAD = """# Refusals

This page shows the texts that the author of a workflow reads when Sealgate refuses a call. Argo's user interface shows
them in the message of the node, after `rpc error: code = PermissionDenied desc = `.

Each text is one line of at most 400 bytes. It contains the operation and the key, the fact, the source of the decision,
a remedy, and a decision id that also appears in the log and in the audit trail. The code is also in the metadata of the
answer, as `sealgate-code`. [The guide](policies.md) explains how a policy decides, and [the
reference](policy-reference.md#refusals) lists the codes.

`make refusals` generates this page. Tests compare the refusals of the library with the answers at the socket, and make
a call for each of the others.

"""
IN_PLACE = "apiVersion: sealgate/v1alpha1\nkind: Sealgate\ndownstream: {command: [x]}\n"
DIFFERENT_AT_SOCKET = {"12", "40"}
"""Cases whose text at the socket differs: an attested identity that is empty, and a directory."""


def page() -> str:
    return HEAD + "".join(f"**{title}**\n\n    {text}\n\n" for title, text in refusals()).rstrip("\n") + "\n"


def refusals() -> Iterator[tuple[str, str]]:
    for row in rows():
        if row.number not in DIFFERENT_AT_SOCKET and (text := row.refusal()):
            yield f"{row.policy}: {row.name.partition(' ')[2]}", text
    with tempfile.TemporaryDirectory() as home:
        for number, (title, call) in enumerate(CALLS.items()):
            yield title, call(Path(home, str(number)))
    for title, settings in (
        ("The policies do not load", "policies: [{apiVersion: sealgate/v1alpha1, kind: ArtifactPolicie}]\n"),
        ("A policy is required, and the configuration has none", "requirePolicy: true\n"),
    ):
        yield (
            title,
            refused(lambda settings=settings: load_policies(config.parse(IN_PLACE + settings, "configuration"))),
        )


def refused(do: Callable[[], object], call: Callable[[], Call] = lambda: Call(Operation.LOAD), key="team-a/x") -> str:
    try:
        do()
    except PluginError as error:
        return without_id(error.line(call(), key))
    raise AssertionError


# --- calls ------------------------------------------------------------------------------------------------


class Scene(Bench):
    """A bench whose calls on the artifact team-a/x are refused."""

    def __init__(self, home: Path, *rules: dict, encryption=(), transfer=Transfer.STREAM, **options) -> None:
        spec = options.pop("spec", {})
        super().__init__(
            home, document(rules, encryption=encryption, **spec), transfer=transfer, process=Process({}), **options
        )

    def refused(self, do: Callable[[], object]) -> str:
        return refused(do, lambda: self.call)

    def loaded(self) -> str:
        return self.refused(lambda: self.load("team-a/x"))

    def saved(self, path: Path | None = None, **options) -> str:
        return self.refused(lambda: self.save("team-a/x", path or self.file(), **options))


def _grant(**limits) -> dict:
    return {**ALLOW, "limits": limits}


def _directory(home: Path, *rules: dict) -> str:
    scene = Scene(home, *rules)
    scene.plant_tree("team-a/x", {name: bytes(50) for name in "abc"})
    return scene.loaded()


def _child(home: Path, *, own: bool) -> str:
    scene = Scene(home, ALLOW, {"effect": "deny", "match": {"keys": ["**/secret/**"]}})
    if own:
        scene.file(name="tree/secret/y")
        return scene.saved(scene.work / "tree")
    scene.plant_tree("team-a/x", {"secret/y": b"stored"})
    return scene.loaded()


def _listing(home: Path, *, hidden: bool) -> str:
    scene = Scene(home, spec={"enforcement": "shadow"})
    if hidden:
        scene = Scene(
            home / "own", ALLOW, {"effect": "deny", "match": {"keys": ["**/secret/**"]}}, spec={"listing": "deny"}
        )
        scene.plant("team-a/x/secret/y")
    else:
        scene.below.objects = {f"team-a/x/{number}": b"" for number in range(10_001)}
    return scene.refused(lambda: scene.list("team-a/x"))


def _young(home: Path, *, replaced: bool) -> str:
    scene = Scene(home, ALLOW, {"effect": "require", "require": {"minAge": "30d"}})
    if replaced:
        scene.plant("team-a/x/y", age=86_400)
        return scene.saved()
    scene.plant("team-a/x", age=86_400)
    return scene.refused(lambda: scene.delete("team-a/x"))


def _partly_written(home: Path) -> str:
    class Growing(MemoryPlugin):
        def save_stream(self, call, artifact, chunks):
            super().save_stream(call, artifact, chunks)
            os.truncate(scene.work / "tree" / "b", 2 << 20)

    scene = Scene(home, _grant(maxBytes="1MiB"), below=Growing())
    scene.plant("team-a/x/a")
    scene.file(bytes(1 << 20), "tree/a")  # too large to be on its way beside another file
    scene.file(name="tree/b")
    return scene.saved(scene.work / "tree")


def _without_answer(home: Path, *, stored: bool) -> str:
    class Mute(MemoryPlugin):
        def open_stream(self, call, artifact):
            raise Refused("access denied")

    scene = Scene(home, ALLOW, {"effect": "require", "require": {"minAge": "30d", "overwrite": "deny"}}, below=Mute())
    if not stored:
        return scene.saved()
    scene.plant("team-a/x")
    return scene.refused(lambda: scene.delete("team-a/x"))


def _plaintext(home: Path) -> str:
    scene = Scene(home, spec={"enforcement": "shadow"})
    scene.plant("team-a/x", age=None)
    return scene.loaded()


def _annotated(home: Path) -> str:
    made = document([{"effect": "deny", "message": "the archive is closed"}])
    made["metadata"]["annotations"] = {"owner": "platform@example.com", "runbook": "https://wiki.example.com/archive"}
    bench = Bench(home, made, process=Process({}))
    return refused(lambda: bench.load("team-a/x"), lambda: bench.call)


def _pipe(home: Path) -> str:
    scene = Scene(home, ALLOW)
    (scene.work / "tree").mkdir()
    os.mkfifo(scene.work / "tree" / "pipe")
    return scene.saved(scene.work / "tree")


def _unusable_name(home: Path) -> str:
    scene = Scene(home, ALLOW)
    scene.file(name="tree/sub/10%2F11")
    return scene.saved(scene.work / "tree")


def _long_name(home: Path) -> str:
    scene = Scene(home, ALLOW)
    return scene.refused(lambda: scene.governed.delete(scene.call, Artifact("team-a/x", name="x" * 5000)))


def _link(home: Path) -> str:
    scene = Scene(home, ALLOW)
    scene.file(name="tree/a")
    (scene.work / "tree" / "link").symlink_to("a")
    return scene.saved(scene.work / "tree")


def _sealed_differently(home: Path, **planted) -> str:
    scene = Scene(home, ALLOW, encryption=[{"key": "one", "context": {"tenant": "team-a"}}])
    scene.plant("team-a/x", **planted)
    return scene.loaded()


def _separate_encryption(home: Path) -> str:
    scene = Scene(home, ALLOW, encryption=[{"match": {"keys": ["**/secret/**"]}, "key": "one"}, {}])
    scene.file(name="tree/secret/y")
    return scene.saved(scene.work / "tree")


def _author(home: Path, configuration: str) -> str:
    return Scene(home, ALLOW).saved(configuration=configuration)


CALLS: dict[str, Callable[[Path], str]] = {
    "A stored directory holds more files than a grant allows": lambda home: _directory(home, _grant(maxFiles=2)),
    "A stored directory is too large in total": lambda home: _directory(home, _grant(maxTotalBytes=100)),
    "A file is too small": lambda home: Scene(home, _grant(minBytes=10)).saved(),
    "A file is too large": lambda home: Scene(home, _grant(maxBytes=4)).saved(),
    "A key has too many segments": lambda home: Scene(home, _grant(maxDepth=1)).loaded(),
    "A key is too long": lambda home: Scene(home, _grant(maxKeyBytes=4)).loaded(),
    "The rule that allowed it has expired": lambda home: Scene(
        home, {**ALLOW, "expires": "2026-12-01T18:00:00Z"}
    ).loaded(),
    "The policy names its owner and its runbook": _annotated,
    "A file of a directory is denied": lambda home: _child(home, own=True),
    "A stored directory contains an object that must not be read": lambda home: _child(home, own=False),
    "A file of a directory is denied after other files were stored": _partly_written,
    "A directory contains a symbolic link": _link,
    "A directory contains a pipe": _pipe,
    "A directory contains a file with a name that no key can have": _unusable_name,
    "The name of an artifact is too long to be matched": _long_name,
    "The stored object was never sealed, and no policy is enforced": _plaintext,
    "It is unknown whether an object would be replaced": lambda home: _without_answer(home, stored=False),
    "The age of an object is unknown": lambda home: _without_answer(home, stored=True),
    "A listing contains objects that must not be read": lambda home: _listing(home, hidden=True),
    "A listing is too long, and no policy is enforced": lambda home: _listing(home, hidden=False),
    "An object is too young to be deleted": lambda home: _young(home, replaced=False),
    "An object is too young to be replaced": lambda home: _young(home, replaced=True),
    "The evaluation of a condition fails": lambda home: Scene(
        home, ALLOW, {"effect": "deny", "when": "segments[5] == 'x'"}
    ).loaded(),
    "No encryption rule covers the key": lambda home: Scene(
        home, ALLOW, encryption=[{"match": {"keys": ["sealed/**"]}}]
    ).saved(),
    "An encryption rule cannot be evaluated": lambda home: Scene(
        home, ALLOW, encryption=[{"key": "tenant-${identity.namespace}"}]
    ).saved(),
    "A file of a directory has another encryption rule": _separate_encryption,
    "An object was sealed with another context": lambda home: _sealed_differently(
        home, under="one", context=[("tenant", "team-b")]
    ),
    "An object was sealed under another key": lambda home: _sealed_differently(home, under="two"),
    "An author's block names a key that is not allowed": lambda home: _author(home, "sealgate: {key: other}"),
    "An author's block names another key than the policy allows": lambda home: Scene(
        home, ALLOW, encryption=[{"key": "one", "authorKeys": ["one", "two"]}]
    ).saved(configuration="sealgate: {key: other}"),
    "An author's block has a field other than key": lambda home: _author(home, "sealgate: {context: {}}"),
    "An author's block is not valid": lambda home: _author(home, "sealgate: {key: a, key: b}"),
    "A text with an author's block is neither YAML nor JSON": lambda home: _author(
        home, "sealgate: {key: shared}\nformat: %b\n"
    ),
}


if __name__ == "__main__":
    PAGE.write_text(page())

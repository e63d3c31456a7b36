"""The vectors of directories: those that must open, and those that must be refused, each with one fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.vectors.bases import flip
from tests.vectors.directory_writer import (
    DIRECTORY_KEY,
    EMPTY_DIRECTORY,
    FILE,
    FILES,
    MAGIC,
    MANIFEST,
    DirectoryVector,
    Member,
    Saved,
    entry,
    listing,
)
from tests.vectors.writer import FILE_LABEL, MANIFEST_LABEL, NONE, fixed, stored, u32

SAVED = Saved()
OTHER = replace(SAVED, recipe=replace(SAVED.recipe, label="another Save", sealed_at=1_767_312_000, audit_sequence=8))
ELSEWHERE = replace(SAVED, recipe=replace(SAVED.recipe, artifact_key="models/8"))
UNBOUND = replace(SAVED, recipe=replace(SAVED.recipe, label="unbound directory", binding=NONE))
REWRAPPED = replace(SAVED, recipe=replace(SAVED.recipe, key_version=3))
KEYS = SAVED.data_keys | OTHER.data_keys


def vectors() -> Iterator[DirectoryVector]:
    yield from _opened()
    yield from _changed_files()
    yield from _changed_manifest()
    yield from _paths()
    yield from _lists()


def opened(name: str, what: str, saved: Saved, **more: dict[str, bytes]) -> DirectoryVector:
    """Return a vector that must open to what `saved` contains; `more` are foreign objects, by a name for each set."""
    foreign = {path: content for objects in more.values() for path, content in objects.items()}
    name = f"directory-{name}" if name else "directory"
    left_out = sum(not path.endswith(f"/{MANIFEST}") for path in foreign)
    keys = KEYS if foreign else saved.data_keys
    return DirectoryVector(name, what, saved.objects() | foreign, keys, saved.key, saved=saved, left_out=left_out)


def refused(error: str, name: str, what: str, objects: dict[str, bytes], key: str = DIRECTORY_KEY) -> DirectoryVector:
    return DirectoryVector(f"directory-{name}", what, objects, KEYS, key, error)


def _opened() -> Iterator[DirectoryVector]:
    yield opened("", "two directories with three files, and an empty directory", SAVED)
    yield opened("empty", "no entry at all", _tree("no entries", {}))
    nested = _tree("empty directories", {}, ("a/b/c", "d"))
    yield opened("of-empty-directories", "no file, and two empty directories, one of them deeper", nested)
    order = ["B", "a", "a!/x", "a-b", "b", "c/d/e", "c/d.txt", "c.txt", "k\uffee", "k\U0001f511"]
    what = "names whose order by bytes differs from that of a walk, of letters and of UTF-16"
    yield opened("order", what, _tree("order", {path: path.encode() for path in order}))
    odd = ["a\\b", "a\nb", " ", "-rf", "...", "a:b", "ä", "a\u0308", "\ufffe", f"{MANIFEST}.txt", "x" * 255]
    yield opened("names", "names that are unusual and allowed", _tree("names", dict.fromkeys(odd, b"x"), ("*",)))
    yield opened("deepest", "a path of 255 segments", _tree("deepest", {"/".join(["d"] * 255): b"x"}))
    foreign = {"added.txt": b"plaintext", "logs/added.bin": OTHER.file("weights/0.bin").file()}
    yield opened("added", "objects that the manifest does not list: they are left out", SAVED, added=foreign)
    what = "another directory is stored beneath it: it is left out"
    beneath = {f"weights/old/{path}": content for path, content in OTHER.objects().items()}
    yield opened("beneath", what, SAVED, beneath=beneath)
    what = "only the manifest and one file were wrapped again: the data key is the same"
    mixed = REWRAPPED.objects() | {"weights/0.bin": SAVED.file("weights/0.bin").file()}
    both = SAVED.data_keys | REWRAPPED.data_keys
    yield DirectoryVector("directory-rewrapped", what, mixed, both, saved=SAVED)
    yield opened("unbound", "binding none", UNBOUND)
    what = "the same objects under another artifact key"
    elsewhere = UNBOUND.objects()
    yield DirectoryVector("directory-unbound-elsewhere", what, elsewhere, UNBOUND.data_keys, "elsewhere", saved=UNBOUND)


def _tree(label: str, files: dict[str, bytes], empty: tuple[str, ...] = ()) -> Saved:
    recipe = Member(f"directory: {label}", artifact_key=DIRECTORY_KEY, context=(), audit_chain="", audit_sequence=0)
    return Saved(recipe, files, empty)


def _changed_files() -> Iterator[DirectoryVector]:
    whole, other = SAVED.objects(), OTHER.objects()
    for path in FILES:
        name = path.replace("/", "-")
        yield refused("DirectoryIncomplete", f"without-{name}", f"{path} is missing", _without(whole, path))
        mixed = whole | {path: other[path]}
        yield refused("DirectoryIncomplete", f"other-{name}", f"{path} is from another Save of the directory", mixed)
    alone = {MANIFEST: whole[MANIFEST]}
    yield refused("DirectoryIncomplete", "without-files", "only the manifest is there", alone)
    for name, what, old, new in (
        ("renamed", "a file was renamed", "config.json", "config.yaml"),
        ("renamed-case", "a file was renamed to upper case", "config.json", "CONFIG.JSON"),
        ("moved", "a file was moved up", "weights/0.bin", "0.bin"),
        ("replaced-by-directory", "a directory is in the place of a file", "config.json", "config.json/x"),
    ):
        moved = _without(whole, old) | {new: whole[old]}
        yield refused("DirectoryIncomplete", name, what, moved)
    swapped = whole | {"weights/0.bin": whole["weights/1.bin"], "weights/1.bin": whole["weights/0.bin"]}
    yield refused("Tampered", "files-exchanged", "two files are exchanged", swapped)
    copied = whole | {"weights/1.bin": whole["weights/0.bin"]}
    yield refused("Tampered", "file-copied", "a file is stored over another one", copied)
    config = whole["config.json"]
    for error, name, what, content in (
        ("Tampered", "file-flipped", "a bit of a file is flipped", flip(config, len(config) - 20)),
        ("Tampered", "file-cut", "a file lacks its last byte", config[:-1]),
        ("NotSealed", "file-plaintext", "a file is stored as plaintext", FILES["config.json"]),
        ("Truncated", "file-empty", "a file is stored empty", b""),
        ("Tampered", "manifest-as-file", "the manifest is stored as a file", whole[MANIFEST]),
    ):
        yield refused(error, name, what, whole | {"config.json": content})
    domain = replace(SAVED.file("config.json"), data_label=MANIFEST_LABEL).file()
    what = "a file is sealed with the label of manifests"
    yield refused("Tampered", "file-with-manifest-label", what, whole | {"config.json": domain})
    exchanged = replace(SAVED.file("config.json"), wrapped_key=OTHER.recipe.wrapped).file()
    what = "the key envelope of a file is that of another Save"
    yield refused("WrongDataKey", "file-key-exchanged", what, whole | {"config.json": exchanged})


def _changed_manifest() -> Iterator[DirectoryVector]:
    whole = SAVED.objects()
    yield refused("DirectoryIncomplete", "without-manifest", "the manifest is missing", _without(whole, MANIFEST))
    marked = {".sealgate-directory": b""}
    yield refused("DirectoryIncomplete", "marked", "a directory without a manifest, and with a marker in it", marked)
    older = whole | {MANIFEST: OTHER.objects()[MANIFEST]}
    yield refused("DirectoryIncomplete", "older-manifest", "the manifest is from another Save", older)
    moved = {path: member.file() for path, member in ((path, SAVED.file(path)) for path in FILES)}
    for name, what, content in (
        ("elsewhere", "the manifest is that of another directory", ELSEWHERE.manifest().file()),
        ("file-as-manifest", "a file is stored as the manifest", whole["weights/0.bin"]),
        (
            "manifest-with-file-label",
            "the manifest is sealed with the label of files",
            _manifest(data_label=FILE_LABEL),
        ),
        (
            "manifest-with-its-name",
            "the manifest is sealed for its own key, with its name",
            _manifest(artifact_key=f"{DIRECTORY_KEY}/{MANIFEST}"),
        ),
        ("manifest-with-slash", "the manifest is sealed for the key and a slash", _manifest(artifact_key="models/7/")),
        ("manifest-without-key", "the manifest is bound, and sealed without the key", _manifest(artifact_key="")),
        ("manifest-cut", "the manifest lacks its last byte", whole[MANIFEST][:-1]),
        ("manifest-cut-in-path", "the manifest is cut inside an entry", whole[MANIFEST][:-40]),
        ("manifest-flipped", "a bit of the manifest is flipped", flip(whole[MANIFEST], len(whole[MANIFEST]) - 30)),
        ("manifest-continued", "a byte follows the manifest", whole[MANIFEST] + b"\0"),
        (
            "manifest-context",
            "the header of the manifest has another context",
            stored(_other_context().header(), SAVED.manifest().body()),
        ),
    ):
        yield refused("Tampered", name, what, moved | {MANIFEST: content})
    for error, name, what, content in (
        ("Truncated", "manifest-cut-in-header", "the manifest ends in its header", whole[MANIFEST][:60]),
        ("Truncated", "manifest-empty", "the manifest has no bytes", b""),
        ("NotSealed", "manifest-plaintext", "the manifest is not sealed", listing(SAVED.entries())),
        (
            "WrongDataKey",
            "manifest-key-exchanged",
            "the key envelope of the manifest is that of another Save",
            _manifest(wrapped_key=OTHER.recipe.wrapped),
        ),
    ):
        yield refused(error, name, what, moved | {MANIFEST: content})
    elsewhere = "the whole directory, moved to another key"
    yield refused("Tampered", "moved-whole", elsewhere, whole, key="models/8")


def _other_context() -> Member:
    return replace(SAVED.manifest(), context=(("team", "finance"), ("tenant", "b")))


def _manifest(**changes: str | bytes) -> bytes:
    return replace(SAVED.manifest(), **changes).file()


def _without(objects: dict[str, bytes], path: str) -> dict[str, bytes]:
    return {name: content for name, content in objects.items() if name != path}


# --- manifests that were sealed, and must not be believed ------------------------------------------------------


def _list(name: str, what: str, plaintext: bytes, error: str = "ManifestInvalid") -> DirectoryVector:
    """Return the saved directory with a manifest that has another plaintext."""
    return refused(error, name, what, SAVED.objects(manifest=SAVED.manifest(plaintext)))


def _paths() -> Iterator[DirectoryVector]:
    for name, what, path in (
        ("climbs", "a path climbs", b"../up"),
        ("climbs-inside", "a path climbs, and stays inside", b"a/../b"),
        ("climbs-at-end", "a path ends by climbing", b"a/.."),
        ("parent", "a path is the parent directory", b".."),
        ("itself", "a path is the directory itself", b"."),
        ("relative-segment", "a path has a segment that is a dot", b"a/./b"),
        ("absolute", "a path is absolute", b"/etc/passwd"),
        ("empty-segment", "a path has an empty segment", b"a//b"),
        ("slash-at-end", "a path ends in a slash", b"a/"),
        ("slash", "a path is a slash", b"/"),
        ("empty-path", "a path is empty", b""),
        ("nul", "a path contains a zero byte", b"a\0b"),
        ("not-utf-8", "a path is not UTF-8", b"a\xff"),
        ("latin-1", "a path is in Latin-1", "é".encode("latin-1")),
        ("overlong", "a path contains a slash in an overlong form", b"a\xc0\xafb"),
        ("surrogate", "a path contains a surrogate", b"a\xed\xa0\x80"),
        ("utf-8-cut", "a path ends inside a character", "é".encode()[:1]),
        ("reserved", "a path is the name of the manifest", MANIFEST.encode()),
        ("reserved-beneath", "a path has the name of the manifest at its end", f"a/{MANIFEST}".encode()),
        ("reserved-above", "a path has the name of the manifest in it", f"{MANIFEST}/a".encode()),
        ("long-segment", "a segment has 256 bytes", b"x" * 256),
        ("too-deep", "a path has 256 segments", b"/".join([b"d"] * 256)),
    ):
        yield _list(f"path-{name}", f"{what}", listing([entry(path)]))
    yield _list("path-climbs-empty-directory", "the path of an empty directory climbs", listing([entry("..", None)]))


def _lists() -> Iterator[DirectoryVector]:
    entries = SAVED.entries()
    whole, count = listing(entries), len(entries)
    for name, what, paths in (
        ("unordered", "entries are not in order", ("b", "a")),
        ("duplicate", "a file is listed twice", ("a", "a")),
        ("order-of-a-walk", "entries are in the order of a walk", ("a/x", "a!/x")),
        ("order-of-letters", "entries are in the order of letters, without case", ("a", "B")),
        ("order-of-utf-16", "entries are in the order of UTF-16", ("\U0001f511", "\uffee")),
        ("order-of-lengths", "a path comes behind a longer one that begins with it", ("ab", "a")),
        ("order-descending", "entries descend", ("c", "b", "a")),
        ("file-and-directory", "a file and a directory have one path", ("a", "a/b")),
        (
            "file-and-directory-apart",
            "a file and a directory have one path, and others are between",
            ("a", "a!", "a/b"),
        ),
        ("file-and-directory-deeper", "a file and a directory have one path, two levels deep", ("a/b", "a/b/c/d")),
    ):
        yield _list(f"list-{name}", what, listing(entry(path) for path in paths))
    for name, what, written in (
        ("in-empty-directory", "a file is in an empty directory", [entry("a", None), entry("a/b")]),
        ("empty-directory-of-a-file", "an empty directory is beneath a file", [entry("a"), entry("a/b", None)]),
        ("file-and-empty-directory", "a file and an empty directory have one path", [entry("a"), entry("a", None)]),
        ("empty-directory-twice", "an empty directory is listed twice", [entry("a", None), entry("a", None)]),
        ("kind-0", "an entry has the kind 0", [entry("a", kind=0)]),
        ("kind-3", "an entry has the kind 3", [entry("a", kind=3)]),
        ("kind-swapped", "a file has the kind of an empty directory", [entry("a", kind=EMPTY_DIRECTORY)]),
        ("kind-without-size", "an empty directory has the kind of a file", [entry("a", None, kind=FILE)]),
    ):
        yield _list(f"list-{name}", what, listing(written))
    for name, what, plaintext in (
        ("empty", "the plaintext is empty", b""),
        ("magic-alone", "the plaintext ends behind the magic", MAGIC),
        ("magic-cut", "the plaintext ends inside the magic", MAGIC[:3]),
        ("magic-other", "another magic", listing(entries, magic=b"SGM0")),
        ("magic-later", "the magic of a later version", listing(entries, magic=b"SGM2")),
        ("magic-missing", "no magic", whole[4:]),
        ("count-less", "the number of entries is one too small", listing(entries, count=count - 1)),
        ("count-more", "the number of entries is one too large", listing(entries, count=count + 1)),
        ("count-0", "the number of entries is 0", listing(entries, count=0)),
        ("count-100001", "the number of entries is over the limit", listing(entries, count=100_001)),
        ("count-largest", "the largest number of entries", listing(entries, count=(1 << 32) - 1)),
        ("count-little-endian", "the number of entries is little-endian", MAGIC + u32(count)[::-1] + whole[8:]),
        ("byte-after", "a zero byte follows the last entry", whole + b"\0"),
        ("line-feed-after", "a line feed follows the last entry", whole + b"\n"),
        ("twice", "the plaintext is there twice", whole + whole),
        ("cut-in-size", "the plaintext ends inside a size", whole[:-1]),
        ("cut-in-path", "the plaintext ends inside a path", listing([entry("config.json")])[:-12]),
        ("cut-in-length", "the plaintext ends inside the length of a path", MAGIC + u32(1) + b"\x01\x00"),
        ("length-little-endian", "the length of a path is little-endian", MAGIC + u32(1) + b"\x01\x01\x00a" + bytes(8)),
        ("size-of-4-bytes", "sizes have 4 bytes", MAGIC + u32(1) + b"\x01\x00\x01a" + bytes(4)),
        ("text", "the list is a text", "\n".join(FILES).encode()),
        ("random", "random bytes behind the magic", MAGIC + fixed("no list", 64)),
    ):
        yield _list(f"list-{name}", what, plaintext)
    yield from _wrong_lists()


def _wrong_lists() -> Iterator[DirectoryVector]:
    """Yield canonical lists that do not describe the stored files."""
    for name, what, sizes in (
        ("size-more", "a size is one too large", {"config.json": len(FILES["config.json"]) + 1}),
        ("size-less", "a size is one too small", {"weights/0.bin": 63}),
        ("size-0", "a size is 0 instead of 64", {"weights/0.bin": 0}),
        ("size-1", "the size of an empty file is 1", {"weights/1.bin": 1}),
        ("size-largest", "the largest size", {"config.json": (1 << 64) - 1}),
        ("file-more", "a file is listed that was never stored", {"weights/2.bin": 64}),
    ):
        listed = {path: len(content) for path, content in FILES.items()} | sizes
        plaintext = listing(entry(path, size) for path, size in sorted(listed.items()))
        yield _list(f"list-{name}", what, plaintext, "DirectoryIncomplete")

"""Properties of local paths through any arrangement of symbolic links: nothing outside the root is ever reached."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sealgate.errors import PluginError
from sealgate.storage.local_paths import Roots

PLACES = ("l1", "l2", "a/l3", "a/c/l4", "b/l5")
NAMES = ("a", "b", "c", "f", "l1", "l2", "l3", "l4", "l5", "new")
BEGINNINGS = ("", "", "{root}/", "{root}/", "/{root}/", "{top}/linked/", "{top}/outside/", "{top}/", "/", "{root}x/")
TARGETS = st.tuples(
    st.sampled_from(BEGINNINGS), st.lists(st.sampled_from((*NAMES, ".", "..", "", "root", "outside")), max_size=5)
)
LINKS = st.dictionaries(st.sampled_from(PLACES), TARGETS, max_size=len(PLACES))
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)


class World:
    """A root with files and `links`, the same names outside it, and the administrator's link `linked` to the root."""

    def __init__(self, top: Path, links: dict[str, tuple[str, list[str]]], root: str) -> None:
        self.top = top
        for place in ("root", "outside"):
            for directory in ("a/c", "b"):
                (top / place / directory).mkdir(parents=True)
            for file in ("f", "a/f", "a/c/f", "b/f"):
                (top / place / file).write_bytes(place.encode())
        (top / "linked").symlink_to("root")
        self.root = top / root
        for place, (beginning, segments) in links.items():
            target = beginning.format(root=self.root, top=top) + "/".join(segments)
            (top / "root" / place).symlink_to(target or ".")
        self.roots = Roots([self.root])

    def outside(self) -> dict[str, bytes | None]:
        """Return everything that is not in the root."""
        found: dict[str, bytes | None] = {}
        for directory, directories, files in os.walk(self.top):
            if directory == str(self.top):
                directories.remove("root")
            found |= {os.path.join(directory, name): None for name in directories}
            found |= {os.path.join(directory, name): Path(directory, name).read_bytes() for name in files}
        return found

    def contains(self, fd: int) -> bool:
        real = Path(os.readlink(f"/proc/self/fd/{fd}"))
        return real.is_relative_to(self.top / "root")


def worlds(test):
    """Run `test` with many arrangements of links, and with paths through them."""
    test = example({"a/l3": ("{root}/", ["b"])}, ["a", "l3", "f"], "root")(test)
    test = example({"l1": ("{root}/", ["..", "outside"])}, ["l1", "f"], "root")(test)
    test = example({"l1": ("{top}/linked/", ["a"]), "a/l3": ("{top}/outside/", [])}, ["l1", "l3", "f"], "linked")(test)
    return settings(max_examples=400)(given(LINKS, PATHS, st.sampled_from(["root", "linked"]))(test))


@worlds
def test_only_what_is_inside_is_read_and_it_is_what_the_path_means(links, path, root):
    with tempfile.TemporaryDirectory(prefix="sg-") as top:
        world = World(Path(os.path.realpath(top)), links, root)
        with suppress(PluginError), world.roots.source(world.root.joinpath(*path)) as source:
            assert world.contains(source.fd)
            assert os.readlink(f"/proc/self/fd/{source.fd}") == os.path.realpath(
                world.root.joinpath(*path), strict=True
            )
            assert source.is_directory or os.read(source.fd, 100) == b"root"
            assert os.path.realpath(source.path) == os.path.realpath(world.root.joinpath(*path))


@worlds
def test_links_that_never_leave_the_root_are_followed(links, path, root):
    inside = {"", "{root}/", "/{root}/", "{top}/linked/"}
    links = {place: target for place, target in links.items() if target[0] in inside and ".." not in target[1]}
    with tempfile.TemporaryDirectory(prefix="sg-") as top:
        world = World(Path(os.path.realpath(top)), links, root)
        asked = world.root.joinpath(*path)
        if root == "root" and any(beginning == "{top}/linked/" for beginning, _ in links.values()):
            return  # `linked` is a name of this root only if the root is configured by it
        if asked.exists():
            with world.roots.source(asked) as source:
                assert os.readlink(f"/proc/self/fd/{source.fd}") == os.path.realpath(asked)


@worlds
def test_nothing_outside_is_written_or_removed(links, path, root):
    with tempfile.TemporaryDirectory(prefix="sg-") as top:
        world = World(Path(os.path.realpath(top)), links, root)
        before = world.outside()
        asked = world.root.joinpath(*path)
        with suppress(PluginError), world.roots.destination(asked) as destination, destination.new_file(0o644) as fd:
            assert world.contains(fd)
        with (
            suppress(PluginError),
            world.roots.destination(asked) as destination,
            destination.new_directory(0o755) as fd,
        ):
            assert world.contains(fd)
        with suppress(PluginError):
            world.roots.remove(asked)
        assert world.outside() == before

"""Local paths: opened only beneath the roots, and written whole or not at all."""

from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sealgate.call import Call, Operation
from sealgate.errors import BadRequest, LimitReached, NotConfigured, PluginError
from sealgate.storage.local_paths import Roots


@dataclass(frozen=True)
class World:
    """A root with a file and a folder in it, and a file outside that must stay unread and unchanged."""

    root: Path
    outside: Path
    roots: Roots

    def link(self, name: str, target: str | Path) -> Path:
        (self.root / name).symlink_to(target)
        return self.root / name

    def read(self, path: Path) -> bytes:
        with self.roots.source(path) as source:
            return os.pread(source.fd, 100, 0)

    def left(self) -> set[str]:
        """Return the paths of everything in the root."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}


INITIAL = {"file", "folder", "folder/deep"}


def names(directory: Path | int) -> set[str]:
    return set(os.listdir(directory))


def create(roots: Roots, path: Path, kind: str) -> None:
    """Create an empty file or directory at `path`."""
    with roots.destination(path) as destination, getattr(destination, kind)(0o755):
        pass


def create_and_fail(roots: Roots, path: Path, kind: str) -> None:
    """Begin to create a file or directory with content at `path`, and raise LookupError."""
    with roots.destination(path) as destination, getattr(destination, kind)(0o755) as fd:
        if kind == "new_file":
            os.write(fd, b"begun")
        else:
            os.mkdir("inner", dir_fd=fd)
            os.close(os.open("inner/file", os.O_CREAT, dir_fd=fd))
        raise LookupError


@pytest.fixture
def world(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "folder").mkdir(parents=True)
    outside.mkdir()
    (root / "file").write_bytes(b"inside")
    (root / "folder" / "deep").write_bytes(b"deep inside")
    (outside / "file").write_bytes(b"outside")
    return World(root, outside, Roots([root]))


@contextmanager
def refused(fact: str, kind: type[PluginError] = BadRequest) -> Iterator[None]:
    """Expect an error of one line, and no descriptor that stays open."""
    before = names(Path("/proc/self/fd"))
    with pytest.raises(kind, match=fact) as raised:
        yield
    assert names(Path("/proc/self/fd")) == before
    assert "\n" not in raised.value.line(Call(Operation.SAVE), "key")


# --- reading ---------------------------------------------------------------------------------------------


def test_a_file_is_opened_with_its_size(world):
    with world.roots.source(world.root / "file") as source:
        assert (source.is_directory, source.size) == (False, 6)
        assert os.read(source.fd, 100) == b"inside"


def test_a_directory_is_opened(world):
    with world.roots.source(world.root / "folder") as source:
        assert source.is_directory
        assert names(source.fd) == {"deep"}


@pytest.mark.parametrize(
    "path",
    [
        "relative",
        "",
        ".",
        "root/file",
        "/",
        "/etc/passwd",
        "/proc/self/environ",
        "{root}",
        "{root}/",
        "{root}/.",
        "{root}/..",
        "{root}/../outside/file",
        "{root}/folder/../file",
        "{root}-2/file",
        "/{root}/file",
        "{root}/fi\0le",
        "\0",
        "{root}\n/file",
        "{outside}/file",
    ],
)
def test_a_path_that_is_not_beneath_a_root_is_refused(world, path):
    with refused("is not beneath|is not an absolute path"):
        world.read(Path(path.format(root=world.root, outside=world.outside)))


def test_the_longest_matching_root_applies(world):
    roots = Roots([world.root, world.root / "folder"])
    world.link("folder/up", "../file")
    with refused("leads out"), roots.source(world.root / "folder" / "up"):
        pass


def test_a_root_may_be_a_link_of_the_administrator(world, tmp_path):
    (tmp_path / "linked").symlink_to(world.root)
    with Roots([tmp_path / "linked"]).source(tmp_path / "linked" / "file") as source:
        assert os.read(source.fd, 100) == b"inside"


@pytest.mark.parametrize("name", ["linked", "root"])
def test_an_absolute_link_may_name_a_linked_root_in_both_ways(world, tmp_path, name):
    (tmp_path / "linked").symlink_to(world.root)
    world.link("folder/link", tmp_path / name / "file")
    with Roots([tmp_path / "linked"]).source(tmp_path / "linked" / "folder" / "link") as source:
        assert os.read(source.fd, 100) == b"inside"
        assert source.path == str(tmp_path / "linked" / "file")


@pytest.mark.parametrize(
    ("link", "target", "path", "content"),
    [
        ("link", "file", "link", b"inside"),
        ("link", "./folder//deep", "link", b"deep inside"),
        ("link", "folder", "link/deep", b"deep inside"),
        ("link", "folder/", "link/deep", b"deep inside"),
        ("link", "folder/../file", "link", b"inside"),
        ("link", ".", "link/link/folder/deep", b"deep inside"),
        ("folder/link", "..", "folder/link/file", b"inside"),
        ("folder/link", "../file", "folder/link", b"inside"),
        ("folder/link", "../folder/deep", "folder/link", b"deep inside"),
        ("link", "{root}/file", "link", b"inside"),
        ("link", "{root}/folder", "link/deep", b"deep inside"),
        ("link", "//{root}//./folder/", "link/deep", b"deep inside"),
        ("link", "{root}/folder/../file", "link", b"inside"),
        ("link", "{root}", "link/folder/deep", b"deep inside"),
        ("link", "{root}/", "link/link/file", b"inside"),
        ("folder/link", "{root}/file", "folder/link", b"inside"),
        ("folder/link", "{root}/folder/deep", "folder/link", b"deep inside"),
        ("folder/link", "{root}", "folder/link/folder/link/file", b"inside"),
    ],
)
def test_a_link_that_stays_inside_is_followed(world, link, target, path, content):
    world.link(link, target.format(root=world.root))
    assert world.read(world.root / path) == content


@pytest.mark.parametrize("target", [".", "..", "folder/..", "{root}", "{root}/folder/.."])
def test_a_link_to_a_directory_is_a_directory(world, target):
    link = world.link("folder/link" if target == ".." else "link", target.format(root=world.root))
    with world.roots.source(link) as source:
        assert "file" in names(source.fd)


def test_forty_links_are_followed_and_no_more(world):
    world.link("link-0", "file")
    for number in range(1, 41):
        world.link(f"link-{number}", f"link-{number - 1}")
    assert world.read(world.root / "link-39") == b"inside"
    with refused("leads out"):
        world.read(world.root / "link-40")


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("link", "{outside}/file", "link"),
        ("link", "/", "link/etc/passwd"),
        ("link", "{root}-2/file", "link"),
        ("link", "{root}/../outside/file", "link"),
        ("link", "{root}/../root/file", "link"),
        ("link", "{root}/../../{outside}/file", "link"),
        ("link", "/proc/self/root{root}/file", "link"),
        ("link", "/.{outside}/file", "link"),
        ("link", "{root}/link", "link"),
        ("folder/link", "{root}/folder/../../outside", "folder/link/file"),
        ("link", "..", "link"),
        ("link", "../outside/file", "link"),
        ("link", "../outside", "link/file"),
        ("link", "../root/file", "link"),
        ("link", "folder/../../outside/file", "link"),
        ("folder/link", "../../outside/file", "folder/link"),
        ("link", "link", "link"),
        ("link", "folder/../link", "link/file"),
    ],
)
def test_a_link_that_leads_out_or_nowhere_is_refused(world, link, target, path):
    world.link(link, target.format(root=world.root, outside=world.outside))
    with refused("leads out"):
        world.read(world.root / path)


def test_a_link_to_a_link_that_leads_out_is_refused(world):
    world.link("second", "../outside")
    world.link("first", "second/file")
    with refused("leads out"):
        world.read(world.root / "first")


@pytest.mark.parametrize("path", ["missing", "missing/file", "file/below", "folder/missing", "n" * 256, "link"])
def test_a_missing_path_is_a_named_error(world, path):
    world.link("link", "missing")
    with refused("no such file|not a directory|file name too long"):
        world.read(world.root / path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(world):
    os.mkfifo(world.root / "pipe")
    world.link("link", "pipe")
    for name in ("pipe", "link"):
        with refused("but a pipe"):
            world.read(world.root / name)


def test_a_socket_is_refused(world):
    with socket.socket(socket.AF_UNIX) as bound, Roots([world.root.parent]).source(world.root) as source:
        bound.bind(f"/proc/self/fd/{source.fd}/socket")  # the path of a socket has at most 107 bytes
    with refused("but a socket"):
        world.read(world.root / "socket")


def test_a_device_is_refused():
    with refused("but a device"), Roots([Path("/dev")]).source(Path("/dev/null")):
        pass


def test_an_error_about_a_hostile_name_is_one_short_line(world):
    with refused("cannot be used"):
        world.read(world.root / "a\nb\x1b[31m")
    with pytest.raises(BadRequest) as raised:
        world.read(world.root / ("n" * 250 + "/") / ("n" * 250))
    assert len(raised.value.fact) < 400


# --- writing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_a_file_gets_its_content_and_exactly_its_mode(world, umask, mode):
    with world.roots.destination(world.root / "new") as destination, destination.new_file(mode) as fd:
        os.write(fd, b"content")
        assert world.left() > INITIAL
        assert not (world.root / "new").exists()
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    assert (world.root / "new").read_bytes() == b"content"
    assert stat.S_IMODE((world.root / "new").stat().st_mode) == mode
    assert world.left() == INITIAL | {"new"}


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_gets_its_content_and_exactly_its_mode(world, umask, mode):
    with world.roots.destination(world.root / "new") as destination, destination.new_directory(mode) as fd:
        os.close(os.open("inner", os.O_CREAT, dir_fd=fd))
        assert not (world.root / "new").exists()
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o700
    assert stat.S_IMODE((world.root / "new").stat().st_mode) == mode
    assert world.left() == INITIAL | {"new", "new/inner"}


@pytest.mark.parametrize("name", ["n" * 255, "\U0001f511" * 63, "報" * 85, "-rf", " ", "a\nb", "..."])
def test_any_name_that_a_file_may_have_can_be_written(world, name):
    create(world.roots, world.root / name, "new_file")
    assert world.left() == INITIAL | {name}


def test_an_existing_file_is_replaced_at_once(world):
    path = world.root / "file"
    with path.open("rb") as before, world.roots.destination(path) as destination:
        with destination.new_file(0o644) as fd:
            os.write(fd, b"new")
            assert path.read_bytes() == b"inside"
        assert path.read_bytes() == b"new"
        assert before.read() == b"inside"
    assert world.left() == INITIAL


@pytest.mark.parametrize("kind", ["new_file", "new_directory"])
def test_a_failed_write_leaves_nothing(world, kind):
    with pytest.raises(LookupError):
        create_and_fail(world.roots, world.root / "new", kind)
    assert world.left() == INITIAL


def test_a_failed_write_leaves_the_existing_file_unchanged(world):
    with pytest.raises(LookupError):
        create_and_fail(world.roots, world.root / "file", "new_file")
    assert (world.root / "file").read_bytes() == b"inside"


def test_a_destination_that_is_not_used_leaves_nothing(world):
    with world.roots.destination(world.root / "new"):
        pass
    assert world.left() == INITIAL


def test_a_file_that_was_discarded_makes_room_for_a_directory(world):
    with world.roots.destination(world.root / "new") as destination:
        with suppress(LookupError), destination.new_file(0o644):
            raise LookupError
        destination.discard()
        with destination.new_directory(0o755):
            pass
    assert (world.root / "new").is_dir()
    assert world.left() == INITIAL | {"new"}


@pytest.mark.parametrize("target", ["file", "missing", "folder", "{outside}/file", "{outside}/new", "."])
@pytest.mark.parametrize("kind", ["new_file", "new_directory"])
def test_nothing_is_written_through_a_link(world, target, kind):
    link = world.link("link", target.format(outside=world.outside))
    with refused("is a symbolic link"):
        create(world.roots, link, kind)
    assert world.left() == INITIAL | {"link"}
    assert names(world.outside) == {"file"}


def test_a_link_on_the_way_is_followed_inside_and_refused_outside(world):
    world.link("inner", "folder")
    world.link("folder/absolute", world.root / "folder")
    create(world.roots, world.root / "inner" / "new", "new_file")
    create(world.roots, world.root / "folder" / "absolute" / "new too", "new_directory")
    assert world.left() == INITIAL | {"inner", "folder/absolute", "folder/new", "folder/new too"}
    world.link("out", "../outside")
    world.link("absolute out", world.outside)
    for link in ("out", "absolute out"):
        with refused("leads out"):
            create(world.roots, world.root / link / "new", "new_file")


@pytest.mark.parametrize(
    ("path", "fact"),
    [
        ("missing/new", "no such file"),
        ("file/new", "not a directory"),
        ("{root}", "is not beneath"),
        ("/etc/new", "is not beneath"),
        ("folder/../new", "is not an absolute path"),
    ],
)
def test_a_destination_that_cannot_be_created_is_refused(world, path, fact):
    with refused(fact):
        create(world.roots, world.root / path.format(root=world.root), "new_file")
    assert world.left() == INITIAL


@pytest.mark.parametrize(
    ("name", "kind", "fact"),
    [
        ("folder", "new_directory", "not empty"),
        ("folder", "new_file", "is a directory"),
        ("file", "new_directory", "not a directory"),
    ],
)
def test_a_destination_that_cannot_be_replaced_is_a_named_error_and_remains(world, name, kind, fact):
    with refused(fact):
        create(world.roots, world.root / name, kind)
    assert world.left() == INITIAL
    assert (world.root / "file").read_bytes() == b"inside"


def test_an_empty_directory_is_replaced(world):
    (world.root / "folder" / "deep").unlink()
    with world.roots.destination(world.root / "folder") as destination, destination.new_directory(0o755) as fd:
        os.close(os.open("new", os.O_CREAT, dir_fd=fd))
    assert world.left() == {"file", "folder", "folder/new"}


# --- file systems that refuse ----------------------------------------------------------------------------


def write_a_megabyte(path: Path) -> None:
    with Roots([path]).destination(path / "new") as destination, destination.new_file(0o644) as fd:
        rest = memoryview(bytes(1 << 20))
        while rest:
            rest = rest[os.write(fd, rest) :]


@pytest.mark.process
def test_a_full_file_system_is_a_limit_and_nothing_is_left(mounted):
    path = mounted("size=64k")
    with pytest.raises(LimitReached, match="no space left"):
        write_a_megabyte(path)
    assert list(path.iterdir()) == []


@pytest.mark.process
def test_a_read_only_file_system_is_a_named_error(mounted):
    with refused("read-only file system", NotConfigured):
        write_a_megabyte(mounted("ro"))


def test_a_file_that_may_not_grow_further_is_a_limit_and_nothing_is_left(world):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(LimitReached, match="file too large"):
            write_a_megabyte(world.root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert world.left() == INITIAL


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_named_error_with_a_remedy(world):
    (world.root / "file").chmod(0)
    with pytest.raises(BadRequest, match="permission denied") as raised:
        world.read(world.root / "file")
    assert "argoexec" in raised.value.remedy


# --- races -----------------------------------------------------------------------------------------------

EXCHANGE = """
import ctypes, os, sys
one, other = map(os.fsencode, sys.argv[1:])
exchange, here, in_one_step = ctypes.CDLL(None).renameat2, -100, 2
print(exchange(here, one, here, other, in_one_step), flush=True)
while True:
    exchange(here, one, here, other, in_one_step)
"""


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Have another process exchange two names, as fast as it can."""
    command = [sys.executable, "-c", EXCHANGE, one, other]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            if process.stdout.readline() != "0\n":
                pytest.skip("this file system cannot exchange two names in one step")
            yield
        finally:
            process.kill()


def raced(attempt: Callable[[], bytes]) -> set[bytes]:
    """Return the distinct results of many attempts."""
    seen = set()
    for _ in range(5000):
        with suppress(PluginError):
            seen.add(attempt())
    return seen


@pytest.mark.process
def test_a_file_that_changes_places_with_a_link_is_never_read_through_it(world):
    link = world.link("link", "../outside/file")
    with exchanging(world.root / "file", link):
        assert raced(lambda: world.read(world.root / "file")) == {b"inside"}


@pytest.mark.process
def test_a_directory_that_changes_places_with_a_link_is_never_walked_through(world):
    (world.root / "folder" / "file").write_bytes(b"inside")
    link = world.link("link", "../outside")
    with exchanging(world.root / "folder", link):
        assert raced(lambda: world.read(world.root / "folder" / "file")) == {b"inside"}


@pytest.mark.process
def test_an_absolute_link_that_changes_places_with_one_that_leads_out_is_never_read_through_it(world):
    world.link("link", world.root / "folder")
    out = world.link("out", world.outside)
    (world.root / "folder" / "file").write_bytes(b"inside")
    with exchanging(world.root / "link", out):
        assert raced(lambda: world.read(world.root / "link" / "file")) == {b"inside"}


@pytest.mark.process
def test_nothing_is_ever_written_where_a_link_leads(world):
    def write() -> bytes:
        create(world.roots, world.root / "folder" / "file", "new_file")
        return b"written"

    link = world.link("link", "../outside")
    with exchanging(world.root / "folder", link):
        assert raced(write) == {b"written"}
    assert names(world.outside) == {"file"}
    assert (world.outside / "file").read_bytes() == b"outside"


@pytest.mark.process
def test_nothing_is_ever_written_through_a_link_that_takes_the_place_of_a_file(world):
    def write() -> bytes:
        create(world.roots, world.root / "file", "new_file")
        return b"written"

    link = world.link("link", "../outside/file")
    with exchanging(world.root / "file", link):
        assert raced(write) <= {b"written"}
    assert (world.outside / "file").read_bytes() == b"outside"

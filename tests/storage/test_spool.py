"""The spool: private, emptied after every call, and cleared of the leftovers of crashed processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sealgate.errors import BadRequest, NotConfigured
from sealgate.storage.spool import Spool, private_directory, private_file, remove_leftovers

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")


def entries_in(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


def test_a_place_is_private_whatever_the_umask(tmp_path, umask):
    spool = Spool(tmp_path / "spool")
    with spool.place() as place:
        above = place
        while above != tmp_path / "spool":
            assert stat.S_IMODE(above.stat().st_mode) == 0o700
            above = above.parent
        for path in entries_in(tmp_path / "spool"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_files_and_directories_in_a_place_can_be_private(tmp_path, umask):
    private_directory(tmp_path / "directory")
    with open(tmp_path / "file", "xb", opener=private_file):
        pass
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_place_is_gone_after_the_call(tmp_path):
    spool = Spool(tmp_path)
    with spool.place() as place:
        (place / "directory" / "deeper").mkdir(parents=True)
        (place / "directory" / "deeper" / "sealed").write_bytes(b"ciphertext")
    assert not place.exists()


def test_a_place_is_gone_after_a_call_that_failed(tmp_path):
    with pytest.raises(LookupError), Spool(tmp_path).place() as place:
        raise LookupError((place / "sealed").write_bytes(b"ciphertext"))
    assert not place.exists()


def test_every_call_has_its_own_place(tmp_path):
    spool = Spool(tmp_path)
    with ExitStack() as calls:
        assert len({calls.enter_context(spool.place()) for _ in range(20)}) == 20


def test_nothing_is_created_before_it_is_needed(tmp_path):
    Spool(tmp_path / "spool").close()
    assert entries_in(tmp_path) == []


def test_nothing_is_left_after_close_and_a_closed_spool_can_be_used_again(tmp_path):
    spool = Spool(tmp_path / "deep" / "spool")
    for _ in range(2):
        with spool.place() as place:
            assert place.is_dir()
        spool.close()
        assert entries_in(tmp_path / "deep" / "spool") == []


def test_free_bytes_are_those_of_the_file_system(tmp_path):
    assert Spool(tmp_path).free_bytes() > 0


def test_a_directory_that_cannot_be_created_is_a_named_error(tmp_path):
    (tmp_path / "file").touch()
    spool = Spool(tmp_path / "file" / "spool")
    for use in (spool.place().__enter__, spool.free_bytes):
        with pytest.raises(BadRequest, match=r"the spool .*: not a directory"):
            use()


# --- other processes -------------------------------------------------------------------------------------

HOLD = """
import pathlib, sys
from sealgate.storage.spool import Spool
with Spool(pathlib.Path(sys.argv[1])).place() as place:
    (place / "sealed").write_bytes(b"ciphertext")
    print(place, flush=True)
    sys.stdin.read()
"""

START_AND_CLEAR = """
import pathlib, sys
from sealgate.storage.spool import Spool, remove_leftovers
directory = pathlib.Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.read(1)
for _ in range(200):
    remove_leftovers(directory)
    spool = Spool(directory)
    for _ in range(2):
        with spool.place() as place:
            assert place.is_dir()
    spool.close()
"""


@contextmanager
def child(code: str, directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start another process; yield it with the first line of its output."""
    command = [sys.executable, "-c", code, directory]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.process
def test_the_spool_of_a_killed_process_is_removed(tmp_path):
    with child(HOLD, tmp_path) as (process, place):
        process.kill()
        process.wait()
        assert (Path(place) / "sealed").exists()
    assert remove_leftovers(tmp_path) == 1
    assert entries_in(tmp_path) == []
    assert remove_leftovers(tmp_path) == 0


@pytest.mark.process
def test_the_spool_of_a_running_process_is_not_removed(tmp_path):
    with child(HOLD, tmp_path) as (_, place):
        assert remove_leftovers(tmp_path) == 0
        assert (Path(place) / "sealed").read_bytes() == b"ciphertext"


def test_the_spool_of_this_process_is_not_removed(tmp_path):
    with Spool(tmp_path).place() as place:
        assert remove_leftovers(tmp_path) == 0
        assert place.is_dir()


@pytest.mark.process
def test_the_spool_of_a_running_process_is_distinguished_from_those_of_killed_ones(tmp_path):
    with child(HOLD, tmp_path) as (_, alive):
        for _ in range(3):
            with child(HOLD, tmp_path) as (process, _):
                process.kill()
                process.wait()
        assert remove_leftovers(tmp_path) == 3
        assert Path(alive).is_dir()


@pytest.mark.process
def test_processes_that_start_together_never_remove_each_others_spool(tmp_path):
    with ExitStack() as children:
        processes = [children.enter_context(child(START_AND_CLEAR, tmp_path))[0] for _ in range(4)]
        for process in processes:
            process.communicate("x")
        assert [process.returncode for process in processes] == [0] * 4
    remove_leftovers(tmp_path)
    assert entries_in(tmp_path) == []


def test_nothing_else_is_removed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "lock").touch()
    (tmp_path / ".sealgate-spool-file").touch()
    (tmp_path / ".sealgate-spool-link").symlink_to(kept)
    remove_leftovers(tmp_path)
    assert (kept / "lock").exists()
    assert (tmp_path / ".sealgate-spool-file").exists()


def test_a_directory_that_is_not_there_has_no_leftovers(tmp_path):
    assert remove_leftovers(tmp_path / "missing") == 0


# --- hostile directories ----------------------------------------------------------------------------------


def planted(directory: Path) -> Path:
    """A directory that looks like an abandoned spool, with a file that is not one."""
    directory.mkdir(mode=0o700)
    (directory / "lock").touch()
    (directory / "precious").write_bytes(b"not ours")
    return directory


def test_a_planted_link_does_not_lead_the_cleaning_to_another_directory(tmp_path):
    victim = planted(tmp_path / "victim")
    spools = tmp_path / "spools"
    spools.mkdir()
    spools.chmod(0o1777)
    (spools / ".sealgate-spool-planted").symlink_to(victim)
    assert remove_leftovers(spools) == 0
    assert (victim / "precious").read_bytes() == b"not ours"
    assert (victim / "lock").exists()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o1777])
def test_a_directory_that_others_may_use_is_not_taken_for_a_spool(tmp_path, mode):
    directory = planted(tmp_path / ".sealgate-spool-planted")
    directory.chmod(mode)
    assert remove_leftovers(tmp_path) == 0
    assert (directory / "precious").exists()


def test_links_in_an_abandoned_spool_are_removed_and_not_followed(tmp_path):
    victim = planted(tmp_path / "victim")
    spool = planted(tmp_path / ".sealgate-spool-abandoned")
    (spool / "link").symlink_to(victim)
    (spool / "place").mkdir()
    (spool / "place" / "sealed").symlink_to(victim)
    assert remove_leftovers(tmp_path) == 1
    assert not spool.exists()
    assert (victim / "precious").exists()


def test_a_lock_that_is_a_link_is_not_followed_and_a_pipe_is_not_waited_for(tmp_path):
    for number, make in enumerate((lambda lock: lock.symlink_to("/dev/zero"), os.mkfifo)):
        spool = tmp_path / f".sealgate-spool-{number}"
        spool.mkdir(mode=0o700)
        make(spool / "lock")
    assert remove_leftovers(tmp_path) == 1
    assert (tmp_path / ".sealgate-spool-0").exists()


def test_a_place_that_was_replaced_by_a_link_is_removed_and_not_followed(tmp_path):
    victim = planted(tmp_path / "victim")
    with Spool(tmp_path / "spool").place() as place:
        place.rmdir()
        place.symlink_to(victim)
    assert not place.is_symlink()
    assert (victim / "precious").exists()


def test_a_spool_that_another_user_replaced_is_not_used(tmp_path):
    spool = Spool(tmp_path / "spool")
    with spool.place() as place:
        own = place.parent
    own.rename(tmp_path / "moved")
    victim = planted(tmp_path / "victim")
    own.symlink_to(victim)
    with pytest.raises(NotConfigured, match="was replaced"), spool.place():
        pass
    assert [path.name for path in sorted(victim.iterdir())] == ["lock", "precious"]
    spool.close()
    assert (victim / "precious").exists()


def test_a_directory_of_this_user_that_everyone_may_write_to_becomes_sticky(tmp_path):
    tmp_path.chmod(0o777)
    with Spool(tmp_path).place():
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777


@needs_root
@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o1777, False), (0o775, False)])
def test_a_directory_of_another_user_that_everyone_may_write_to_is_refused(tmp_path, mode, refused):
    directory = tmp_path / "spool"
    directory.mkdir()
    os.chown(directory, 12345, 12345)
    directory.chmod(mode)
    spool = Spool(directory)
    if not refused:
        with spool.place():
            return
    with pytest.raises(NotConfigured, match="every user can replace the files in it") as caught, spool.place():
        pass
    assert "Remove write permission for others" in caught.value.remedy
    assert entries_in(directory) == []


@pytest.mark.process
def test_a_volume_that_everyone_may_write_to_is_used(mounted):
    """Kubernetes mounts an emptyDir so, and what can write to it are the containers that mount it."""
    volume = mounted("mode=0777,uid=12345")
    spool = Spool(volume)
    with spool.place() as place:
        assert place.parent.parent == volume
    spool.close()
    assert stat.S_IMODE(volume.stat().st_mode) == 0o777

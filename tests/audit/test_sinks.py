"""A sink takes a line whole and in time, or says that it did not."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness.trails import Memory, full_pipe
from harness.users import as_user

from sealgate.audit.sinks import File, Lagging, NotTaken, Stdout

LINE = b'{"a line": 1}\n'


def test_a_pipe_that_nobody_reads_is_given_up_in_time_and_left_as_it_is():
    reading, writing = full_pipe()
    before = time.monotonic()
    with pytest.raises(NotTaken, match="nobody reads"):
        Stdout(writing).write(LINE, 0.05)
    assert time.monotonic() - before < 10
    assert os.get_blocking(writing)
    os.read(reading, 65536)
    Stdout(writing).write(LINE, 10)
    os.close(reading)


def test_room_that_is_not_there_any_more_when_it_is_used_holds_nobody_up():
    reading, writing = full_pipe()
    os.read(reading, 4096)
    found = []

    def write():
        # Twice the room that there is: as if somebody else had used it since it was found.
        with pytest.raises(NotTaken, match="nobody reads") as fault:
            Stdout(writing).write(b"y" * 8191 + b"\n", 0.05)
        found.append(fault)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(30)
    assert found
    os.close(reading)
    os.close(writing)


BORROWED = """
import os, sys
from sealgate.audit.sinks import NotTaken, Stdout
try:
    os.close(os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK))
    print("it can be opened again", file=sys.stderr)
except PermissionError:
    pass
sink = Stdout()
for line in (b"y" * 8191 + b"\\n", b"short\\n"):
    try:
        sink.write(line, 0.05)
    except NotTaken as fault:
        print(fault, file=sys.stderr)
print(os.get_blocking(1), file=sys.stderr)
sys.stdin.readline()
sink.write(b"last\\n", 60)
"""


def test_a_pipe_of_another_user_holds_nobody_up_either():
    reading, writing = full_pipe()
    os.read(reading, 4096)
    command = [*as_user(7654), sys.executable, "-c", BORROWED]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "proxy")}
    streams = {"stdin": subprocess.PIPE, "stdout": writing, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **streams) as process:
        os.close(writing)
        told = [process.stderr.readline() for _ in range(3)]
        assert told == [b"nobody reads standard output\n"] * 2 + [b"True\n"]
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert b"".join(iter(lambda: os.read(reading, 65536), b"")).endswith(b"y\nlast\n")
    assert process.returncode == 0
    os.close(reading)


def test_a_pipe_whose_reader_has_gone_takes_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(NotTaken):
        Stdout(writing).write(LINE, 10)


def test_a_full_disk_takes_nothing():
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(NotTaken, match="no space left"):
        Stdout(full).write(LINE, 10)


def test_a_file_is_appended_to_and_private(tmp_path, umask):
    path = tmp_path / "trail"
    for _ in range(2):
        sink = File(path)
        sink.write(LINE, 10)
        sink.close()
    assert path.read_bytes() == LINE * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 & ~umask


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path):
    path = tmp_path / "trail"
    sink = File(path)
    sink.write(LINE, 10)
    path.rename(tmp_path / "rotated")
    sink.write(LINE, 10)
    assert path.read_bytes() == (tmp_path / "rotated").read_bytes() == LINE


def test_a_line_that_somebody_left_unfinished_is_ended_first(tmp_path):
    path = tmp_path / "trail"
    path.write_bytes(b'{"half a li')
    File(path).write(LINE, 10)
    assert path.read_bytes() == b'{"half a li\n' + LINE


def test_a_line_that_another_process_left_unfinished_later_is_ended_too(tmp_path):
    path = tmp_path / "trail"
    sink = File(path)
    sink.write(LINE, 10)
    with path.open("ab") as other:
        other.write(b'{"half a li')
    sink.write(LINE, 10)
    assert path.read_bytes() == LINE + b'{"half a li\n' + LINE


LIMITED = """
import resource, signal, sys
from pathlib import Path
from sealgate.audit.sinks import File, NotTaken
path, line, room = Path(sys.argv[1]), sys.argv[2].encode() + b"\\n", int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = File(path)
sink.write(line, 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (len(line) + room, resource.RLIM_INFINITY))
try:
    sink.write(line, 10)
except NotTaken as fault:
    print(fault)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write(line, 10)
"""


@pytest.mark.parametrize("missing", [1, 2, len(LINE) - 1])
def test_a_line_that_did_not_fit_leaves_nothing_of_itself(tmp_path, missing):
    path = tmp_path / "trail"
    command = [sys.executable, "-c", LIMITED, str(path), LINE.decode().rstrip(), str(len(LINE) - missing)]
    root = str(Path(__file__).parents[2] / "proxy")
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, check=True)
    assert done.stdout == b"file too large\n"
    assert path.read_bytes() == LINE * 2


def test_a_file_whose_lock_another_process_holds_is_given_up_in_time(tmp_path):
    path = tmp_path / "trail"
    sink = File(path)
    sink.write(LINE, 10)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(NotTaken, match="another process holds its lock"):
            sink.write(LINE, 0.05)
    sink.write(LINE, 10)
    assert path.read_bytes() == LINE * 2


@pytest.mark.parametrize("kind", ["pipe", "link", "directory", "nowhere"])
def test_what_is_no_regular_file_takes_nothing(tmp_path, kind):
    path = tmp_path / "trail"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "target")
    elif kind == "directory":
        path.mkdir()
    else:
        path = tmp_path / "absent" / "trail"
    with pytest.raises(NotTaken):
        File(path).write(LINE, 10)


def given(lagging, line, until=0.0):
    lagging.add(line)
    return lagging.write(until)


def test_a_sink_that_comes_back_is_given_what_it_missed_in_order():
    sink = Memory()
    lagging = Lagging(sink)
    until = time.monotonic() + 60
    sink.fault = "away"
    assert given(lagging, b"1\n", until).fault == "away"
    assert not given(lagging, b"2\n", until).there
    sink.fault = ""
    assert given(lagging, b"3\n", until).there
    assert sink.lines == [b"1\n", b"2\n", b"3\n"]


def test_what_a_sink_misses_is_bounded_and_the_gap_is_told_once_until_it_has_caught_up(caplog):
    sink = Memory()
    lagging = Lagging(sink)
    for _ in range(2):
        sink.fault = "away"
        for number in range(1000):
            given(lagging, b"%d\n" % number)
        sink.fault = ""
        given(lagging, b"the last\n")
        assert len(sink.lines) == 256
        assert sink.lines[-1] == b"the last\n"
        sink.lines.clear()
    assert [record.getMessage() for record in caplog.records] == [
        "memory missed more than 256 records: its copy of the trail has a gap"
    ] * 2

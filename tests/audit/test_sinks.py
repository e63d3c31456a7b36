"""A sink writes a whole line in time, or raises an error."""

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

from sealgate.audit.sinks import BufferedSink, File, NotWritten, Stdout

LINE = b'{"a line": 1}\n'


def test_a_write_to_a_full_pipe_times_out_and_leaves_its_mode_unchanged():
    reading, writing = full_pipe()
    before = time.monotonic()
    with pytest.raises(NotWritten, match="nothing reads it"):
        Stdout(writing).write(LINE, 0.05)
    assert time.monotonic() - before < 10
    assert os.get_blocking(writing)
    os.read(reading, 65536)
    Stdout(writing).write(LINE, 10)
    os.close(reading)


def test_a_write_does_not_block_if_the_room_in_the_pipe_is_used_up_before_it():
    reading, writing = full_pipe()
    os.read(reading, 4096)
    found = []

    def write():
        # Twice the room in the pipe, as if another process had used the room after `poll` reported it.
        with pytest.raises(NotWritten, match="nothing reads it") as fault:
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
from sealgate.audit.sinks import NotWritten, Stdout
try:
    os.close(os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK))
    print("it can be opened again", file=sys.stderr)
except PermissionError:
    pass
sink = Stdout()
for line in (b"y" * 8191 + b"\\n", b"short\\n"):
    try:
        sink.write(line, 0.05)
    except NotWritten as fault:
        print(fault, file=sys.stderr)
print(os.get_blocking(1), file=sys.stderr)
sys.stdin.readline()
sink.write(b"last\\n", 60)
"""


@pytest.mark.process
def test_a_write_to_a_pipe_of_another_user_does_not_block():
    reading, writing = full_pipe()
    os.read(reading, 4096)
    command = [*as_user(7654), sys.executable, "-c", BORROWED]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "proxy")}
    streams = {"stdin": subprocess.PIPE, "stdout": writing, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **streams) as process:
        os.close(writing)
        said = [process.stderr.readline() for _ in range(3)]
        assert said == [b"standard output is full and nothing reads it\n"] * 2 + [b"True\n"]
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert b"".join(iter(lambda: os.read(reading, 65536), b"")).endswith(b"y\nlast\n")
    assert process.returncode == 0
    os.close(reading)


def test_a_pipe_whose_reader_has_gone_is_an_error():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(NotWritten):
        Stdout(writing).write(LINE, 10)


def test_a_full_disk_is_an_error():
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(NotWritten, match="no space left"):
        Stdout(full).write(LINE, 10)


def test_a_file_is_appended_to_and_private(tmp_path, umask):
    path = tmp_path / "trail"
    for _ in range(2):
        sink = File(path)
        sink.write(LINE, 10)
        sink.close()
    assert path.read_bytes() == LINE * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 & ~umask


def test_a_file_that_was_moved_away_is_created_again(tmp_path):
    path = tmp_path / "trail"
    sink = File(path)
    sink.write(LINE, 10)
    path.rename(tmp_path / "rotated")
    sink.write(LINE, 10)
    assert path.read_bytes() == (tmp_path / "rotated").read_bytes() == LINE


def test_an_unfinished_line_is_ended_first(tmp_path):
    path = tmp_path / "trail"
    path.write_bytes(b'{"half a li')
    File(path).write(LINE, 10)
    assert path.read_bytes() == b'{"half a li\n' + LINE


def test_a_line_that_another_process_leaves_unfinished_later_is_ended_too(tmp_path):
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
from sealgate.audit.sinks import File, NotWritten
path, line, room = Path(sys.argv[1]), sys.argv[2].encode() + b"\\n", int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = File(path)
sink.write(line, 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (len(line) + room, resource.RLIM_INFINITY))
try:
    sink.write(line, 10)
except NotWritten as fault:
    print(fault)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write(line, 10)
"""


@pytest.mark.process
@pytest.mark.parametrize("missing", [1, 2, len(LINE) - 1])
def test_a_line_that_does_not_fit_is_removed_again(tmp_path, missing):
    path = tmp_path / "trail"
    command = [sys.executable, "-c", LIMITED, str(path), LINE.decode().rstrip(), str(len(LINE) - missing)]
    root = str(Path(__file__).parents[2] / "proxy")
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, check=True)
    assert done.stdout == b"file too large\n"
    assert path.read_bytes() == LINE * 2


def test_the_wait_for_the_lock_of_a_file_times_out(tmp_path):
    path = tmp_path / "trail"
    sink = File(path)
    sink.write(LINE, 10)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(NotWritten, match="another process holds its lock"):
            sink.write(LINE, 0.05)
    sink.write(LINE, 10)
    assert path.read_bytes() == LINE * 2


@pytest.mark.parametrize("kind", ["pipe", "link", "directory", "nowhere"])
def test_a_path_that_is_not_a_regular_file_is_an_error(tmp_path, kind):
    path = tmp_path / "trail"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "target")
    elif kind == "directory":
        path.mkdir()
    else:
        path = tmp_path / "absent" / "trail"
    with pytest.raises(NotWritten):
        File(path).write(LINE, 10)


def deliver(buffered, line, until=0.0):
    buffered.queue(line)
    return buffered.deliver(until)


def test_a_sink_that_recovers_gets_the_missed_lines_in_order():
    sink = Memory()
    buffered = BufferedSink(sink)
    until = time.monotonic() + 60
    sink.fault = "away"
    assert deliver(buffered, b"1\n", until).fault == "away"
    assert not deliver(buffered, b"2\n", until).written
    sink.fault = ""
    assert deliver(buffered, b"3\n", until).written
    assert sink.lines == [b"1\n", b"2\n", b"3\n"]


def test_missed_lines_are_limited_and_a_gap_is_logged_once_until_the_sink_catches_up(caplog):
    sink = Memory()
    buffered = BufferedSink(sink)
    for _ in range(2):
        sink.fault = "away"
        for number in range(1000):
            deliver(buffered, b"%d\n" % number)
        sink.fault = ""
        deliver(buffered, b"the last\n")
        assert len(sink.lines) == 256
        assert sink.lines[-1] == b"the last\n"
        sink.lines.clear()
    assert [record.getMessage() for record in caplog.records] == [
        "the copy of a sink has a gap: sink=memory, records=256"
    ] * 2

"""The places of both sockets, whose paths the kernel limits to 107 bytes."""

from __future__ import annotations

import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.chain import SEALGATE, Proxy
from harness.outcome import assert_own_line, outcome

pytestmark = pytest.mark.process

BESIDE = 86
"""The longest path of the plugin's own socket, in bytes, beside which there is room for the downstream's."""


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="sg-") as directory:
        yield Path(directory)


def socket_of(size: int, short: Path) -> Path:
    """Return the path of a socket in `short` that has `size` bytes."""
    return short / ("d" * (size - len(f"{short}//socket"))) / "socket"


@pytest.mark.parametrize("size", [81, BESIDE, BESIDE + 1, 107])
def test_a_downstream_serves_behind_every_socket_that_the_kernel_accepts(tmp_path, short, size):
    temporary = short / "t"
    temporary.mkdir()
    proxy = Proxy(tmp_path, environment={"TMPDIR": str(temporary)})
    proxy.socket = socket_of(size, short)
    assert len(str(proxy.socket)) == size
    proxy.start()
    assert proxy.argo().list_objects("a/b") == []
    beside = proxy.socket.parent / ".sealgate-downstream"
    (private,) = [beside] if size <= BESIDE else temporary.iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert beside.exists() == (size <= BESIDE)
    assert proxy.stop() == 0, proxy.output()
    assert not private.exists()


def test_a_downstream_without_a_place_for_its_socket_is_refused_with_the_numbers(tmp_path, short):
    temporary = tmp_path / ("t" * 80)
    temporary.mkdir()
    proxy = Proxy(tmp_path, environment={"TMPDIR": str(temporary)})
    proxy.socket = socket_of(100, short)
    proxy.start()
    began = time.monotonic()
    found = outcome(lambda: proxy.argo().list_objects("a/b"))
    assert time.monotonic() - began < 10
    assert_own_line(found, "FAILED_PRECONDITION", "ListObjects")
    for part in ("has 121 bytes; the kernel accepts 107", "at most 86 bytes", "TMPDIR"):
        assert part in found.text
    assert proxy.stop() == 0, proxy.output()


def test_a_configured_socket_that_is_too_long_is_refused_with_the_numbers(tmp_path):
    path = f"/run/{'d' * 100}/socket"
    proxy = Proxy(tmp_path, downstream={"socket": path}).start()
    found = outcome(lambda: proxy.argo().list_objects("a/b"))
    assert_own_line(found, "FAILED_PRECONDITION", "ListObjects")
    assert f"has {len(path)} bytes; the kernel accepts 107" in found.text
    assert proxy.stop() == 0, proxy.output()


def test_an_own_socket_that_is_too_long_ends_the_process_with_the_numbers(tmp_path):
    path = f"{tmp_path}/{'d' * 100}/socket"
    ran = subprocess.run([*SEALGATE, "serve", path], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 2
    assert f"the path has {len(path)} bytes; the kernel accepts 107" in ran.stderr

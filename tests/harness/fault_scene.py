"""A proxy on which all eight operations run at once under a fault, and what each of them leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from harness.argo import CONFIGURATION
from harness.chain import TESTS, VENDOR, Proxy, eventually
from harness.content import blob, read_tree, write_tree
from harness.outcome import Outcome, outcome
from harness.stand import first_below

OPERATIONS = ("Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory", "GetCapabilities")
SIZE = (3 << 20) + 17
DATA = blob(SIZE)
AS_ASKED = "as requested"
KEYS = {"ListObjects": "team/tree", "IsDirectory": "team/tree", "GetCapabilities": ""}
_DISK = 64
"""MiB of a small disk."""
_STEADY = 30
"""Samples in a row that are the same where a proxy rests. One is taken every 10 ms."""
_MARKERS = {"go-on", "hang-began", "hang-ended"}
"""Files with which the tests and the vendor's plugin signal to each other."""


@dataclass(frozen=True)
class Cell:
    """What one operation did under a fault. No field may be empty but `text`."""

    code: str
    text: str
    destination: str
    store: str
    spool: str = ""
    process: str = ""
    next_call: str = ""


@dataclass(frozen=True)
class Resources:
    """What the processes of a proxy hold."""

    descriptors: int
    threads: int
    children: int

    def __le__(self, other: Resources) -> bool:
        return (
            self.descriptors <= other.descriptors and self.threads <= other.threads and self.children == other.children
        )


class FaultScene:
    """A proxy for one fault and one way of transfer.

    Args:
        home: a directory for this scene alone.
        transfer: `auto`, `file` or `stream`.
        settings: sections that replace those of the configuration.
        disks: names of directories beneath `home` that are small file systems of their own: `spool`, `destination`.
        separate: whether the vendor's plugin is a process beside the proxy, and not its child.
    """

    def __init__(
        self,
        home: Path,
        transfer: str,
        *,
        settings: Mapping[str, object],
        disks: tuple[str, ...] = (),
        separate: bool = False,
    ) -> None:
        self.transfer = transfer
        self._short = tempfile.TemporaryDirectory(prefix="sg-")
        self._second = Path(self._short.name) / "second"
        self._vendor: subprocess.Popen[bytes] | None = None
        self.disks = {name: home / name for name in disks}
        for path in self.disks.values():
            path.mkdir()
        spool = {"transfer": transfer}
        if "spool" in disks:
            spool["directory"] = str(self.disks["spool"])
        roots = [str(home / "work"), str(home / "destination")]
        self.separate = separate
        self.proxy = Proxy(
            home,
            downstream={"socket": str(self._second), "startTimeout": "500ms"} if separate else None,
            settings={"spool": spool, "paths": {"roots": roots}, **settings},
            environment={"VENDOR_STREAMS": "1"},
            within=_with_disks(list(self.disks.values())),
        )
        self.target = home / ("destination" if "destination" in disks else "work") / "out"
        self.source = self.proxy.work / "source"
        self.source.write_bytes(DATA)
        self._last_children: list[psutil.Process] = []
        self._tree: dict[str, bytes | None] = {}
        self._kept = b""
        self.received = bytearray()
        """What the last OpenStream has sent so far."""

    # --- the processes ------------------------------------------------------------------------------------

    def start(self) -> None:
        if self.separate:
            self.start_vendor()
        self.proxy.start()

    def stop(self) -> None:
        self.stop_vendor()
        if self.proxy.process is not None and self.proxy.process.poll() is None:
            self.proxy.process.send_signal(signal.SIGCONT)
        self.proxy.stop()
        self._short.cleanup()

    def start_vendor(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(TESTS.parent / "proxy"),
            "VENDOR_ROOT": str(self.proxy.storage),
            "VENDOR_STREAMS": "1",
        }
        self._second.unlink(missing_ok=True)
        with self.proxy.log.open("ab") as log:
            self._vendor = subprocess.Popen([*VENDOR, str(self._second)], env=environment, stdout=log, stderr=log)
        assert eventually(self._second.exists)

    def stop_vendor(self) -> None:
        """Kill the vendor's plugin, as a child or beside the proxy."""
        if self._vendor is not None:
            self._vendor.kill()
            self._vendor.wait()
            self._vendor = None

    def remove_vendor_socket(self) -> None:
        self._second.unlink(missing_ok=True)

    def await_another_child(self, known: set[int]) -> None:
        """Wait until the proxy runs a vendor's plugin whose process id is not in `known`, and can be called."""
        assert eventually(lambda: any(one.pid not in known for one in self.children("vendor.py")))
        assert eventually(lambda: outcome(lambda: self._do("IsDirectory", CONFIGURATION, 60)).code == "OK")

    def signal(self, number: signal.Signals) -> None:
        assert self.proxy.process is not None
        self._last_children = self.children()
        self.proxy.process.send_signal(number)

    def await_refusal(self) -> None:
        """Wait until a process that ends takes no further call."""
        assert eventually(lambda: outcome(lambda: self._do("IsDirectory", CONFIGURATION, 5)).code == "UNAVAILABLE")

    def go_on(self) -> None:
        """Let the vendor's plugin continue where a fault has paused it."""
        (self.proxy.storage / "go-on").touch()

    def await_end(self) -> int:
        """Wait until the proxy and all its descendants have ended; return the exit code."""
        assert self.proxy.process is not None
        code = self.proxy.process.wait(60)
        _, alive = psutil.wait_procs(self._last_children, 30)
        assert not alive, alive
        return code

    def kill_child(self) -> None:
        (child,) = self.children("vendor.py")
        child.kill()

    def children(self, program: str = "") -> list[psutil.Process]:
        """Return the proxy's descendants; with `program`, those that run it, without their guardian."""
        assert self.proxy.process is not None
        found = psutil.Process(self.proxy.process.pid).children(recursive=True)
        return [one for one in found if not program or _program(one) == program]

    def seen(self, path: Path) -> Path:
        """Return the path with which this process sees a path of the proxy, whose mounts are its own."""
        if self.disks and self.proxy.process is not None:
            return Path(f"/proc/{self.proxy.process.pid}/root{path}")
        return path

    def resources(self) -> Resources:
        assert self.proxy.process is not None
        process = psutil.Process(self.proxy.process.pid)
        return Resources(_descriptors(process.pid), process.num_threads(), len(self.children()))

    def resting(self) -> Resources:
        """Close all clients, and return what the proxy holds once it has noticed that."""
        self._close_clients()
        seen: list[Resources] = []

        def is_steady() -> bool:
            seen.append(self.resources())
            return len(seen) > _STEADY and len(set(seen[-_STEADY:])) == 1

        assert eventually(is_steady), seen[-3:]
        return seen[-1]

    def spooled(self) -> list[Path]:
        beneath = self.seen(self.disks["spool"]) if "spool" in self.disks else self.proxy.socket.parent
        return [path for path in beneath.glob(".sealgate-spool-*/*") if path.name != "lock"]

    # --- small disks --------------------------------------------------------------------------------------

    def fill(self, disk: str, free: int = 0) -> None:
        """Fill a small disk, but for `free` bytes."""
        filler = self.seen(self.disks[disk]) / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        os.truncate(filler, filler.stat().st_size - free)

    def empty(self, disk: str) -> None:
        (self.seen(self.disks[disk]) / "filler").unlink()

    def remount(self, disk: str, mode: str) -> None:
        """Make a small disk read-only or writable: `ro`, `rw`."""
        assert self.proxy.process is not None
        into = ["nsenter", "-t", str(self.proxy.process.pid), "-m", "--"]
        subprocess.run([*into, "mount", "-o", f"remount,{mode}", str(self.disks[disk])], check=True)

    # --- the calls ----------------------------------------------------------------------------------------

    @staticmethod
    def key(operation: str) -> str:
        return KEYS.get(operation, f"team/{operation}")

    def downstream_operation(self, operation: str) -> str:
        """Return the operation of the downstream that the proxy calls for `operation`."""
        return first_below(operation, self.transfer)

    def prepare(self) -> None:
        """Store the artifacts that are read, listed and deleted, and let the pools of the proxy grow."""
        argo = self.proxy.argo()
        for operation in ("Load", "OpenStream", "Delete"):
            argo.save_stream(self.key(operation), DATA)
        self._kept = self._stored("Delete").read_bytes()
        tree = write_tree(self.proxy.work / "tree")
        self._tree = read_tree(tree)
        argo.save(self.key("IsDirectory"), tree)
        self.warm_up()

    def warm_up(self) -> None:
        """Run each operation several times at once, so that later calls need no further thread."""
        for _ in range(2):
            with ThreadPoolExecutor(4 * len(OPERATIONS)) as pool:
                for one in [pool.submit(self._warm_call, name, n) for n in range(4) for name in OPERATIONS]:
                    one.result()
        self._close_clients()

    def _warm_call(self, operation: str, number: int) -> None:
        target = self.target.with_name(f"warm-{number}") if number == 0 else self.proxy.work / f"warm-{number}"
        key = f"team/warm-{operation}-{number}" if operation in {"Save", "SaveStream", "Delete"} else None
        self._do(operation, CONFIGURATION, 60, key=key, target=target)
        self.seen(target).unlink(missing_ok=True) if operation == "Load" else None
        if key:
            (self.proxy.storage / key).unlink(missing_ok=True)

    def _do(
        self,
        operation: str,
        configuration: str,
        timeout: float | None,
        key: str | None = None,
        target: Path | None = None,
    ) -> object:
        argo = self.proxy.argo(configuration, timeout)
        key = key or self.key(operation)
        return {
            "Load": lambda: argo.load(key, target or self.target),
            "OpenStream": lambda: self._read(argo.stream(key)),
            "Save": lambda: argo.save(key, self.source),
            "SaveStream": lambda: argo.save_stream(key, DATA),
            "Delete": lambda: argo.delete(key),
            "ListObjects": lambda: argo.list_objects(key),
            "IsDirectory": lambda: argo.is_directory(key),
            "GetCapabilities": argo.supports_save_stream,
        }[operation]()

    def _read(self, chunks: Iterator[bytes]) -> bytes:
        received = self.received = bytearray()
        for data in chunks:
            received += data
        return bytes(received)

    def begin(
        self, configure: Callable[[str], str], timeout: float | None
    ) -> tuple[ThreadPoolExecutor, dict[str, Future[tuple[Outcome, object]]]]:
        """Begin all operations, each in a thread."""
        pool = ThreadPoolExecutor(len(OPERATIONS))

        def run(operation: str) -> tuple[Outcome, object]:
            results: list[object] = []
            found = outcome(lambda: results.append(self._do(operation, configure(operation), timeout)))
            return found, results[0] if results else None

        return pool, {name: pool.submit(run, name) for name in OPERATIONS}

    def _close_clients(self) -> None:
        for client in self.proxy.clients:
            client.close()
        self.proxy.clients.clear()

    def cancel(self) -> None:
        """Cancel all calls."""
        self._close_clients()

    # --- what they leave behind ---------------------------------------------------------------------------

    def _stored(self, operation: str) -> Path:
        return self.proxy.storage / self.key(operation)

    def examine(self, found: Mapping[str, tuple[Outcome, object]]) -> dict[str, Cell]:
        """Return what each operation did; an unfinished or foreign file anywhere fails the test."""
        cells = {}
        for operation, (ended, result) in found.items():
            destination, store = self._destination(operation, result), self._store(operation)
            done = ended.code == "OK" and not self._missing(operation, result)
            if ended.code == "OK" and not done and operation in {"ListObjects", "IsDirectory"}:
                destination = "a wrong answer"
            cells[operation] = Cell(
                ended.code,
                ended.text,
                AS_ASKED if done and destination in {"nothing", "whole"} else destination,
                AS_ASKED if done else store,
            )
        self._require_nothing_else()
        return cells

    def _missing(self, operation: str, result: object) -> bool:
        """Return whether a call that reported success has not done what it had to do."""
        return not {
            "Load": lambda: self.seen(self.target).read_bytes() == DATA,
            "OpenStream": lambda: result == DATA,
            "Save": lambda: self._store(operation) == "stored",
            "SaveStream": lambda: self._store(operation) == "stored",
            "Delete": lambda: self._store(operation) == "deleted",
            "ListObjects": lambda: sorted(result) == self._listing(),  # type: ignore[call-overload]  # a list of keys
            "IsDirectory": lambda: result is True,
            "GetCapabilities": lambda: result is True,
        }[operation]()

    def _listing(self) -> list[str]:
        return sorted(f"{self.key('ListObjects')}/{path}" for path, data in self._tree.items() if data is not None)

    def _destination(self, operation: str, result: object) -> str:
        if operation == "Load" and self.seen(self.target).exists():
            assert self.seen(self.target).read_bytes() == DATA, "a part of the artifact is at the destination"
            return "whole"
        if operation == "OpenStream" and self.received:
            assert DATA.startswith(bytes(self.received)), "the reader was given wrong data"
            return "whole" if result == DATA else "a verified beginning"
        return "nothing"

    def _store(self, operation: str) -> str:
        path = self._stored(operation)
        if operation in {"Save", "SaveStream"}:
            if path.exists():
                assert path.stat().st_size > SIZE, "a part of the artifact is stored"
                return "stored"
        elif operation == "Delete":
            if not path.exists():
                return "deleted"
            assert path.read_bytes() == self._kept
        return "unchanged"

    def _require_nothing_else(self) -> None:
        """Check that no other file is in the store or beside the destination."""
        known = {self.key(name).split("/")[-1] for name in OPERATIONS}
        stored = {path.name for path in (self.proxy.storage / "team").iterdir()}
        unfinished = {name for name in stored - known if name.startswith(".")}
        for name in unfinished:  # of the vendor's plugin, if it was killed
            (self.proxy.storage / "team" / name).unlink()
        assert stored - unfinished <= known, stored
        others = {path.name for path in self.proxy.storage.iterdir()} - {"team"} - _MARKERS
        assert not others, others

    def at_destination(self) -> set[str]:
        """Return the names of unexpected files beside the destination."""
        expected = {"out", "source", "tree", "filler"}
        return {path.name for path in self.seen(self.target.parent).iterdir()} - expected

    def settled(self, before: Resources) -> bool:
        """Wait until the proxy holds no more than `before`."""
        self._close_clients()
        return eventually(lambda: self.resources() <= before)

    def require_no_plaintext_in(self, paths: list[Path]) -> None:
        for path in [file for one in paths for file in ([one] if one.is_file() else one.rglob("*")) if file.is_file()]:
            content = path.read_bytes()
            assert not any(DATA[at : at + 64] in content for at in range(0, SIZE - 64, 1 << 16)), path

    def repaired(self) -> None:
        """Undo what the calls did, so that each of them can be tried again."""
        for name in _MARKERS:
            (self.proxy.storage / name).unlink(missing_ok=True)
        self.seen(self.target).unlink(missing_ok=True)
        for operation in ("Save", "SaveStream"):
            self._stored(operation).unlink(missing_ok=True)
        self._stored("Delete").write_bytes(self._kept)

    def next_calls(self) -> None:
        """Carry out each operation without a fault, and check its result."""
        for operation in OPERATIONS:
            found: list[object] = []
            ended = outcome(lambda: found.append(self._do(operation, CONFIGURATION, 60)))  # noqa: B023 - called at once
            assert ended == Outcome("OK"), (operation, ended, self.proxy.output()[-3000:])
            assert not self._missing(operation, found[0]), operation
        for operation in ("Save", "SaveStream"):
            assert self._do("OpenStream", CONFIGURATION, 60, key=self.key(operation)) == DATA
        assert not self.at_destination()
        assert eventually(lambda: not self.spooled()), self.spooled()

    def await_line(self, line: str) -> None:
        assert eventually(lambda: f"{line}\n" in self.proxy.output()), f"{line!r} is missing in\n{self.proxy.output()}"


def _program(process: psutil.Process) -> str:
    """Return the name of the script that a Python process runs, or an empty text if it has ended."""
    with suppress(psutil.NoSuchProcess, IndexError):
        return Path(process.cmdline()[1]).name
    return ""


def _descriptors(process: int) -> tuple[str, ...]:
    found = []
    for number in os.listdir(f"/proc/{process}/fd"):
        with suppress(FileNotFoundError):
            found.append(re.sub(r":\[\d+\]", "", os.readlink(f"/proc/{process}/fd/{number}")))
    return tuple(sorted(found))


def _with_disks(places: list[Path]) -> tuple[str, ...]:
    """Return a command with a small file system of its own at each of `places`."""
    if not places:
        return ()
    mounts = " && ".join(f'mount -t tmpfs -o size={_DISK}m,mode=700 none "{place}"' for place in places)
    return ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")

"""The faults around a proxy: each is caused on real processes, file systems and servers, and repaired again."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from harness.fault_scene import OPERATIONS, FaultScene
from harness.openbao import OpenBao
from harness.outcome import Outcome
from harness.relay import Relay

Calls = Mapping[str, "Future[tuple[Outcome, object]]"]
MOVES = {"Load", "Save", "OpenStream", "SaveStream"}
"""Operations of a downstream that move data."""
_DEADLINE = 3.0
"""Seconds that a caller waits whose deadline passes: longer than all calls need to reach the downstream."""
_OUTAGE = "2s"
"""The timeout for a key server that does not answer."""


class KeyServer:
    """A real server with Vault's API, and the relay through which a proxy reaches it."""

    def __init__(self, openbao: OpenBao) -> None:
        self.openbao = openbao
        self.relay = Relay(("127.0.0.1", 0), ("127.0.0.1", openbao.port))
        self._transit = openbao.transit()
        self._token = self._transit.token(*self._transit.shipped_policies("saver", "loader"))

    def settings(self, home) -> dict[str, object]:
        (home / "token").write_text(self._token)
        vault = {
            "address": f"http://127.0.0.1:{self.relay.address[1]}",
            "mount": self._transit.mount,
            "auth": {"method": "tokenFile", "path": str(home / "token")},
            "timeout": _OUTAGE,
        }
        return {"keys": {"provider": "vault", "vault": vault, "cache": {"entries": 0}}}


@dataclass(frozen=True)
class Cause:
    """A fault, and how it is caused.

    Attributes:
        downstream: returns the fault that the vendor's plugin has, by the operation that it is called for.
        around: causes the fault before the calls begin, and repairs it once they have ended.
        during: causes it once all calls have begun.
        timeout: the deadline of the callers, in seconds.
        disks: the small disks that it needs.
        separate: whether the vendor's plugin is a process beside the proxy.
        key_server: whether keys come from a key server behind a relay.
        restarts: whether the proxy is started again before the calls.
        ends: whether the proxy's process ends.
        alike: texts of one fault that depend on which call meets it first, and the one text that replaces them.
        unread: the status and the text are those of the caller's own library.
    """

    downstream: Callable[[str], str] = field(default=lambda _: "")
    around: Callable[[FaultScene, KeyServer | None], AbstractContextManager[None]] = lambda _scene, _server: (
        nullcontext()
    )
    during: Callable[[FaultScene, Calls], None] = lambda _scene, _calls: None
    timeout: float | None = 60
    disks: tuple[str, ...] = ()
    separate: bool = False
    key_server: bool = False
    restarts: bool = False
    ends: bool = False
    unread: bool = False
    alike: tuple[str, str] = ("$^", "")

    def configuration(self, scene: FaultScene, operation: str) -> str:
        on = scene.downstream_operation(operation)
        fault = self.downstream(on)
        return f"fault: {fault} on {on}\n" if fault else "{}"


FAULTS: dict[str, Cause] = {}


def always(fault: str) -> Callable[[str], str]:
    return lambda _: fault


def moving(midway: str, other: str = "") -> Callable[[str], str]:
    """Return the fault `midway` for operations that move data, and `other` for the rest."""
    return lambda on: midway if on in MOVES else other


def fault(name: str, **facts: object):
    """Register a generator that causes a fault and, after its one yield, repairs it, also after a failed test."""

    def register(cause: Callable[[FaultScene, KeyServer | None], Iterator[None]]):
        @contextmanager
        def undone(scene: FaultScene, server: KeyServer | None) -> Iterator[None]:
            steps = cause(scene, server)
            next(steps)
            try:
                yield
            finally:
                next(steps, None)

        FAULTS[name] = Cause(around=undone, **facts)  # type: ignore[arg-type]  # the facts of a fault, by name
        return cause

    return register


def await_all_at_the_fault(scene: FaultScene, stopped: Callable[[str], str], calls: Calls) -> None:
    """Wait until each call has reached the place where the vendor's plugin stops."""
    futures.wait([calls[OPERATIONS[-1]]])  # GetCapabilities, which is answered without the downstream
    for operation in OPERATIONS[:-1]:
        on = scene.downstream_operation(operation)
        line = f"hang on {on}" if stopped(on) == "hang" else f"stopped in {on}"
        scene.await_line(f"{line} of {scene.key(operation)}")


HANGS = moving("hang-midway", "hang")
PAUSES = moving("pause-midway", "pause")


# --- the downstream --------------------------------------------------------------------------------------


@fault("the downstream is absent", separate=True, restarts=True)
def absent(scene: FaultScene, _server: KeyServer | None):
    scene.stop_vendor()
    scene.proxy.kill()
    scene.remove_vendor_socket()
    scene.proxy.start()
    yield
    scene.start_vendor()


BROKE = (
    "the connection to the downstream broke before its answer was complete",
    "the downstream's socket /second does not accept connections after 0.5 s",
)
"""What the first calls and those after them report once the downstream was killed."""


@fault(
    "the downstream was killed before the call",
    separate=True,
    alike=(
        f"(?:{'|'.join(map(re.escape, BROKE))}).*",
        f"{BROKE[0]} … (connect: connection refused), or {BROKE[1]} … (i/o timeout)",
    ),
)
def killed_before(scene: FaultScene, _server: KeyServer | None):
    scene.stop_vendor()
    yield
    scene.start_vendor()


def kill_during(scene: FaultScene, calls: Calls) -> None:
    await_all_at_the_fault(scene, HANGS, calls)
    scene.kill_child()


FAULTS["the downstream is killed during the call"] = Cause(HANGS, during=kill_during)


def kill_after(scene: FaultScene, calls: Calls) -> None:
    for call in calls.values():
        call.result()
    before = {one.pid for one in scene.children("vendor.py")}
    scene.kill_child()
    scene.await_another_child(before)


FAULTS["the downstream is killed after the call"] = Cause(during=kill_after)


def cancel(scene: FaultScene, calls: Calls) -> None:
    await_all_at_the_fault(scene, HANGS, calls)
    scene.cancel()


FAULTS["the downstream hangs, and the caller's deadline passes"] = Cause(HANGS, timeout=_DEADLINE, unread=True)
FAULTS["the downstream hangs, and the caller cancels"] = Cause(HANGS, during=cancel, unread=True)
FAULTS["the downstream ends early and says so"] = Cause(moving("error-midway", "refuse"))
FAULTS["the downstream ends early and does not say so"] = Cause(
    lambda on: {"Load": "short", "OpenStream": "early-close", "SaveStream": "confirm-early"}.get(on, "")
)
FAULTS["the downstream gives short data"] = Cause(
    lambda on: {"Load": "short", "OpenStream": "early-end", "ListObjects": "fewer"}.get(on, "")
)
FAULTS["the downstream gives no data and reports success"] = Cause(
    lambda on: {"Load": "nothing", "OpenStream": "empty"}.get(on, "")
)
FAULTS["the downstream gives wrong data"] = Cause(
    lambda on: {"Load": "wrong", "OpenStream": "wrong", "ListObjects": "outside"}.get(on, "")
)
FAULTS["the downstream sends a message of 9 MiB"] = Cause(
    lambda on: {"OpenStream": "huge", "ListObjects": "huge-keys"}.get(on, "")
)
FAULTS["the downstream refuses, with a text of 9 MiB"] = Cause(always("refuse-huge"))
FAULTS["the downstream refuses"] = Cause(lambda on: "refuse-early" if on == "SaveStream" else "refuse")
FAULTS["the downstream answers with a status of its own"] = Cause(always("status"))
FAULTS["the downstream answers UNIMPLEMENTED"] = Cause(always("lacking"))
FAULTS["the downstream reports success and does nothing"] = Cause(
    lambda on: {"Save": "forget", "SaveStream": "forget", "Delete": "forget"}.get(on, "")
)


# --- the disk --------------------------------------------------------------------------------------------


def disk_faults(disk: str, name: str) -> None:
    """Register the faults of a disk that really fills."""

    @fault(f"the disk of the {name} is full", disks=(disk,))
    def full(scene: FaultScene, _server: KeyServer | None):
        scene.fill(disk)
        yield
        scene.empty(disk)

    @fault(f"the disk of the {name} becomes full during the call", disks=(disk,))
    def filling(scene: FaultScene, _server: KeyServer | None):
        scene.fill(disk, free=1 << 20)
        yield
        scene.empty(disk)

    @fault(
        f"another process fills the disk of the {name} during the call",
        disks=(disk,),
        downstream=PAUSES,
        during=lose(disk),
    )
    def lost(scene: FaultScene, _server: KeyServer | None):
        yield
        scene.empty(disk)


def lose(disk: str) -> Callable[[FaultScene, Calls], None]:
    def during(scene: FaultScene, calls: Calls) -> None:
        await_all_at_the_fault(scene, PAUSES, calls)
        scene.fill(disk)
        scene.go_on()

    return during


disk_faults("spool", "spool")
disk_faults("destination", "destination")


@fault("the spool is read-only", disks=("spool",), restarts=True)
def read_only_spool(scene: FaultScene, _server: KeyServer | None):
    # The running proxy has a file open in its spool, so that the kernel refuses to remount it.
    scene.proxy.kill()
    scene.proxy.start()
    scene.remount("spool", "ro")
    yield
    scene.remount("spool", "rw")


@fault("the destination is read-only", disks=("destination",))
def read_only_destination(scene: FaultScene, _server: KeyServer | None):
    scene.remount("destination", "ro")
    yield
    scene.remount("destination", "rw")


# --- the process -----------------------------------------------------------------------------------------


def terminate(scene: FaultScene, calls: Calls) -> None:
    await_all_at_the_fault(scene, PAUSES, calls)
    scene.signal(signal.SIGTERM)
    scene.await_refusal()
    scene.go_on()


def terminate_hanging(scene: FaultScene, calls: Calls) -> None:
    await_all_at_the_fault(scene, HANGS, calls)
    scene.signal(signal.SIGTERM)


def kill(scene: FaultScene, calls: Calls) -> None:
    await_all_at_the_fault(scene, HANGS, calls)
    scene.signal(signal.SIGKILL)


FAULTS["SIGTERM during the call"] = Cause(PAUSES, during=terminate, ends=True)
FAULTS["SIGTERM while the downstream hangs"] = Cause(HANGS, during=terminate_hanging, ends=True)
FAULTS["SIGKILL during the call"] = Cause(HANGS, during=kill, ends=True, unread=True)


# --- the key server --------------------------------------------------------------------------------------


@fault("the key server is sealed", key_server=True)
def sealed(_scene: FaultScene, server: KeyServer):
    server.openbao.seal()
    yield
    server.openbao.unseal()


def key_server_faults() -> None:
    """Register the faults of the connection to the key server."""
    for name, mode, most in (
        ("the key server's connections are refused", "refuse", None),
        ("the key server hangs", "hang", None),
        ("the key server's answers are cut off", "pass", 60),
    ):

        @fault(name, key_server=True)
        def broken(_scene: FaultScene, server: KeyServer, mode: str = mode, most: int | None = most):
            server.relay.mode, server.relay.passed, server.relay.most = mode, 0, most
            server.relay.cut()
            yield
            server.relay.mode, server.relay.most = "pass", None
            server.relay.cut()


key_server_faults()

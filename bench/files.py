"""Sealing and opening one file without a server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Row, Side, Target, medians, ratio, say, take_turns
from bench.peers import PEERS, Absent, Peer, command
from bench.setting import Setting, random_file
from sealgate import envelope
from sealgate.call import WrappedKey

_SPEED = {
    "age": Target(3, "x the speed", at_least=True),
    "rclone crypt": Target(10, "x the speed", at_least=True),
    "tink-py": Target(8, "x the speed", at_least=True),
}
_AS_FAST = Target(1.0, "x the time")
_KEY = "bench/file"
_REASON = "sealing takes 1.6 x the processor time of cp, shared among idle processors"


def us() -> Peer:
    """Return a peer that calls the proxy's `seal_file` and `open_file` in this process."""
    data_key = secrets.token_bytes(32)
    wrapped = WrappedKey("local", "", "default", "local:v1:", 1)
    header = envelope.new_header(data_key, wrapped, sealed_at=int(time.time()))

    def seal(plain: Path, sealed: Path) -> None:
        with plain.open("rb") as source, sealed.open("xb") as target:
            envelope.seal_file(source.fileno(), target.fileno(), header, data_key, _KEY)

    def open_(sealed: Path, plain: Path) -> None:
        with sealed.open("rb") as source, plain.open("xb") as target:
            envelope.open_file(source.fileno(), target.fileno(), lambda _: data_key, _KEY)

    return Peer(seal, open_)


def cp() -> Peer:
    """Return a peer that only copies."""
    return Peer(*(lambda source, target: command("cp", source, target),) * 2)


def rows(setting: Setting) -> Iterator[Row]:
    home = setting.directory("files")
    plain = random_file(home / "plain", setting.size)
    peers: dict[str, Peer] = {"ours": us(), "cp": cp()}
    absent: dict[str, str] = {}
    for name, find in PEERS.items():
        try:
            peers[name] = find(home, install=setting.install)
        except Absent as reason:
            absent[name] = str(reason)
    for verb in ("seal", "open"):
        say(f"{verb} a file: {', '.join(peers)}")
        sides = {name: _side(home, plain, name, peer, verb) for name, peer in peers.items()}
        seconds = take_turns(setting.runs, sides, ready=setting.touch_memory)
        title = f"{verb} a file"
        yield ratio(title, ("ours", "cp"), seconds, _AS_FAST, _REASON)
        for name, target in _SPEED.items():
            if name in absent:
                yield Row(title, name, target, reason=absent[name])
            else:
                yield ratio(title, ("ours", name), seconds, target, _of_cp(name, seconds), speed=True)
        for found in home.glob("sealed-*"):
            found.unlink()
    plain.unlink()


def _of_cp(name: str, seconds: dict[str, list[float]]) -> str:
    middle = medians(seconds)
    return f"cp, which only copies, has {middle[name] / middle['cp']:.1f} x its speed"


def _side(home: Path, plain: Path, name: str, peer: Peer, verb: str) -> Side:
    # rclone names a sealed file without its suffix, and adds its own.
    sealed = home / f"sealed-{name.replace(' ', '-')}.bin"
    opened = home / "opened"
    if verb == "seal":
        return Side(lambda: peer.seal(plain, sealed), lambda: sealed.unlink(missing_ok=True))
    peer.seal(plain, sealed)
    return Side(lambda: peer.open(sealed, opened), lambda: opened.unlink(missing_ok=True))

"""Audit trails for tests: written, read back and verified."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from harness.chain import eventually

from sealgate.audit.accesses import Access
from sealgate.audit.audit_log import AuditLog, AuditOptions
from sealgate.audit.chain import Certification
from sealgate.audit.reading.trail_lines import TrailLine, read_lines
from sealgate.audit.reading.verify import verify
from sealgate.audit.sinks import File, NotWritten
from sealgate.call import Call, Operation
from sealgate.compose.audit import authority
from sealgate.identity import Identity
from sealgate.keys import KeyProvider
from sealgate.plugin import Artifact

IDENTITY = Identity(namespace="team-a", workflow="train-7x2p", pod="train-7x2p-1", component="init")


class Authority:
    """A certifying key that the audit log does not hold."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def certify(self, call: Call, text: bytes) -> Certification:
        return Certification("audit", 1, self._key.sign(text))

    def identify(self, call: Call) -> Identity:
        return IDENTITY


class Memory:
    """A sink that keeps lines. While `fault` is set, it fails with that text."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.lines: list[bytes] = []
        self.fault = ""

    def write(self, line: bytes, seconds: float) -> None:
        if self.fault:
            raise NotWritten(self.fault)
        self.lines.append(line)

    def close(self) -> None:
        pass

    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.lines]


def shown_call(operation: Operation = Operation.LOAD) -> Call:
    """Return a call for which no policy hides a key."""
    return Call(operation, hides=lambda _key: False)


def log_of(*sinks, authority: Authority | None = None, **options) -> AuditLog:
    return AuditLog(sinks, lambda: IDENTITY, AuditOptions(**options), authority)


def trail_of(count: int, authority: Authority | None, *, closed: bool = True) -> list[bytes]:
    """Return the lines of a process that made `count` accesses."""
    sink = Memory()
    log = log_of(sink, authority=authority)
    for number in range(count):
        log.outcome(Access(shown_call(Operation.LIST_OBJECTS), Artifact(f"ns/{number}", name="main")), None, 1)
    if closed:
        log.close()
    return sink.lines


def write_trail(path: Path, keys: KeyProvider) -> None:
    """Write the trail of a process with one access, certified by a key provider."""
    log = AuditLog([File(path)], lambda: IDENTITY, AuditOptions(), authority(keys))
    log.outcome(Access(shown_call(Operation.LOAD), Artifact("team-a/model.bin")), None)
    log.close()


def verdict_on(lines: list[bytes], *authorities: Authority, **options):
    trail = (TrailLine("trail", number, line.rstrip(b"\n")) for number, line in enumerate(lines, start=1))
    return verify(trail, [authority.public for authority in authorities], **options)


def verdict_on_text(text: bytes, *authorities: Authority, **options):
    lines = read_lines([("trail", io.BytesIO(text))])
    return verify(lines, [authority.public for authority in authorities], **options)


def flaws(lines: list[bytes], *authorities: Authority, **options) -> set[str]:
    return {finding.flaw.value for finding in verdict_on(lines, *authorities, **options).findings}


def read(path: Path) -> list[dict]:
    """Return the records of a trail. Wait until a line that the proxy is writing just now is whole."""

    def whole() -> bool:
        nonlocal text
        text = path.read_bytes()
        return not text or text.endswith(b"\n")

    text = b""
    assert eventually(whole), f"the last line of {path} is cut: {text[-200:]!r}"
    return [json.loads(line) for line in text.splitlines()]


def full_pipe() -> tuple[int, int]:
    """Return the ends of a pipe that has no room for another line."""
    reading, writing = os.pipe()
    fill(writing)
    return reading, writing


def fill(pipe: int) -> int:
    """Write zeros to `pipe` until it is full. Return how many fitted."""
    os.set_blocking(pipe, False)
    written = 0
    try:
        while True:
            written += os.write(pipe, bytes(4096))
    except BlockingIOError:
        os.set_blocking(pipe, True)
    return written

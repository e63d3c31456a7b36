"""A caller that pings, to learn whether its connection still works, is not cut off."""

from __future__ import annotations

import socket
import time

import pytest

pytestmark = pytest.mark.process

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER = 9
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1
PINGS = 10


def frame(kind: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2 for the connection itself."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


def test_every_ping_is_answered_however_soon_it_follows_the_last(proxy):
    """By default, gRPC closes a connection after the third ping in five minutes without data."""
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as frames:
        connection.settimeout(30)
        connection.connect(str(proxy.socket))
        connection.sendall(PREFACE + frame(SETTINGS, b""))
        for number in range(PINGS):
            connection.sendall(frame(PING, number.to_bytes(8, "big")))
            kind, flags = SETTINGS, 0
            while (kind, flags & ACK) != (PING, ACK):
                header = frames.read(HEADER)
                assert len(header) == HEADER, f"the connection was closed at ping {number}"
                kind, flags = header[3], header[4]
                frames.read(int.from_bytes(header[:3], "big"))
                assert kind != GOAWAY
            time.sleep(0.05)

"""What a failed call told its caller, and what every such text must be like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc
from harness.argo import Failed

# What Argo's `retryPolicy: OnTransientError` looks for in a message.
TRANSIENT = (
    "i/o timeout",
    "connect: connection refused",
    "Connection closed by foreign host",
    "net/http: TLS handshake timeout",
    "connection timed out",
    "connection reset by peer",
    "http2: client connection lost",
    "http2: server sent GOAWAY and closed the connection",
    "invalid connection",
    "etcdserver: leader changed",
    "etcdserver: request timed out",
    "etcdserver: too many requests",
    "upper: no more rows in",
)
OF_A_LIBRARY = (
    "Traceback",
    "Error(",
    "Exception",
    "failed to connect to all addresses",
    "Socket closed",
    "Stream removed",
    "recvmsg",
    "Errno",
)
PASSING = {"UNAVAILABLE"}
IN_THE_ANSWER = "in the answer"


@dataclass(frozen=True)
class Outcome:
    """How a call ended: `code` is a gRPC status, `IN_THE_ANSWER`, or `OK`."""

    code: str
    text: str = ""


def outcome(do: Callable[[], object]) -> Outcome:
    try:
        do()
    except grpc.RpcError as error:
        return Outcome(error.code().name, error.details())
    except Failed as error:
        return Outcome(IN_THE_ANSWER, str(error))
    return Outcome("OK")


def assert_own_line(found: Outcome, code: str, operation: str, key: str = "") -> None:
    """The text is one of ours: one line, what was tried, on what, a decision id, and honest about retries."""
    text = found.text
    assert found.code == code, found
    assert text.isprintable(), text
    assert len(text) <= 1024, text
    if code == "PERMISSION_DENIED" and "(vault)" not in text:  # a policy's, and not the key service's
        assert len(text.encode()) <= 400, text
        operation = f"denied {operation}"
    assert text.startswith(f'{operation} "{key[:120]}' if key else operation), text
    assert "[d=" in text, text
    assert not [mark for mark in OF_A_LIBRARY if mark in text], text
    assert any(mark in text for mark in TRANSIENT) == (code in PASSING), text

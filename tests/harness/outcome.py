"""The outcome of a call, and the rules that the text of every error keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc
from harness.argo import Failed

# Fact 65 of docs/argo-contract.md, written out here so that a change of the product's list shows.
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
    """Check an error of Sealgate: one line with operation, key and decision id, retryable only if it can pass."""
    text = found.text
    assert found.code == code, found
    assert text.isprintable(), text
    assert len(text) <= 1024, text
    if code == "PERMISSION_DENIED" and "(vault)" not in text:  # a denial of a policy, and not of the key service
        assert len(text.encode()) <= 400, text
        operation = f"denied {operation}"
    assert text.startswith(f'{operation} "{key[:120]}' if key else operation), text
    assert "[d=" in text, text
    assert not [mark for mark in OF_A_LIBRARY if mark in text], text
    assert any(mark in text for mark in TRANSIENT) == (code in PASSING), text

"""Answers without an end, or cut short: the wait for them is limited, and each kind has its own outcome."""

from __future__ import annotations

import gzip
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from harness.chain import eventually

from sealgate.call import Call, Operation
from sealgate.errors import NotConfigured, Unavailable
from sealgate.keys.vault.client import LARGEST
from sealgate.keys.vault.connections import Wire
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse
from sealgate.keys.vault.login import StaticToken
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.server import TransitKey, VaultServer

REQUEST = VaultRequest("transit/decrypt/artifacts", {"ciphertext": "vault:v1:AAAA"})
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = OK + b"Content-Length: 2\r\n\r\n{}"
HURRY = 0.3
PAUSE = 0.02
"""Seconds between two bytes of an answer that lasts many times longer than `HURRY`."""


class Speaker:
    """A server that sends the bytes that a test gives it, in answer to the requests of each connection."""

    def __init__(self, *answers):
        self._answers = iter(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._closed = threading.Event()
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.connections = 0
        self.said = 0
        self.left = 0
        self.heard = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._speak, args=[connection], daemon=True).start()

    def _speak(self, connection):
        with connection, connection.makefile("rb") as asked, suppress(OSError):
            while heard := self._request(asked):
                self.heard.append(heard)
                answer = next(self._answers)
                for part in answer:
                    if len(part) == 1 and self._closed.wait(PAUSE):
                        return
                    connection.sendall(part)
                    self.said += len(part)
                if answer != [WHOLE]:
                    break
        self.left += 1

    @staticmethod
    def _request(asked):
        """Return the next request of a connection, or nothing if the client has closed it."""
        head = b""
        while (line := asked.readline()) != b"\r\n":
            if not line:
                return b""
            head += line
        size = re.search(rb"Content-Length: (\d+)", head)
        return head + asked.read(int(size[1])) if size else b""

    def close(self):
        self._closed.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def saying(*answers):
    speaker = Speaker(*answers)
    try:
        yield speaker
    finally:
        speaker.close()


def bytewise(text):
    return (text[at : at + 1] for at in range(len(text)))


def first(speaker, timeout=30.0):
    return Wire(speaker.address).send(REQUEST, "token", timeout)


# --- in seconds ------------------------------------------------------------------------------------------

LONG = 500
DRIPPING = {
    "status": [b"HTTP/1.1 200 ", *bytewise(b"O" * LONG)],
    "headers": [OK, b"X: ", *bytewise(b"y" * LONG), b"\r\n", b"Content-Length: 2\r\n\r\n{}"],
    "body": [OK + b"Content-Length: %d\r\n\r\n" % (LONG + 2), *bytewise(b" " * LONG), b"{}"],
    "body without a length": [OK + b"\r\n", *bytewise(b" " * LONG), b"{}"],
    "chunk": [CHUNKED, b"%x\r\n" % (LONG + 2), *bytewise(b" " * LONG), b"{}\r\n", b"0\r\n\r\n"],
    "size of a chunk": [CHUNKED, b"2;", *bytewise(b"x" * LONG), b"\r\n{}\r\n0\r\n\r\n"],
}


@pytest.mark.parametrize("answer", DRIPPING.values(), ids=DRIPPING)
def test_the_wait_for_an_answer_byte_by_byte_is_as_long_as_for_no_answer(answer):
    with saying(answer, [WHOLE]) as speaker:
        wire = Wire(speaker.address)
        assert wire.send(REQUEST, "token", HURRY) is Unanswered.TIMEOUT
        assert eventually(lambda: speaker.left == 1), "the connection is closed"
        assert wire.send(REQUEST, "token", 30) == VaultResponse(200, {})


def test_slow_is_not_too_late():
    with saying(bytewise(WHOLE)) as speaker:
        assert first(speaker) == VaultResponse(200, {})


def test_a_call_ends_though_the_answer_does_not():
    with saying(*[DRIPPING["body"]] * 20) as speaker:
        server = VaultServer(speaker.address, StaticToken("token"), patience=3 * HURRY)
        with pytest.raises(Unavailable, match="did not answer in time"):
            VaultKeys(server, TransitKey("transit", "artifacts")).new_data_key(Call(Operation.SAVE))


# --- in bytes --------------------------------------------------------------------------------------------

BLOCK = b" " * (1 << 20)
ENDLESS = 64
"""Blocks, more than fit into the buffers of two sockets."""
TOO_LARGE = {
    "of a known size": [OK + b"Content-Length: %d\r\n\r\n" % (ENDLESS << 20), *[BLOCK] * ENDLESS],
    "of no known size": [OK + b"\r\n", *[BLOCK] * ENDLESS],
    "chunked": [CHUNKED, *[b"100000\r\n" + BLOCK + b"\r\n"] * ENDLESS, b"0\r\n\r\n"],
    "a redirect": [
        b"HTTP/1.1 307 Elsewhere\r\nLocation: /elsewhere\r\nContent-Length: %d\r\n\r\n" % (ENDLESS << 20),
        *[BLOCK] * ENDLESS,
    ],
}


@pytest.mark.parametrize("answer", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_too_large_answer_is_not_read_to_its_end(answer):
    with saying(answer, [WHOLE]) as speaker:
        wire = Wire(speaker.address)
        assert wire.send(REQUEST, "token", 30) is Unanswered.NOT_VAULT
        assert eventually(lambda: speaker.left == 1), "the connection is closed"
        assert speaker.said < ENDLESS / 2 * len(BLOCK)
        assert wire.send(REQUEST, "token", 30) == VaultResponse(200, {})


def test_an_answer_as_large_as_is_allowed_is_read():
    body = b'{"data": {"a": "b"}}'.ljust(LARGEST)
    with saying([OK + b"Content-Length: %d\r\n\r\n" % len(body), body]) as speaker:
        assert first(speaker) == VaultResponse(200, {"data": {"a": "b"}})


def test_a_compressed_answer_is_neither_requested_nor_decompressed():
    packed = gzip.compress(b'{"data": {"a": "b"}}')
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with saying([head + packed]) as speaker:
        assert first(speaker) == VaultResponse(200, {})
    assert b"Accept-Encoding: identity\r\n" in speaker.heard[0]


def test_cookies_are_not_kept():
    with saying([OK + b"Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\n", WHOLE[-2:]], [WHOLE]) as speaker:
        wire = Wire(speaker.address)
        assert wire.send(REQUEST, "token", 30) == VaultResponse(200, {})
        # The first connection may appear open for a moment after it was closed.
        assert eventually(lambda: wire.send(REQUEST, "token", 30) == VaultResponse(200, {}))
    assert b"Cookie" not in speaker.heard[1]


def test_the_error_for_a_too_large_answer_names_the_server():
    with saying(*[TOO_LARGE["chunked"]] * 5) as speaker:
        server = VaultServer(speaker.address, StaticToken("token"))
        with pytest.raises(NotConfigured, match=r"the server at 127.0.0.1:\d+ does not answer as Vault does"):
            VaultKeys(server, TransitKey("transit", "artifacts")).new_data_key(Call(Operation.SAVE))
        assert speaker.connections == 1


# --- broken off ------------------------------------------------------------------------------------------

BROKEN = {
    "before the answer": [b""],
    "in the status": [b"HTTP/1.1 2"],
    "in a header": [OK + b"Content-Len"],
    "between two headers": [OK + b"Content-Type: application/json\r\n"],
    "in the body": [OK + b"Content-Length: 20\r\n\r\n", b'{"data": '],
    "in a chunk": [CHUNKED, b"ff\r\n", b'{"data": '],
    "before the size of a chunk": [CHUNKED],
    "in the size of a chunk": [CHUNKED, b"f"],
    "garbled: a status": [b"HTTP/1.1 OK\r\n\r\n"],
    "garbled: no HTTP": [b"SSH-2.0-x\r\n"],
    "garbled: the size of a chunk": [CHUNKED, b"size\r\n{}\r\n"],
    "garbled: two lengths": [OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"],
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_an_incomplete_answer_is_not_logged_and_the_next_one_is_read(answer, caplog):
    with saying(answer, [WHOLE]) as speaker:
        wire = Wire(speaker.address)
        assert wire.send(REQUEST, "token", 30) is Unanswered.NO_CONNECTION
        assert wire.send(REQUEST, "token", 30) == VaultResponse(200, {})
    assert caplog.text == ""


def test_a_server_that_closes_the_connection_before_its_certificate_is_not_a_tls_fault():
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:

        def hang_up():
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)

        gone = pool.submit(hang_up)
        wire = Wire(f"https://127.0.0.1:{server.getsockname()[1]}")
        assert wire.send(REQUEST, "token", 30) is Unanswered.NO_CONNECTION
        gone.result()


# --- kept open -------------------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_request():
    with saying(*[[WHOLE]] * 5) as speaker:
        wire = Wire(speaker.address)
        for _ in range(5):
            assert wire.send(REQUEST, "token", 30) == VaultResponse(200, {})
        assert speaker.connections == 1

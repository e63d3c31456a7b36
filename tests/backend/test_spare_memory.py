"""Transfers share the memory for the parts that are in flight beyond those that each must have."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from harness.chain import eventually
from harness.gate import Gate, gated
from harness.http_server import serving

from sealgate.backend import ObjectStoreBackend
from sealgate.call import Call, Operation

MIB = 1 << 20
PART, SIZE = 4 * MIB, 40 * MIB
STREAMS = 12


@pytest.fixture
def watched(versitygw, call, at, plant):
    """Return a function that makes a backend with `spare` bytes. The fixture also holds the ranges it asked for."""
    asked: list[str] = []

    def counts(method, path, wanted):
        if method == "GET" and wanted:
            asked.append(wanted)
        return method == "PUT" and "partNumber=" in path

    bucket, gate = versitygw.new_bucket(), Gate(counts, 1)
    with gated(versitygw.endpoint, gate) as endpoint:

        def make(spare: int) -> ObjectStoreBackend:
            config = json.dumps(versitygw.config(endpoint=endpoint))
            environment = {"SEALGATE_BACKEND_URL": f"s3://{bucket}", "SEALGATE_BACKEND_CONFIG": config}
            return ObjectStoreBackend(environment, spare)

        make(0).save(call, at("key"), plant(bytes(range(256)) * (SIZE // 256)))
        yield make, asked, gate


def test_stalled_streams_hold_one_part_each_and_the_spare_memory(watched, call, at):
    make, asked, _ = watched
    backend = make(3 * PART + 1)
    for _ in range(2):  # the end of a stream gives back what it took
        asked.clear()
        streams = [backend.open_stream(call, at("key")) for _ in range(STREAMS)]
        for stream in streams:
            next(stream)
            next(stream)
        assert eventually(lambda: len(asked) == 3)
        for stream in streams:
            stream.close()
        assert len(asked) == 3


def test_a_stream_without_spare_memory_is_complete(watched, call, at):
    make, asked, _ = watched
    assert b"".join(map(bytes, make(0).open_stream(call, at("key")))) == bytes(range(256)) * (SIZE // 256)
    assert len(asked) == SIZE // PART - 1


def test_whoever_takes_only_the_first_chunk_asks_for_no_further_part(watched, call, at):
    make, asked, _ = watched
    with closing(make(STREAMS * PART).open_stream(call, at("key"))) as stream:
        assert next(stream)
    assert asked == []


def test_an_upload_without_spare_memory_has_16_mib_in_flight(watched, at, plant):
    make, _, gate = watched
    backend = make(0)
    gate.most = 0
    backend.save_stream(Call(Operation.SAVE_STREAM), at("streamed"), iter([bytes(MIB)] * 50))
    assert gate.most == 1
    backend.save(Call(Operation.SAVE), at("saved"), plant(bytes(SIZE)))
    assert gate.most <= 2


def test_an_upload_takes_no_memory_that_it_cannot_use(watched, call, at, plant):
    make, asked, gate = watched
    backend = make(6 * PART)
    gate.close(sys.maxsize)
    saving = threading.Thread(target=backend.save, args=(Call(Operation.SAVE), at("small"), plant(bytes(9 * MIB))))
    saving.start()
    assert gate.wait_for(1)
    with closing(backend.open_stream(call, at("key"))) as stream:
        next(stream)
        next(stream)
        assert eventually(lambda: len(asked) == 5)
    gate.until = 1
    saving.join()


# --- a store that names no versions ---------------------------------------------------------------------------

WITHOUT_VERSION = 256 * MIB


@contextmanager
def without_versions() -> Iterator[tuple[str, list[int]]]:
    """Run a server whose every object has 256 MiB and no ETag. Yield its address, and the sizes that it sent."""
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(WITHOUT_VERSION))
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.end_headers()
            block = bytes(MIB)
            try:
                for _ in range(WITHOUT_VERSION // MIB):
                    self.wfile.write(block)
                    sent.append(MIB)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, sent


def test_a_stream_of_an_object_without_a_version_is_never_held_as_a_whole(versitygw, call, at, backend_at):
    with without_versions() as (endpoint, sent):
        with closing(backend_at(versitygw, "bucket", endpoint=endpoint).open_stream(call, at("key"))) as stream:
            next(stream)
            next(stream)
        assert sum(sent) < WITHOUT_VERSION / 4
        sent.clear()
        assert sum(map(len, backend_at(versitygw, "bucket", endpoint=endpoint).open_stream(call, at("key")))) == (
            WITHOUT_VERSION
        )

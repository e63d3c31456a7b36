"""A program that begins uploads on eight threads and cancels each one after at most 6 ms, before it closes the stream.

    python cutter.py SOCKET CUTS SEED

It is a process of its own, because gRPC hides the fault that it looks for where client and server are one process
(docs/decisions/end-of-upload.md).
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator

import grpc

from sealgate.rpc import artifact_pb2 as pb

THREADS = 8
LONGEST = 0.006
"""Seconds from the begin of an upload until it is cancelled."""


def cut_uploads(socket: str, cuts: int, chance: random.Random) -> None:
    """Begin `cuts` uploads, one after the other, and cancel each of them."""
    channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.use_local_subchannel_pool", 1)])
    upload = channel.stream_unary("/artifact.ArtifactService/SaveStream")
    artifact = pb.Artifact(plugin=pb.PluginArtifact(name="sealgate", key="cut", configuration="{}"))
    for _ in range(cuts):
        sizes = [chance.choice([1, 1000, 300_000]) for _ in range(chance.randrange(4))]
        cut = threading.Event()

        def frames(sizes: list[int] = sizes, cut: threading.Event = cut) -> Iterator[bytes]:
            yield pb.SaveStreamArtifactRequest(output_artifact=artifact).SerializeToString()
            for size in sizes:
                yield pb.SaveStreamArtifactRequest(chunk=bytes(size)).SerializeToString()
            cut.wait()

        call = upload.future(frames())
        time.sleep(chance.random() * LONGEST)
        call.cancel()
        cut.set()
    channel.close()


def main() -> None:
    """Cut uploads as the arguments say."""
    socket, cuts, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    threads = [
        threading.Thread(target=cut_uploads, args=(socket, cuts // THREADS, random.Random(seed + number)))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

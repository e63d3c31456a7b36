"""How many streams may be open at once, and how long one may make no progress (docs/argo.md, "Slow readers").

A stream lasts as long as its caller wants to read or to send. Each one keeps a thread and a few buffers. So streams
have threads of their own, their number follows from the memory that this process may use, and one whose caller neither
takes nor sends anything for a while is ended.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from sealgate.call import Call, Operation
from sealgate.errors import Busy, Stalled
from sealgate.log_event import LogEvent

log = logging.getLogger("sealgate.call")

MOST_LARGE = 40
"""Streams that have moved more than `SMALL`, where the memory allows that many."""
MOST_SMALL = 4
"""Further streams that are carried out at once, until they are large or have ended. Others wait for their turn: while
it moves its first segment, a stream needs as much memory as a large one."""
SMALL = 1 << 20
"""Bytes that a stream may move before it needs the buffers of a large one."""
WINDOW = 1 << 20
"""Bytes that gRPC receives ahead on a connection, on both sockets."""
MOST_WAITING = 64
"""Streams that wait for their turn. One more is refused at once."""
MOST_WORK = 48
"""Calls that move or delete artifacts and are carried out at once, where memory is not limited. Each has one stream to
the downstream, and they share `layers.beside.MOST` more: together as many as a downstream of ours lets wait."""
MEMORY_OF_A_STREAM = 18 << 20
"""Bytes of a large stream whose reader takes it as fast as it can, in this process and in a downstream that is its
child (docs/decisions/slow-readers.md)."""
PLACES_OF_AN_UPLOAD = 2
"""How many places among the large streams a SaveStream takes where memory is scarce: with the bundled backend in this
process it costs up to 28 MiB."""
MEMORY_OF_THE_PROCESS = 96 << 20
"""Bytes that both processes need without calls."""
LONGEST_STALL, LONGEST_SILENCE = 120.0, 20.0
"""Seconds after which a stream ends: without a frame taken or sent, and without the first one."""
_CHECK_EVERY = 5.0


def stream_limit(memory: int | None) -> int:
    """Return how many large streams fit into `memory` bytes beside `MOST_SMALL` others; at least 2.

    A third of the memory is left for calls that move artifacts. Without a limit it is `MOST_LARGE`.
    """
    if memory is None:
        return MOST_LARGE
    return max(2, min(MOST_LARGE, _places(memory)))


def upload_places(memory: int | None) -> int:
    """Return how many places among the large streams a large SaveStream takes."""
    is_scarce = memory is not None and _places(memory) < PLACES_OF_AN_UPLOAD * MOST_LARGE
    return PLACES_OF_AN_UPLOAD if is_scarce else 1


def _places(memory: int) -> int:
    return (memory - MEMORY_OF_THE_PROCESS) * 2 // (3 * MEMORY_OF_A_STREAM) - MOST_SMALL


def spare_memory(memory: int | None) -> int | None:
    """Return how many of `memory` bytes all transfers of the bundled backend share to be faster; None for no limit.

    It is an eighth of what both processes leave. The parts that each stream has of its own are counted in
    `MEMORY_OF_A_STREAM`.
    """
    return None if memory is None else max(0, memory - MEMORY_OF_THE_PROCESS) // 8


class Streams:
    """The open streams of one server.

    Args:
        most_large: how many large ones may be open at once.
        longest_stall: see `LONGEST_STALL`.
        clock: as `time.monotonic`.
        upload_places: how many places a large SaveStream takes.
    """

    def __init__(
        self,
        most_large: int,
        longest_stall: float = LONGEST_STALL,
        clock: Callable[[], float] = time.monotonic,
        *,
        upload_places: int = 1,
    ) -> None:
        self._most_large = most_large
        self._upload_places = upload_places
        self._large = 0
        self._longest_stall = longest_stall
        self._clock = clock
        self._lock = threading.Lock()
        self._open: set[OpenStream] = set()
        self._watching = False

    @contextlib.contextmanager
    def open(self, call: Call, cancel: Callable[[], object]) -> Iterator[OpenStream]:
        """Take a place among the open streams. It is small until `OpenStream.moves` says otherwise.

        Args:
            call: the call that the stream belongs to.
            cancel: ends its RPC from another thread.
        """
        places = self._upload_places if call.operation is Operation.SAVE_STREAM else 1
        stream = OpenStream(call, cancel, self._clock, lambda: self._require_large(places))
        with self._lock:
            self._open.add(stream)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="sealgate-streams", daemon=True).start()
        try:
            yield stream
        finally:
            with self._lock:
                self._open.discard(stream)
                self._large -= places * stream.is_large

    def _require_large(self, places: int) -> None:
        with self._lock:
            if self._large + places > self._most_large:
                uploads = f", and a large upload counts as {self._upload_places}" if self._upload_places > 1 else ""
                raise Busy(
                    f"the memory of this process allows no more than {self._most_large} large streams at once{uploads}",
                    remedy="Try again, or give the container more memory",
                )
            self._large += places

    def end_stalled(self) -> None:
        """End every stream that has made no progress for too long."""
        with self._lock:
            stalled = [(one, limit) for one in self._open if one.idle() > (limit := self._limit_of(one))]
        for stream, limit in stalled:
            fact = f"the caller neither took nor sent anything for {limit:g} s"
            stream.end(Stalled(fact, remedy="Read or send without long pauses"))

    def _limit_of(self, stream: OpenStream) -> float:
        silent = not stream.has_moved and stream.receives
        return min(LONGEST_SILENCE, self._longest_stall) if silent else self._longest_stall

    def _watch(self) -> None:
        while True:
            time.sleep(_CHECK_EVERY)
            self.end_stalled()
            with self._lock:
                if not self._open:
                    self._watching = False
                    return


class OpenStream:
    """One open stream."""

    def __init__(
        self,
        call: Call,
        cancel: Callable[[], object],
        clock: Callable[[], float],
        require_large: Callable[[], None],
    ) -> None:
        self._require_large = require_large
        self._moved = 0
        self.is_large = False
        self._call = call
        self._cancel = cancel
        self._clock = clock
        self.receives = call.operation is Operation.SAVE_STREAM
        self._waiting_since: float | None = None

    @property
    def has_moved(self) -> bool:
        """Whether the caller has taken or sent a byte."""
        return self._moved > 0

    def idle(self) -> float:
        """Return for how many seconds this process has waited for the caller; 0 while the caller waits for it."""
        since = self._waiting_since
        return 0.0 if since is None else self._clock() - since

    def moves(self, size: int) -> None:
        """Note that `size` bytes are about to be sent, or have been received.

        Raises:
            Busy: the stream becomes large, and the memory allows no further large one.
        """
        self._moved += size
        if not self.is_large and self._moved > SMALL:
            self._require_large()
            self.is_large = True

    def waits(self) -> None:
        """Note that only the caller can continue now: it has to take or to send a frame."""
        self._waiting_since = self._clock()

    def progress(self) -> None:
        """Note that the caller has taken or sent a frame."""
        self._waiting_since = None

    def end(self, reason: Stalled) -> None:
        """End the stream's RPC. The call reports `reason`."""
        log.warning(
            LogEvent("stream ended", operation=self._call.operation, reason=reason.fact, decision_id=self._call.id)
        )
        self._call.end(reason)
        self._cancel()

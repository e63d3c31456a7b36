"""Runs the requests of one call on an event loop, so that the end of the call ends those that are under way."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from queue import Empty, Full, LifoQueue
from typing import Any, Self, TypeVar

from sealgate.call import Call

T = TypeVar("T")
_LAST_STEPS = 0.05
"""Seconds. A thread of the library still needs the interpreter for a moment after it has delivered a result. If the
interpreter has ended then, the process aborts: 8 of 30 that ended right after a stream did so, and none of 100 with
this wait."""
_LATE = 0.001
"""Seconds. A timer may fire a little too early, and `Call.check` would then not raise."""
_KEPT = LifoQueue[asyncio.Runner](2)
"""Event loops that no call uses. To make and to close one takes 0.1 ms, which counts with 10,000 small objects. One
has three descriptors."""


def run(call: Call, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end. When the call ends, so does `work`, and each request that it waits for.

    Raises:
        PluginError: `work` raised it, or the call ended.
    """
    if _runs_loop():  # as where an upload reads another object: a thread can run only one
        with Background(call) as requests:
            return requests.begin(work)()
    with _loop() as runner:
        return runner.run(_until_the_end(call, work), context=copy_context())


@contextmanager
def _loop() -> Iterator[asyncio.Runner]:
    """Yield an event loop for one use. It is kept for the next one if the body succeeds, and so leaves no tasks."""
    try:
        runner = _KEPT.get_nowait()
    except Empty:
        runner = asyncio.Runner()
        Context().run(runner.get_loop)  # else the loop would keep the context of this call as long as it exists
    try:
        yield runner
    except BaseException:
        runner.close()
        raise
    try:
        _KEPT.put_nowait(runner)
    except Full:
        runner.close()


def _close_kept() -> None:
    with suppress(Empty):
        while True:
            _KEPT.get_nowait().close()


def _runs_loop() -> bool:
    """Return whether this thread runs an event loop."""
    with suppress(RuntimeError):
        return bool(asyncio.get_running_loop())
    return False


atexit.register(_close_kept)
atexit.register(time.sleep, _LAST_STEPS)  # runs first


class Background:
    """A thread on which work goes on while the caller does something else. The end of the context ends all work.

    Args:
        call: the call that the work is for. Its end ends the work, too.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="backend", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def begin(self, work: Coroutine[Any, Any, T]) -> Callable[[], T]:
        """Begin `work`, and return a function that waits for its result."""
        future = asyncio.run_coroutine_threadsafe(_until_the_end(self._call, work), self._loop)

        def result() -> T:
            try:
                return future.result()
            except CancelledError:
                self._call.check()
                raise

        return result


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _until_the_end(call: Call, work: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

    def end() -> None:
        if not task.cancelling():  # a second time would end what the task does at its end
            task.cancel()

    def end_from_outside() -> None:
        with suppress(RuntimeError):  # the loop is closed, because the task has just ended
            loop.call_soon_threadsafe(end)

    call.on_cancel(end_from_outside)
    remaining = call.remaining()
    timer = None if remaining is None else loop.call_later(remaining + _LATE, end)
    try:
        return await task
    except asyncio.CancelledError:
        end()
        await asyncio.gather(task, return_exceptions=True)
        call.check()
        raise
    finally:
        call.forget(end_from_outside)
        if timer:
            timer.cancel()


async def each_at_once(work: Callable[[T], Awaitable[object]], items: Iterator[T], most: int) -> None:
    """Call `work` on every item, on at most `most` at a time.

    An item is taken only when its work begins. After a failure no other is taken. Those that have begun end first, so
    that whoever removes what was stored finds all of it; then the failure is raised.
    """
    failures: list[BaseException] = []

    async def worker() -> None:
        try:
            while not failures:
                try:
                    item = next(items)
                except StopIteration:
                    return
                await work(item)
        except BaseException as failure:
            failures.append(failure)
            raise

    workers = [asyncio.ensure_future(worker()) for _ in range(most)]
    try:
        await asyncio.wait(workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    if failures:
        raise failures[0]

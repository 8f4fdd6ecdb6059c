"""Asynchronous twins: the same iterator, moved on by a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["off_thread"]

Item = TypeVar("Item")


def _close(made: Future[Iterator[Item]]) -> None:
    if made.exception() is None and (close := getattr(made.result(), "close", None)) is not None:
        close()


async def off_thread(make: Callable[[], Iterator[Item]]) -> AsyncIterator[Item]:
    """Yield an iterator's items without blocking the event loop.

    Opening, reading and closing all happen in one worker thread. When the caller leaves early, an iterator with a
    `stop()` is told to end, so that a wait for the next item cannot hold up the leaving.
    """
    import asyncio  # here, because most programs never come here and it takes its time to load
    from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.get_running_loop()
    worker = ThreadPoolExecutor(1, thread_name_prefix="emert-async")
    end = object()
    made = worker.submit(make)
    try:
        iterator = await asyncio.shield(asyncio.wrap_future(made))
    except BaseException:  # also where nobody waits any more: what is being opened is closed in its turn
        worker.submit(_close, made)
        worker.shutdown(wait=False)
        raise
    try:
        while (item := await loop.run_in_executor(worker, next, iterator, end)) is not end:
            yield item  # type: ignore[misc]
    finally:
        if (stop := getattr(iterator, "stop", None)) is not None:
            stop()
        if (close := getattr(iterator, "close", None)) is not None:
            await asyncio.shield(loop.run_in_executor(worker, close))
        worker.shutdown(wait=False)

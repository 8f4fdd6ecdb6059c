"""Asynchronous twins: the same iterator, moved on by a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

__all__ = ["off_thread"]

Item = TypeVar("Item")


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
    iterator = await loop.run_in_executor(worker, make)
    try:
        while (item := await loop.run_in_executor(worker, next, iterator, end)) is not end:
            yield item  # type: ignore[misc]
    finally:
        if (stop := getattr(iterator, "stop", None)) is not None:
            stop()
        if (close := getattr(iterator, "close", None)) is not None:
            await asyncio.shield(loop.run_in_executor(worker, close))
        worker.shutdown(wait=False)

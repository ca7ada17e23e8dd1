"""Many calls at once, but not too many; the results in order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Result = TypeVar("Result")


def call_bounded(
    call: Callable[[int], Result],
    count: int,
    *,
    at_once: int,
    on_done: Callable[[int], None] | None = None,
    on_failure: Callable[[], None],
) -> list[Result]:
    """``[call(0), ..., call(count - 1)]``, at most ``at_once`` of them at a time, each in a thread.

    ``on_done`` is told, in the calling thread, how many are done. The first exception ends it all: calls that wait are
    dropped, ``on_failure`` is to make those under way end soon, and the exception is raised once they have.
    """
    with ThreadPoolExecutor(max_workers=max(1, min(at_once, count)), thread_name_prefix="sft-generation") as pool:
        futures = [pool.submit(call, position) for position in range(count)]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                if on_done is not None:
                    on_done(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            on_failure()
            raise
    return [future.result() for future in futures]

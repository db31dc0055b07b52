"""Work on a stream of items in threads: it pays where NumPy, which lets other threads run meanwhile, does the work.

In: a function of one item, and items.  Out: what they return, in the items' order.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """`work(item)` for each item, by so many threads; a few items and results are held.

    One worker is the caller's own thread.
    """
    _keep_freed_memory()
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as threads:
        pending = deque[Future[Result]]()
        for item in items:
            pending.append(threads.submit(work, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _keep_freed_memory() -> None:
    """Have the C library keep memory that is freed, some 60 MB, for the next arrays.

    Handing it back and forth takes a tenth of the time, and threads wait for each other meanwhile. glibc keeps as much
    as twice the largest array that it has seen freed, up to 32 MB (mallopt(3), M_MMAP_THRESHOLD); others do not mind.
    """
    np.empty(31 << 20, np.uint8)

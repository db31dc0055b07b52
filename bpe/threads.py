"""Work on a stream of items in threads: it pays where NumPy, which lets other threads run meanwhile, does the work.

In: workers, which are functions of one item, and items.  Out: what they return, in the items' order.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(workers: Sequence[Callable[[Item], Result]], items: Iterable[Item]) -> Generator[Result, None, None]:
    """`worker(item)` for each item, by any of the workers; each has one item at a time, and a few items are held.

    One worker works in the caller's own thread.
    """
    if len(workers) == 1:
        yield from map(workers[0], items)
        return
    _keep_freed_memory()
    idle = SimpleQueue[Callable[[Item], Result]]()
    for worker in workers:
        idle.put(worker)

    def work(item: Item) -> Result:
        worker = idle.get()
        try:
            return worker(item)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(len(workers)) as threads:
        pending = deque[Future[Result]]()
        for item in items:
            pending.append(threads.submit(work, item))
            if len(pending) > 2 * len(workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _keep_freed_memory() -> None:
    """Have the C library keep memory that is freed, some 60 MB, for the next arrays.

    Handing it back and forth is slow, and threads wait for each other in the system meanwhile. glibc keeps as much as
    twice the largest array that it has seen freed, up to 32 MB (mallopt(3), M_MMAP_THRESHOLD); others do not mind.
    """
    np.empty(31 << 20, np.uint8)

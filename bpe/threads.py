"""Work on a stream of items in threads: it pays where NumPy, which lets other threads run meanwhile, does the work.

In: a function of one item, and items.  Out: what they return, in the items' order.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bpe.freed_memory import keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """`work(item)` for each item, by so many threads; a few items and results are held.

    One worker is the caller's own thread.
    """
    keep_freed_memory()
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

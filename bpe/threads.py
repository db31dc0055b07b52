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

HELD = 4  # items and results for each thread, at most, that wait for an earlier result


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """`work(item)` for each item, by so many threads, of which the caller's is one; a few items and results are held.

    A caller that only waited would have to be woken for each result, and Python lets one thread run at a time.
    """
    keep_freed_memory()
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers - 1) as others:
        results = deque[tuple[Item, Future[Result]]]()  # in order, and what each is of
        for item in items:
            not_begun = sum(not result.running() and not result.done() for _, result in results)
            results.append((item, others.submit(work, item) if not_begun < workers - 1 else _done_here(work, item)))
            while results and (results[0][1].done() or len(results) > HELD * workers):
                yield results.popleft()[1].result()
        for place in reversed(range(len(results))):  # from the end: the others take the first one next
            item, result = results[place]
            if result.cancel():  # it was not begun
                results[place] = item, _done_here(work, item)
        yield from (result.result() for _, result in results)


def _done_here(work: Callable[[Item], Result], item: Item) -> Future[Result]:
    """What the caller's own thread makes of an item; what it raises, too, waits for its turn."""
    result = Future[Result]()
    try:
        result.set_result(work(item))
    except Exception as error:
        result.set_exception(error)
    return result

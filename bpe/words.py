"""Counting the words of a corpus.

In: texts, one at a time, and how to split them.  Out: every distinct word as bytes, with how often it occurs.

A small corpus is counted here; beyond that, worker processes (bpe/workers.py) share the work.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

from bpe.errors import BPEError
from bpe.progress import progress_bar
from bpe.split import Splitter
from bpe.workers import Worker

COUNTED_HERE = 1 << 24  # characters, a second or two of work; for less, starting workers would not pay


def count_words(texts: Iterable[str], splitter: Splitter, workers: int | None = None) -> dict[bytes, int]:
    """How often each word (piece of the split) occurs in `texts`, of which one at a time is held in memory.

    workers: processes that share the work on a large corpus, None for one per core; the counts are the same.
    Raises BPEError for a text with a lone surrogate.
    """
    workers = workers or os.cpu_count() or 1
    counts = Counter[str]()
    counted = 0
    stream = _checked(texts)
    for text in stream:
        counts.update(splitter.pieces(text))
        counted += len(text)
        if workers > 1 and counted >= COUNTED_HERE:
            for part in _counts_of_workers(stream, splitter.source, workers):
                counts.update(part)
    return {word.encode(): times for word, times in counts.items()}


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """The texts, with a progress bar. Raises BPEError for one with a lone surrogate."""
    with progress_bar(description="counting words", unit="char", unit_scale=True) as bar:
        for text in texts:
            with naming_lone_surrogates(text):
                text.encode()
            yield text
            bar.update(len(text))


@contextlib.contextmanager
def naming_lone_surrogates(text: str) -> Iterator[None]:
    """Make of an UnicodeEncodeError within the block a BPEError that names the position in `text`."""
    try:
        yield
    except UnicodeEncodeError:
        position = next(place for place, letter in enumerate(text) if "\ud800" <= letter <= "\udfff")
        raise BPEError(
            f"the text has a lone surrogate (U+{ord(text[position]):04X}) at position {position}, and UTF-8 has no "
            'bytes for it; replace it first, as text.encode("utf-8", "replace").decode() does'
        ) from None


def _counts_of_workers(texts: Iterator[str], pattern: str, workers: int) -> Iterator[Counter[str]]:
    """The counts of each of `workers` processes, which take the texts in turn."""
    with contextlib.ExitStack() as stack:
        team = [stack.enter_context(Worker(count_pieces)) for _ in range(workers)]
        for worker in team:
            worker.send(pattern)
        for worker, text in zip(cycle(team), texts, strict=False):  # a busy worker's full pipe makes this wait
            worker.send(text)
        for worker in team:
            worker.send_no_more()
        for worker in team:
            yield worker.receive()


def count_pieces(messages: Iterator[Any]) -> Iterator[Counter[str]]:
    """A worker's work. In: a split pattern, then texts.  Out, at their end: how often each piece occurs in them."""
    splitter = Splitter(next(messages))
    counts = Counter[str]()
    for text in messages:
        counts.update(splitter.pieces(text))
    yield counts

"""Counting the words of a corpus.

In: texts, a few at a time, and how to split them.  Out: every distinct word as bytes, with how often it occurs.

By definition every text is split into its words, which are counted. Where the split pattern allows it, the stretches
between certain cuts are counted instead (bpe/stretches.py), and each distinct one is split at the end, once.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from bpe.cuts import BLOCK, Cuts, cuts_of, is_one_piece
from bpe.errors import BPEError
from bpe.split import Splitter
from bpe.stretches import CAPACITY, Stretches
from bpe.text_blocks import Block, joined, text_blocks
from bpe.threads import in_threads

BLOCK_OF_THREADS = 3 << 18  # characters: threads wait for each other at every call into NumPy


def count_words(texts: Iterable[str], splitter: Splitter, workers: int | None = None) -> dict[bytes, int]:
    """How often each word (piece of the split) occurs in `texts`, of which few at a time are held in memory.

    workers: threads, None for one per core; the counts are the same. Raises BPEError for a text with a lone surrogate.
    """
    words, workers = Counter[str](), workers or os.cpu_count() or 1
    cuts = cuts_of(splitter.source)
    if cuts is None:
        for text in texts:
            _check(text)
            words.update(splitter.pieces(text))
        return {word.encode(): times for word, times in words.items()}

    def checked() -> Iterator[str]:
        for text in texts:
            _check(text)
            yield text

    size = BLOCK if workers == 1 else BLOCK_OF_THREADS
    blocks = (block.utf8() for some in text_blocks(checked(), cuts, size) for block in some)
    counter = _StretchCounter(cuts)
    for full in in_threads(counter.count, blocks, workers):
        _add_words(words, full, splitter)
    _add_words(words, counter.counts(), splitter)
    return {word.encode(): times for word, times in words.items()}


class _StretchCounter:
    """Counts the stretches of blocks; several threads may do so at once."""

    def __init__(self, cuts: Cuts) -> None:
        self._cuts = cuts
        self._adding = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._stretches = Stretches()
        self._times = np.zeros(1, np.int64)

    def count(self, block: Block) -> dict[bytes, int]:
        """Count one more block. Out: the counts so far, if there are so many that they are given up here; else none."""
        text, between = joined(block)
        places = self._cuts.places(text, between)
        stretches = self._stretches
        numbers = stretches.numbers(text, places)
        with self._adding:
            if stretches is not self._stretches:  # they were given up meanwhile
                numbers = self._stretches.numbers(text, places)
            times = np.bincount(numbers, minlength=len(self._times))
            times[: len(self._times)] += self._times
            self._times = times
            if self._stretches.size <= CAPACITY:
                return {}
            counts = self.counts()
            self._forget()
            return counts

    def counts(self) -> dict[bytes, int]:
        """How often each stretch occurred."""
        known, times = self._stretches.known, self._times.tolist()
        return dict(zip(known[1 : len(times)], times[1:], strict=True))


def _add_words(words: Counter[str], stretches: dict[bytes, int], splitter: Splitter) -> None:
    """Count the words of stretches."""
    for stretch, times in stretches.items():
        text = stretch.decode()
        for word in [text] if is_one_piece(stretch) else splitter.pieces(text):
            words[word] += times


def _check(text: str) -> None:
    """Raises BPEError for a lone surrogate."""
    with naming_lone_surrogates(text):
        text.encode()


@contextlib.contextmanager
def naming_lone_surrogates(text: str) -> Iterator[None]:
    """Turn a UnicodeEncodeError within the block into a BPEError that names the position in `text`."""
    try:
        yield
    except UnicodeEncodeError:
        position = next(place for place, letter in enumerate(text) if "\ud800" <= letter <= "\udfff")
        raise BPEError(
            f"the text has a lone surrogate (U+{ord(text[position]):04X}) at position {position}, and UTF-8 has no "
            'bytes for it; replace it first, as text.encode("utf-8", "replace").decode() does'
        ) from None

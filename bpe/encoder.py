"""Text without special tokens -> ids.

In: a vocabulary, and text.  Out: the ids.

`Encoder.plain` is the definition, word for word: split, then merge each piece. `Encoder.encode` gives the same ids, and
for long text in blocks (bpe/block_encoder.py), where the split pattern allows it; other processes may take a part.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from bpe.block_encoder import BlockEncoder, Ids
from bpe.cuts import BLOCK, LONG, TOGETHER, Cuts, cuts_of
from bpe.freed_memory import keep_freed_memory
from bpe.helpers import HelperLostError, Helpers
from bpe.new_stretches import IdsOfPieces, NewStretches
from bpe.split import Splitter
from bpe.vocabulary import FIRST_MERGE_ID, Vocabulary

SHARED = 1 << 22  # characters, at least, for a process: less is done before another has begun


class Encoder:
    """Encodes text in which no special token is looked for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.dtype: np.dtype[np.uint16 | np.uint32] = np.dtype(np.uint16 if vocabulary.size <= 1 << 16 else np.uint32)
        self._splitter = Splitter(vocabulary.pattern)
        self._ids = IdsOfPieces({pair: id for id, pair in enumerate(vocabulary.merges, FIRST_MERGE_ID)})
        self._helpers = Helpers(_block_encoder, vocabulary)
        self._cuts = cuts_of(vocabulary.pattern)
        new_stretches = NewStretches(self._splitter, self._ids)
        self._blocks = BlockEncoder(self._cuts, new_stretches.ids, self.dtype) if self._cuts else None

    def plain(self, text: str) -> Iterator[int]:
        """The ids, by the definition."""
        return chain.from_iterable(map(self._ids.__getitem__, self._splitter.pieces(text)))

    def encode(self, text: str, workers: int = 1) -> Ids:
        """The ids, fast. workers: processes that share a long text. Raises UnicodeEncodeError for a lone surrogate."""
        if self._cuts is None or self._blocks is None or len(text) < LONG:
            return np.fromiter(self.plain(text), self.dtype)
        keep_freed_memory()
        size = max(-(-len(text) // workers), SHARED)
        mine, *others = (_Part(text, part, self._cuts) for part in self._cuts.blocks(text, size))
        stop = threading.Event()
        with ThreadPoolExecutor(workers) as threads:  # these cut, ask other processes, and wait
            try:
                asked = [threads.submit(self._encode_elsewhere, part, stop) for part in others]
                ids = [self._blocks.encode(some) for some in mine]
                for part in asked:
                    ids += part.result()
            finally:
                stop.set()  # at Ctrl-C, for one
        return np.concatenate([*chain.from_iterable(ids)])

    def _encode_elsewhere(self, part: "_Part", stop: threading.Event) -> list[list[Ids]]:
        """The ids of a part of a text, by another process."""
        assert self._blocks
        ids = list[list[Ids]]()
        encode: Callable[[list[bytes]], list[Ids]] = self._helpers.ask
        for some in map(list[bytes], part):
            if stop.is_set():
                break
            try:
                ids.append(encode(some))
            except HelperLostError:  # the rest of the part is done here: that takes time, and nothing else
                encode = self._blocks.encode
                ids.append(encode(some))
        return ids


@dataclass(frozen=True)
class _Part:
    """A part of a text, as the blocks of UTF-8 that are encoded together."""

    text: str
    part: slice
    cuts: Cuts

    def __iter__(self) -> Iterator[Iterator[bytes]]:
        blocks = self.cuts.blocks(self.text, BLOCK, self.part)
        while together := [*islice(blocks, TOGETHER)]:
            yield (self.text[block].encode() for block in together)


def _block_encoder(vocabulary: Vocabulary) -> Callable[[list[bytes]], list[Ids]]:
    """What encodes blocks, made anew in another process."""
    blocks = Encoder(vocabulary)._blocks
    assert blocks
    return blocks.encode

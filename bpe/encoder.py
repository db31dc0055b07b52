"""Text without special tokens -> ids.

In: a vocabulary, and text.  Out: the ids.

`Encoder.plain` is the definition, word for word: split, then merge each piece. `Encoder.encode` gives the same ids, and
for long text in blocks (bpe/block_encoder.py), where the split pattern allows it.
"""

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from bpe.block_encoder import BlockEncoder, Ids
from bpe.cuts import LONG, THREADED, TOGETHER, cuts_of
from bpe.new_stretches import IdsOfPieces, NewStretches
from bpe.split import Splitter
from bpe.threads import in_threads
from bpe.vocabulary import FIRST_MERGE_ID, Vocabulary


class Encoder:
    """Encodes text in which no special token is looked for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.dtype: np.dtype[np.uint16 | np.uint32] = np.dtype(np.uint16 if vocabulary.size <= 1 << 16 else np.uint32)
        self._splitter = Splitter(vocabulary.pattern)
        self._ids = IdsOfPieces({pair: id for id, pair in enumerate(vocabulary.merges, FIRST_MERGE_ID)})
        self._cuts = cuts_of(vocabulary.pattern)
        new_stretches = NewStretches(self._splitter, self._ids)
        self._blocks = BlockEncoder(self._cuts, new_stretches.ids, self.dtype) if self._cuts else None

    def plain(self, text: str) -> Iterator[int]:
        """The ids, by the definition."""
        return chain.from_iterable(map(self._ids.__getitem__, self._splitter.pieces(text)))

    def encode(self, text: str, workers: int = 1) -> Ids:
        """The ids, fast. workers: threads. Raises UnicodeEncodeError for a lone surrogate."""
        if self._cuts is None or self._blocks is None or len(text) < LONG:
            return np.fromiter(self.plain(text), self.dtype)
        blocks = self._cuts.blocks(text.encode(), workers)
        together = TOGETHER if workers == 1 else TOGETHER // THREADED
        some_blocks = iter(lambda: [*islice(blocks, together)], [])
        return np.concatenate([*chain.from_iterable(in_threads(self._blocks.encode, some_blocks, workers))])

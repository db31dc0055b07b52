"""Text without special tokens -> ids.

In: a vocabulary, and text.  Out: the ids.

`Encoder.plain` is the definition, word for word: split, then merge each piece. `Encoder.encode` gives the same ids, and
for long text in blocks (bpe/block_encoder.py), where the split pattern allows it.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy as np

from bpe.block_encoder import BlockEncoder, Ids
from bpe.cuts import LONG, cuts_of, is_one_piece
from bpe.many_pieces import ManyPieces
from bpe.merging import merge_piece
from bpe.pairs import Pair
from bpe.rows import Numbers
from bpe.split import Splitter
from bpe.threads import in_threads
from bpe.vocabulary import FIRST_MERGE_ID, Vocabulary

CACHED_PIECES = 1 << 18  # of at most CACHED_LENGTH characters: some 60 MB when full
CACHED_LENGTH = 64


class Encoder:
    """Encodes text in which no special token is looked for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.dtype: np.dtype[np.uint16 | np.uint32] = np.dtype(np.uint16 if vocabulary.size <= 1 << 16 else np.uint32)
        self._splitter = Splitter(vocabulary.pattern)
        self._ids = _IdsOfPieces({pair: id for id, pair in enumerate(vocabulary.merges, FIRST_MERGE_ID)})
        self._cuts = cuts_of(vocabulary.pattern)
        self._blocks = BlockEncoder(self._cuts, self._ids_of_stretches, self.dtype) if self._cuts else None

    def plain(self, text: str) -> Iterator[int]:
        """The ids, by the definition."""
        return chain.from_iterable(map(self._ids.__getitem__, self._splitter.pieces(text)))

    def encode(self, text: str, workers: int = 1) -> Ids:
        """The ids, fast. workers: threads. Raises UnicodeEncodeError for a lone surrogate."""
        if self._cuts is None or self._blocks is None or len(text) < LONG:
            return np.fromiter(self.plain(text), self.dtype)
        return np.concatenate(list(in_threads(self._blocks.encode, self._cuts.blocks(text), workers)))

    def _ids_of_stretches(self, stretches: Sequence[bytes]) -> tuple[Numbers, Numbers]:
        cut = [
            [stretch] if is_one_piece(stretch) else [*map(str.encode, self._splitter.pieces(stretch.decode()))]
            for stretch in stretches
        ]
        ids, lengths = self._many_pieces.ids([*chain.from_iterable(cut)])
        stops = np.cumsum([*map(len, cut)])
        return ids, np.add.reduceat(lengths, np.append(0, stops[:-1]))

    @cached_property
    def _many_pieces(self) -> ManyPieces:
        return ManyPieces(self._ids.new_ids)


class _IdsOfPieces(dict[str, tuple[int, ...]]):
    """The ids of pieces of text, each worked out when first asked for; as a dict, it answers without running Python."""

    def __init__(self, new_ids: dict[Pair, int]) -> None:
        super().__init__()
        self.new_ids = new_ids

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = tuple(merge_piece(piece.encode(), self.new_ids))
        if len(piece) <= CACHED_LENGTH:
            if len(self) >= CACHED_PIECES:
                self.clear()
            self[piece] = ids
        return ids

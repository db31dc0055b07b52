"""The ids of stretches that are met for the first time.

In: stretches of text between certain cuts, as UTF-8.  Out: their ids, by the definition: split, then merge each piece.

A stretch that is a word is a piece that was not met before, at least not by itself, and so many words are merged at
once. Other stretches, such as a phrase in Cyrillic letters, are made of pieces that may be known: new ones are merged.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain, compress, islice

import numpy as np

from bpe.cuts import is_one_piece
from bpe.many_pieces import ManyPieces
from bpe.merging import merge_piece
from bpe.pairs import Pair
from bpe.rows import Numbers
from bpe.split import Splitter

AT_ONCE = 1 << 11  # stretches: what is made of so many and dropped again stays in the cache, and garbage is found soon
CACHED_PIECES = 1 << 18  # of at most CACHED_LENGTH characters: some 60 MB when full
CACHED_LENGTH = 64


class IdsOfPieces(dict[str, tuple[int, ...]]):
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


class NewStretches:
    """Works out ids. known: of pieces; it is asked, and learns."""

    def __init__(self, splitter: Splitter, known: IdsOfPieces) -> None:
        self._splitter, self._known = splitter, known

    @cached_property
    def _many_pieces(self) -> ManyPieces:
        return ManyPieces(self._known.new_ids)

    def ids(self, stretches: Sequence[bytes]) -> tuple[Numbers, Numbers]:
        """The ids of the stretches, all in one array, and how many each stretch has."""
        parts = [self._ids(stretches[start : start + AT_ONCE]) for start in range(0, max(1, len(stretches)), AT_ONCE)]
        ids, lengths = zip(*parts, strict=True)
        return np.concatenate(ids), np.concatenate(lengths)

    def _ids(self, stretches: Sequence[bytes]) -> tuple[Numbers, Numbers]:
        is_word = np.array([*map(is_one_piece, stretches)])
        words = [*compress(stretches, is_word.tolist())]
        others = [[*self._splitter.pieces(stretch.decode())] for stretch in compress(stretches, (~is_word).tolist())]
        new = self._to_learn(others)
        merged, sizes = self._many_pieces.ids([*words, *map(str.encode, new)])
        ids_of_words, sizes_of_words = merged[: sizes[: len(words)].sum()], sizes[: len(words)]
        self._learn(new, merged[len(ids_of_words) :].tolist(), sizes[len(words) :].tolist())

        rows = [[*chain.from_iterable(map(self._known.__getitem__, pieces))] for pieces in others]
        lengths = np.empty(len(stretches), np.int64)
        lengths[is_word], lengths[~is_word] = sizes_of_words, [*map(len, rows)]
        in_word = np.repeat(is_word, lengths)
        ids = np.empty(len(in_word), np.int64)
        ids[in_word], ids[~in_word] = ids_of_words, [*chain.from_iterable(rows)]
        return ids, lengths

    def _to_learn(self, others: Sequence[Sequence[str]]) -> list[str]:
        """The pieces that are not known; all of them, as many as there is room for, where room has to be made."""
        pieces = [piece for piece in dict.fromkeys(chain.from_iterable(others)) if len(piece) <= CACHED_LENGTH]
        new = [piece for piece in pieces if piece not in self._known]
        if len(self._known) + len(new) <= CACHED_PIECES:
            return new
        self._known.clear()
        return pieces[:CACHED_PIECES]

    def _learn(self, new: Sequence[str], ids: Sequence[int], sizes: Sequence[int]) -> None:
        rest = iter(ids)
        self._known.update({piece: tuple(islice(rest, size)) for piece, size in zip(new, sizes, strict=True)})

"""Merging many pieces at once, with NumPy.

In: pieces of text.  Out: their ids, the same as piece by piece (bpe/merging.py).

The pieces stand side by side, each in a column of a table, a byte to a row. One round merges one pair in every column,
the one that was learned first, of equals the topmost, and there are rounds until no column has a pair that merges:

    t  h  a          th h  at         the h  at
    h  e  t    ──>   ·  e  ·    ──>   ·   e  ·        each token stays where its first byte was
    e                e                ·
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from bpe.key_table import NONE, KeyTable
from bpe.merging import merge_piece
from bpe.pair_table import keys_of
from bpe.pairs import Pair
from bpe.rows import Numbers

AT_ONCE = 1 << 11  # pieces in a table: it fits a core's cache
WIDEST = 16  # bytes of a piece in a table: nearly all have less, and each more is a row for all
FEW = 100  # pieces, for which a table is not worth it

BOUNDARY = -1  # stands above and below each piece, and where a token was that is now part of the one before it
NO_MERGE = np.iinfo(np.int64).max
_ROW_BITS = (WIDEST + 2).bit_length()
_ROW = (1 << _ROW_BITS) - 1


class ManyPieces:
    """Merges pieces. new_ids: the id that each pair merges into, in the order they were learned."""

    def __init__(self, new_ids: Mapping[Pair, int]) -> None:
        self._new_ids = new_ids

    @cached_property
    def _merges(self) -> KeyTable:
        """Numbers the pairs."""
        pairs = np.fromiter(chain.from_iterable(self._new_ids), np.int64, 2 * len(self._new_ids))
        merges = KeyTable()
        merges.add(keys_of(pairs[::2], pairs[1::2]).view(np.uint64))
        return merges

    @cached_property
    def _made(self) -> Numbers:
        """What the merge of each number makes."""
        return np.array([BOUNDARY, *self._new_ids.values()])

    def ids(self, pieces: Sequence[bytes]) -> tuple[Numbers, Numbers]:
        """The ids of the pieces, all in one array, and how many each piece has."""
        parts = [self._ids(pieces[start : start + AT_ONCE]) for start in range(0, max(1, len(pieces)), AT_ONCE)]
        ids, lengths = zip(*parts, strict=True)
        return np.concatenate(ids), np.concatenate(lengths)

    def _ids(self, pieces: Sequence[bytes]) -> tuple[Numbers, Numbers]:
        widest = WIDEST if len(pieces) >= FEW else 0
        alone = [number for number, piece in enumerate(pieces) if len(piece) > widest]
        table = _table([piece if len(piece) <= widest else b"" for piece in pieces])
        tokens = self._merged(table).T
        kept = tokens != BOUNDARY
        ids, lengths = tokens[kept], kept.sum(axis=1)
        if alone:
            rows = [merge_piece(pieces[number], self._new_ids) for number in alone]
            places = np.cumsum(lengths)[alone]
            lengths[alone] = [*map(len, rows)]
            ids = np.insert(ids, np.repeat(places, lengths[alone]), [*chain.from_iterable(rows)])
        return ids, lengths

    def _merged(self, table: Numbers) -> Numbers:
        """The table, (rows, pieces), when all merges are made."""
        (rows, columns), tokens = table.shape, table.ravel()
        places = np.arange(len(tokens))
        before, after = places - columns, places + columns
        orders = np.full(len(tokens), NO_MERGE)  # for each token: when its pair with the next one is merged
        pairs = np.flatnonzero((tokens[:-columns] != BOUNDARY) & (tokens[columns:] != BOUNDARY))
        orders[pairs] = self._orders(tokens[pairs], tokens[pairs + columns], pairs // columns)
        while True:
            earliest = orders.reshape(rows, columns).min(axis=0)
            going_on = np.flatnonzero(earliest != NO_MERGE)
            if not len(going_on):
                return tokens.reshape(rows, columns)
            earliest = earliest[going_on]
            places = (earliest & _ROW) * columns + going_on
            followers = after[places]
            tokens[places], tokens[followers] = self._made[earliest >> _ROW_BITS], BOUNDARY
            orders[followers] = NO_MERGE
            after[places], before[after[followers]] = after[followers], places
            changed = np.concatenate([before[places], places])
            orders[changed] = self._orders(tokens[changed], tokens[after[changed]], changed // columns)

    def _orders(self, firsts: Numbers, seconds: Numbers, rows: Numbers) -> Numbers:
        """One number for each pair, made of its merge and its row: the smaller, the sooner it is merged."""
        merges = self._merges.find(keys_of(firsts, seconds).view(np.uint64))
        return np.where(merges == NONE, NO_MERGE, merges << _ROW_BITS | rows)


def _table(pieces: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """The bytes of pieces, (rows, pieces), with BOUNDARY above and below each."""
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    width = int(lengths.max(initial=0))
    filled = np.frombuffer(b"".join([piece.ljust(width) for piece in pieces]), np.uint8)
    table = np.full((width + 2, len(pieces)), BOUNDARY)
    table[1:-1] = filled.reshape(len(pieces), width).T
    table[1:-1][np.arange(width)[:, None] >= lengths] = BOUNDARY
    return table

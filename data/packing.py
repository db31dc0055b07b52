"""Rows of a batch: which pieces of which documents stand in them.

In: lengths of documents, or of their pieces, a context, and what the order hangs on.  Out: rows, each `Piece`s of a
context at most.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.layout import windows


class Piece(NamedTuple):
    """A window (data.layout.Window) of one document, and with it a segment of a row."""

    document: int
    start: int
    scored_from: int
    stop: int

    def size(self, header: int) -> int:
        """Input tokens, the repeated header of `header` tokens counted."""
        return self.stop - self.start + (header if self.start else 0)


def pieces_of(document: int, length: int, header: int, context: int) -> Iterator[Piece]:
    """The windows of a document of `length` tokens."""
    return (Piece(document, *window) for window in windows(length, header, context))


def lengthened(
    pieces: Sequence[Piece], sizes: npt.NDArray[np.int64], context: int, seed: Sequence[int]
) -> tuple[list[Piece], npt.NDArray[np.int64]]:
    """The pieces, with what is read before a later window grown by a random part of the room left; and their sizes.

    More to read instead of padding. By a random part, because if every last window were full, every long story would
    end at the very last position of a row, and a model would wait for that position to end its own. The larger of two
    random numbers leaves a third of the room, which keeps padding under 5 % (LOG.md).
    """
    random = np.random.default_rng(seed)
    room = np.array([context if piece.start else size for piece, size in zip(pieces, sizes, strict=True)]) - sizes
    more = random.integers(0, room + 1, (2, len(room))).max(axis=0)
    grown = [piece._replace(start=piece.start - extra) for piece, extra in zip(pieces, more.tolist(), strict=True)]
    return grown, sizes + more


class PackedRows:
    """Pieces in rows by best fit: a row opens with a random piece and takes the longest that fits until none does.

    Two seeds give two packings, and a different number of rows at times.
    """

    def __init__(
        self, pieces: Sequence[Piece], sizes: npt.NDArray[np.int64], context: int, seed: Sequence[int]
    ) -> None:
        random = np.random.default_rng(seed)
        self.used = int(sizes.sum())  # input positions that are not padding
        self._pieces = pieces
        rows = list(best_fit(sizes, context, random.permutation(len(pieces))))
        self._rows = [rows[i] for i in random.permutation(len(rows))]  # the last to be packed are the least full

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> list[Piece]:
        return [self._pieces[i] for i in self._rows[row]]


def best_fit(sizes: npt.NDArray[np.int64], room: int, order: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """Put things of whole-number sizes, none over `room`, into rows of that much room; give the indices in each row.

    A row opens with the next in `order`; pieces of one size go in that order too.
    """
    waiting: dict[int, list[int]] = {}
    for i in order[::-1].tolist():
        waiting.setdefault(int(sizes[i]), []).append(i)
    available = sorted(waiting)

    def take(size: int) -> int:
        i = waiting[size].pop()
        if not waiting[size]:
            del available[bisect_left(available, size)]
        return i

    placed = np.zeros(len(sizes), bool)
    for opening in order.tolist():
        if placed[opening]:
            continue
        row = [take(int(sizes[opening]))]
        left = room - int(sizes[opening])
        while available and available[0] <= left:
            size = available[bisect_right(available, left) - 1]
            row.append(take(size))
            left -= size
        placed[row] = True
        yield row


class StreamRows:
    """Documents in random order, end to end, cut into rows of a context; the last row is what is left.

    The order, and a turn of the whole stream by a random number of tokens, put the cuts elsewhere for every seed, even
    in a single document. Rows are found by bisection: nothing in memory is longer than the documents or rows are many.
    """

    def __init__(self, lengths: npt.NDArray[np.int64], context: int, seed: Sequence[int]) -> None:
        random = np.random.default_rng(seed)
        self._context = context
        self._order = random.permutation(len(lengths))
        inputs = lengths[self._order] - 1  # the last token of a document is only ever predicted
        self._ends = np.cumsum(inputs)
        self._starts = self._ends - inputs
        self._total = self.used = int(self._ends[-1])
        self._turn = int(random.integers(self._total))
        self._rows = random.permutation(-(-self._total // context))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> list[Piece]:
        begin = int(self._rows[row]) * self._context
        end = min(begin + self._context, self._total)
        pieces = []
        while begin < end:
            at = (begin + self._turn) % self._total
            i = int(np.searchsorted(self._ends, at, side="right"))
            size = min(end - begin, int(self._ends[i]) - at)
            start = at - int(self._starts[i])
            pieces.append(Piece(int(self._order[i]), start, start + 1, start + size))
            begin += size
        return pieces

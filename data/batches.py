"""Token files -> batches, for training and for held-out text.

In: an open TokenFile.  Out: `Batch`es of numpy arrays. The order is a function of (seed, step), so going on after a
stop needs no loader state.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from bpe import Tokenizer
from data.layout import END, check_context, fit_header, max_header, special_id
from data.packing import PackedRows, Piece, StreamRows, lengthened, pieces_of
from data.tokens import TokenFile

LEAST_SHARE = 2  # contexts: what each held-out document gives at least, when there are many, before others are left out
LENGTHENING = 1  # tells its random numbers from those of the packing
HELD_OUT_SEED = (0,)  # packing held-out windows needs an order; any will do, always the same


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of tokens to predict; each array has the shape (rows, context).

    A row holds one or more segments, pieces of different documents, and padding at its end. Padding is 0 in inputs
    and targets, never scored, and a segment of its own. As it comes last, no causal attention reaches it.
    """

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]  # the token after each input
    scored: npt.NDArray[np.bool_]  # whether the target counts in the loss
    positions: npt.NDArray[np.int64]  # 0, 1, 2, ... from the start of each segment
    segments: npt.NDArray[np.int32] | None  # 0, 1, 2, ... along the row; attention stays within one. None: one a row


@dataclass(frozen=True, slots=True)
class Shares:
    """What the input positions of an epoch are, as fractions of rows x context."""

    scored: float
    padding: float


class TrainingBatches:
    """Endless batches of `rows` rows of `context` input tokens; step t's is a pure function of (seed, t).

    Every token that the stage scores is scored once an epoch. Documents are shuffled, laid end to end and cut into rows
    (data.packing.StreamRows). Pairs are laid out in windows (data/layout.py) and packed (data.packing.PackedRows). In
    both, attention stays within a document. Row r of step t is row t * rows + r of all epochs' rows one after another,
    so a step may end one epoch and begin the next.
    Raises DataError for a context under data.layout.MIN_CONTEXT.
    """

    def __init__(self, file: TokenFile, *, context: int, rows: int, seed: int) -> None:
        check_context(context)
        self.file = file
        self.context = context
        self.rows = rows
        self.seed = seed
        self._headers = np.minimum(file.headers, max_header(context))
        self._lengths = file.lengths - (file.headers - self._headers)
        self._pieces: list[Piece] = []
        if file.kind == "pairs":
            pairs = zip(self._lengths.tolist(), self._headers.tolist(), strict=True)
            layouts = (pieces_of(i, *pair, context) for i, pair in enumerate(pairs))
            self._pieces = list(chain.from_iterable(layouts))
        self._sizes = _sizes(self._pieces, self._headers)
        self._first_rows = [0]  # of each epoch whose number of rows is known, and of the one after
        self._planned: tuple[int, PackedRows | StreamRows] | None = None

    @property
    def scored_per_epoch(self) -> int:
        """Scored tokens in an epoch."""
        return int((self._lengths - np.maximum(self._headers, 1)).sum())

    @property
    def positions_per_epoch(self) -> int:
        """Positions in the first epoch's rows: with what is read again and padding, as the tokens of a step count."""
        return self.rows_of_epoch(0) * self.context

    def rows_of_epoch(self, epoch: int) -> int:
        """Rows in an epoch; of pairs the number differs a little from epoch to epoch."""
        return len(self._plan(epoch))

    def shares_of_epoch(self, epoch: int) -> Shares:
        """How much of an epoch's rows is scored, and how much is padding."""
        positions = self.rows_of_epoch(epoch) * self.context
        return Shares(self.scored_per_epoch / positions, 1 - self._plan(epoch).used / positions)

    def of_step(self, step: int) -> Batch:
        """The batch of optimizer step `step`, counted from 0."""
        return make_batch(self.file, [self._row(step * self.rows + r) for r in range(self.rows)], self.context)

    def _row(self, row: int) -> list[Piece]:
        """A row by its number in all epochs."""
        while row >= self._first_rows[-1]:
            self._first_rows.append(self._first_rows[-1] + self.rows_of_epoch(len(self._first_rows) - 1))
        epoch = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        return self._plan(epoch)[row - self._first_rows[epoch]]

    def _plan(self, epoch: int) -> PackedRows | StreamRows:
        """The rows of an epoch; the latest asked for are kept."""
        if self._planned is None or self._planned[0] != epoch:
            seed = (self.seed, epoch)
            if self._pieces:
                pieces, sizes = lengthened(self._pieces, self._sizes, self.context, (*seed, LENGTHENING))
                self._planned = epoch, PackedRows(pieces, sizes, self.context, seed)
            else:
                self._planned = epoch, StreamRows(self._lengths, self.context, seed)
        return self._planned[1]


class HeldOut:
    """Held-out text as evaluation reads it: every document from its own start, in windows that move by half a context.

    Of a document every token but the last END is scored, over the UTF-8 bytes of the text; of a pair the story and its
    END, over the story's bytes plus one. With `max_tokens` so many are scored at most: of pairs every k-th, whole; of
    documents the beginnings, all up to the same length, LEAST_SHARE contexts or more; where that is too much in all,
    of every k-th document only. (One pair, or LEAST_SHARE contexts of one document, is always scored.)

    num_tokens: tokens scored.  num_bytes: the UTF-8 bytes they stand for, an END counted as one.
    Raises DataError for a context under data.layout.MIN_CONTEXT.
    """

    def __init__(
        self, file: TokenFile, tok: Tokenizer, *, context: int, rows: int, max_tokens: int | None = None
    ) -> None:
        self.file = file
        self.context = context
        self.rows = rows
        headers = np.minimum(file.headers, max_header(context))
        if file.kind == "pairs":
            scored = file.lengths - file.headers
            taken, shares = _take(scored, max_tokens, least=int(scored.max()))
        else:
            taken, shares = _take(file.lengths - 2, max_tokens, least=LEAST_SHARE * context)
        self.num_tokens = int(shares.sum())
        self.num_bytes = 0
        bytes_of_id = _bytes_of_ids(tok)
        pieces: list[Piece] = []
        for i, share in zip(taken.tolist(), shares.tolist(), strict=True):
            header = int(headers[i])
            pieces.extend(pieces_of(i, max(1, header) + share, header, context))
            story_at = max(1, int(file.headers[i]))
            self.num_bytes += int(bytes_of_id[file.document(i)[story_at : story_at + share]].sum())
        self._packed = PackedRows(pieces, _sizes(pieces, headers), context, HELD_OUT_SEED)

    def batches(self) -> Iterator[Batch]:
        """The batches, of `rows` rows each but for the last; the same at every call."""
        for start in range(0, len(self._packed), self.rows):
            rows = range(start, min(start + self.rows, len(self._packed)))
            yield make_batch(self.file, [self._packed[row] for row in rows], self.context)


def make_batch(file: TokenFile, rows: Sequence[Sequence[Piece]], context: int) -> Batch:
    """The batch whose rows hold these pieces of the file's documents."""
    shape = len(rows), context
    inputs, targets = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    scored = np.zeros(shape, np.bool_)
    positions, segments = np.zeros(shape, np.int64), np.zeros(shape, np.int32)
    for row, pieces in enumerate(rows):
        at = 0
        for segment, piece in enumerate(pieces):
            tokens, header = fit_header(file.document(piece.document), int(file.headers[piece.document]), context)
            header = header if piece.start else 0
            end = at + piece.size(header)
            body = at + header
            inputs[row, at:body] = tokens[:header]
            inputs[row, body:end] = tokens[piece.start : piece.stop]
            targets[row, at : end - 1] = inputs[row, at + 1 : end]
            targets[row, end - 1] = tokens[piece.stop]
            scored[row, body + piece.scored_from - piece.start - 1 : end] = True
            positions[row, at:end] = np.arange(end - at)
            segments[row, at:end] = segment
            at = end
        positions[row, at:] = np.arange(context - at)
        segments[row, at:] = len(pieces)
    several = any(len(pieces) > 1 for pieces in rows)
    return Batch(inputs, targets, scored, positions, segments if several else None)


def _sizes(pieces: Sequence[Piece], headers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The input positions that each piece takes."""
    return np.array([piece.size(int(headers[piece.document])) for piece in pieces], np.int64)


def _take(
    scored: npt.NDArray[np.int64], max_tokens: int | None, *, least: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which documents to evaluate, and how many of the tokens that could be scored of each, max_tokens in all.

    Every k-th document for the smallest k that leaves each a share of `least`, or all it has; then the largest share.
    The first document has its `least` even if that is more than max_tokens.
    """
    documents = np.arange(len(scored))
    if max_tokens is None:
        return documents, scored
    steps = range(1, len(scored) + 1)
    step = next((k for k in steps if np.minimum(scored[::k], least).sum() <= max_tokens), len(scored))
    taken = scored[::step]
    share = bisect_right(range(int(taken.max()) + 1), max_tokens, key=lambda s: int(np.minimum(taken, s).sum())) - 1
    return documents[::step], np.minimum(taken, max(share, least))


def _bytes_of_ids(tok: Tokenizer) -> npt.NDArray[np.int64]:
    """The UTF-8 bytes that each id stands for; of the special tokens only END counts, as the one byte of an end."""
    lengths = np.zeros(tok.vocab_size, np.int64)
    token_bytes = tok.token_bytes
    lengths[: len(token_bytes)] = [len(token) for token in token_bytes]
    lengths[special_id(tok, END)] = 1
    return lengths

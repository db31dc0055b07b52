"""Learning merges fast: many pairs are merged at once, with NumPy.

In: the distinct words of a corpus and how often each occurs.  Out: the pairs that are merged, in order.

Put the pairs in the order of merging: the more frequent first, of equals the smaller pair of ids. Take pairs from the
front for as long as no two of them overlap anywhere in the words, as `th` and `he` do in `the`. To merge these at once
comes to the same as to merge the first, count anew, and so on, which is the definition:

- They take no occurrences from each other.
- No new pair comes before one of them. A new pair stands where an old one stood that overlapped what is merged: (AB, C)
  where (B, C) was. It is at most as frequent as the old one, and its ids are larger, so it comes later. And the old one
  came after all that were taken: it overlaps one of them, so it is none of them. (If the old pair is itself a new one,
  of another merge, this is true of it too.)

When a pair overlaps itself, as `aa` does in `aaa`, the second is not so: (aa, a) may be next. So no more is taken then.

In 100 MB of books, the first 16,000 merges are some 430 such batches.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bpe.pair_table import NO_PAIR, PairTable, keys_of
from bpe.pairs import Pair
from bpe.rows import GrowingArray, Numbers

Ids = npt.NDArray[np.integer[Any]]

SMALL = 1 << 29  # bytes in all words; there are less than 2**31 pairs then, three for each byte, and 32 bits suffice


@dataclass(frozen=True)
class Batch:
    """Pairs that are merged at once, the places where they begin, and which of the pairs it is at each place."""

    pairs: Numbers
    places: Numbers
    which: Numbers


class IndexedPairs:
    """The same merges as those of `RecountedPairs`.

    All words stand in one row, and each byte has a place in it. One array, `at`, says what is at each place:
    - where a token begins, the number of the pair that it makes with the next one, NO_PAIR if it is the last of a word;
      the numbers from the length of the table on stand for the pairs of a batch, while it is merged;
    - at the last byte of a token of more than one byte, their number, negative;
    - before all words and behind them, NO_PAIR. What is at other bytes is not looked at, and no number of a pair.
    """

    def __init__(self, words: Mapping[bytes, int]) -> None:
        text = np.frombuffer(b"".join([b"\0", *words, b"\0"]), np.uint8)
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        times = np.fromiter(words.values(), np.int64, len(words))
        dtype: npt.DTypeLike = np.int32 if len(text) < SMALL else np.int64
        self._at: Numbers = np.zeros(len(text), dtype)
        few_bits = np.min_scalar_type(times.max(initial=0))  # of memory there is one number for each byte of the words
        of_word = np.concatenate(([0], times, [0])).astype(few_bits), np.concatenate(([1], lengths, [1]))
        self._times = np.repeat(*of_word)  # of the word that has this place
        self._table = PairTable(dtype)
        has_next = np.ones(len(text) - 1, np.bool_)
        has_next[np.cumsum(np.append(0, lengths))] = False
        places = np.arange(len(has_next), dtype=dtype)[has_next]
        firsts, seconds = text[:-1][has_next], text[1:][has_next]
        self._take_in(firsts, seconds, places, by=firsts.astype(np.uint16) << 8 | seconds)

    def merges(self, first_id: int) -> Iterator[Pair]:
        """See `Pairs`. What the pairs of a batch do to the words is done after the last of them is out."""
        self._lengths = GrowingArray(np.ones(first_id, np.int64))  # of each token, in bytes
        most = 2
        while len(leaders := self._table.leaders(most)):
            batch = self._batch(leaders)
            firsts, seconds = self._table.ids(batch.pairs)
            yield from zip(firsts.tolist(), seconds.tolist(), strict=True)
            self._merge(batch)
            most = 2 * len(batch.pairs)  # more than are likely to be merged would be looked up in vain

    def _batch(self, pairs: Numbers) -> Batch:
        """The first of these pairs that overlap nowhere, at least one. Where they are is marked."""
        mark = len(self._table)
        places, which = self._table.places(pairs)
        still = self._at[places] == pairs[which]  # other merges may have been there
        places, which = places[still], which[still]
        self._at[places] = mark + which
        firsts, seconds = self._table.ids(pairs)
        lengths = self._lengths.values[firsts]
        others = self._at[places + lengths[which]] - mark  # which pair begins with this one's second token
        overlaps = np.flatnonzero(others >= 0)
        one, other = which[overlaps], others[overlaps]
        reach = np.maximum(one, other)
        reach += one == other
        num_taken = int(reach.min(initial=len(pairs)))
        taken = which < num_taken
        if firsts[num_taken - 1] == seconds[num_taken - 1]:  # it may overlap itself
            last = np.flatnonzero(which == num_taken - 1)
            taken[last] = _every_other(places[last], lengths[num_taken - 1])
        self._at[places[~taken]] = pairs[which[~taken]]
        return Batch(pairs[:num_taken], places[taken], which[taken])

    def _merge(self, batch: Batch) -> None:
        """Replace the pairs of a batch by new tokens, and take in the pairs that these make."""
        table, places, mark, first_new = self._table, batch.places, len(self._table), len(self._lengths.values)
        ends, right = self._write_tokens(batch)
        lefts = places - 1
        lefts += np.minimum(self._at[lefts] + 1, 0)  # from the last byte of the token before to its first
        left = self._at[lefts]
        to_left = np.flatnonzero((left != NO_PAIR) & (left < mark))  # a new token there has this one to its right
        to_right = np.flatnonzero(right != NO_PAIR)
        lefts, left, right = lefts[to_left], left[to_left], right[to_right]
        left_ids, right_ids = table.ids(left)[0], table.ids(right)[1]
        marks = self._at[ends[to_right]] - mark
        right_ids = np.where(marks >= 0, first_new + marks, right_ids)
        self._at[places] = NO_PAIR

        times, new_ids = self._times[places].astype(np.int64), first_new + batch.which
        table.lose(batch.pairs[batch.which], times)
        table.lose(left, times[to_left])
        table.lose(right, times[to_right])
        self._take_in(
            np.concatenate((left_ids, new_ids[to_right])),
            np.concatenate((new_ids[to_left], right_ids)),
            np.concatenate((lefts, places[to_right])),
            by=np.concatenate((left_ids, right_ids)),
        )

    def _write_tokens(self, batch: Batch) -> tuple[Numbers, Numbers]:
        """Make one token of two. Out: the places behind it, and the pairs that the second made with the next token."""
        firsts, seconds = self._table.ids(batch.pairs)
        first_lengths = self._lengths.values[firsts]
        lengths = first_lengths + self._lengths.values[seconds]
        self._lengths.extend(lengths)
        middles, ends = batch.places + first_lengths[batch.which], batch.places + lengths[batch.which]
        right = self._at[middles]
        self._at[middles] = NO_PAIR
        self._at[ends - 1] = -lengths[batch.which]
        return ends, right

    def _take_in(self, firsts: Ids, seconds: Ids, places: Numbers, by: Ids) -> None:
        """Put the pairs of these ids, all new, into the table and in their places.

        by: numbers; sorted by them, with equals left as they are, the places of each pair stand together.
        """
        order = by.astype(np.min_scalar_type(by.max(initial=0))).argsort(kind="stable")  # up to 16 bits, a radix sort
        firsts, seconds, places = firsts[order], seconds[order], places[order]
        is_start = np.ones(len(places), np.bool_)
        is_start[1:] = (firsts[1:] != firsts[:-1]) | (seconds[1:] != seconds[:-1])
        starts = np.flatnonzero(is_start)
        sizes = np.diff(starts, append=len(places))
        counts = np.add.reduceat(self._times[places], starts, dtype=np.int64)
        pairs = self._table.add(keys_of(firsts[starts], seconds[starts]), counts, sizes, places)
        self._at[places] = np.repeat(pairs, sizes)


def _every_other(places: Numbers, step: int) -> npt.NDArray[np.bool_]:
    """Which of rising places to take, if from each run of places that are `step` apart the first, third ... are."""
    is_start = np.ones(len(places), np.bool_)
    is_start[1:] = places[1:] - places[:-1] != step
    starts = np.flatnonzero(is_start)
    is_even = np.zeros(len(places), np.bool_)
    is_even[::2] = True
    is_even ^= np.repeat(starts & 1 == 1, np.diff(starts, append=len(places)))  # the first of each run is
    return is_even

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

import numpy as np
import numpy.typing as npt

from bpe.pair_table import NO_PAIR, PairTable, keys_of
from bpe.pairs import Pair
from bpe.rows import GrowingArray, Numbers

NewPairs = tuple[Numbers, Numbers, Numbers, Numbers]  # keys, places, times, and by what to sort them

PART = 1 << 14  # places at a time: what is computed of so many stays in a core's cache
BYTES = 1 << 18  # of text at a time, so that a table of all pairs of bytes is smaller
BYTE_PAIRS = 1 << 16
SMALL = 1 << 29  # bytes in all words; there are less than 2**31 pairs then, three for each byte, and 32 bits suffice


@dataclass(frozen=True)
class Batch:
    """Pairs that are merged at once, the places where they begin, and which of the pairs it is at each place."""

    pairs: Numbers
    places: Numbers
    which: Numbers

    def parts(self) -> "Iterator[Batch]":
        """The same with some of the places after the other."""
        for part in _parts(len(self.places)):
            yield Batch(self.pairs, self.places[part], self.which[part])


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
        self._take_in_bytes(text, has_next)

    def _take_in_bytes(self, text: npt.NDArray[np.uint8], has_next: npt.NDArray[np.bool_]) -> None:
        """Put the pairs of bytes into the table and in their places, by a counting sort; parts of the text at a time.

        has_next: of each place, whether a pair begins there.
        """

        def pairs() -> Iterator[tuple[Numbers, Numbers]]:
            for start in range(0, len(has_next), BYTES):
                places = has_next[start : start + BYTES].nonzero()[0] + start
                keys: Numbers = text.take(places).astype(np.uint16) << 8 | text.take(places + 1)
                yield places, keys

        sizes, counts = np.zeros((2, BYTE_PAIRS), np.int64)
        for places, keys in pairs():
            sizes += np.bincount(keys, minlength=BYTE_PAIRS)
            np.add.at(counts, keys, self._times.take(places).astype(np.int64))
        by_key, free = np.empty(sizes.sum(), self._at.dtype), np.cumsum(sizes) - sizes  # the next free one of each key
        for places, keys in pairs():
            order = keys.argsort(kind="stable")  # of 16 bits, a radix sort
            here = np.bincount(keys, minlength=BYTE_PAIRS)
            shifts = free - (np.cumsum(here) - here)
            by_key[shifts.take(keys.take(order)) + np.arange(len(order))] = places.take(order)
            free += here
        there = np.flatnonzero(sizes)
        numbers = np.zeros(BYTE_PAIRS, self._at.dtype)
        numbers[there] = self._table.add(keys_of(there >> 8, there & 0xFF), counts[there], sizes[there], by_key)
        for places, keys in pairs():
            self._at[places] = numbers.take(keys)

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
        places, which = self._mark(pairs)
        firsts, seconds = self._table.ids(pairs)
        lengths = self._lengths.values[firsts]
        num_taken = min(
            _num_apart(len(pairs), some.which, self._at.take(some.places + lengths[some.which]) - len(self._table))
            for some in Batch(pairs, places, which).parts()
        )
        last, end = np.searchsorted(which, [num_taken - 1, num_taken]).tolist()  # places of one pair stand together
        self._at[places[end:]] = pairs[which[end:]]
        places, which = places[:end], which[:end]
        if firsts[num_taken - 1] == seconds[num_taken - 1]:  # it may overlap itself
            taken = np.ones(end, np.bool_)
            taken[last:] = _every_other(places[last:], lengths[num_taken - 1])
            self._at[places[~taken]] = pairs[num_taken - 1]
            places, which = places[taken], which[taken]
        return Batch(pairs[:num_taken], places, which)

    def _mark(self, pairs: Numbers) -> tuple[Numbers, Numbers]:
        """Mark where these pairs are. Out: the places, and which of the pairs it is."""
        places, which = self._table.places(pairs)
        marked = []
        for some in Batch(pairs, places, which).parts():
            still = self._at.take(some.places) == pairs.take(some.which)  # other merges may have been there
            places, which = some.places[still], some.which[still]
            self._at[places] = len(self._table) + which
            marked.append((places, which))
        places, which = map(np.concatenate, zip(*marked, strict=True))
        return places, which

    def _merge(self, batch: Batch) -> None:
        """Replace the pairs of a batch by new tokens, and take in the pairs that these make."""
        first_lengths, second_lengths = (self._lengths.values[ids] for ids in self._table.ids(batch.pairs))
        first_new = len(self._lengths.values)
        self._lengths.extend(first_lengths + second_lengths)
        right = [self._write_tokens(some, first_lengths, second_lengths) for some in batch.parts()]
        new = [self._new_pairs(some, *behind, first_new) for some, behind in zip(batch.parts(), right, strict=True)]
        self._at[batch.places] = NO_PAIR
        to_left, to_right = zip(*new, strict=True)
        self._take_in(*map(np.concatenate, zip(*to_left, *to_right, strict=True)))

    def _write_tokens(self, batch: Batch, first_lengths: Numbers, second_lengths: Numbers) -> tuple[Numbers, Numbers]:
        """Make one token of two. Out: the places behind it, and the pairs that the second made with the next token.

        first_lengths, second_lengths: of the two tokens of each pair.
        """
        middles = batch.places + first_lengths[batch.which]
        ends = middles + second_lengths[batch.which]
        right = self._at.take(middles)
        self._at[middles] = NO_PAIR
        self._at[ends - 1] = batch.places - ends
        return ends, right

    def _new_pairs(self, batch: Batch, ends: Numbers, right: Numbers, first_new: int) -> "tuple[NewPairs, NewPairs]":
        """The pairs that new tokens make with what stands to the left of them, and to the right, and what these lose.

        ends, right: what `_write_tokens` says. first_new: the id of the first new token.
        """
        table, places, mark = self._table, batch.places, len(self._table)
        lefts = places - 1
        lefts += np.minimum(self._at.take(lefts) + 1, 0)  # from the last byte of the token before to its first
        left = self._at.take(lefts)
        to_left = np.flatnonzero((left != NO_PAIR) & (left < mark))  # a new token there has this one to its right
        to_right = np.flatnonzero(right != NO_PAIR)
        lefts, left, right = lefts.take(to_left), left.take(to_left), right.take(to_right)
        left_ids, right_ids = table.ids(left)[0], table.ids(right)[1]
        marks = self._at.take(ends.take(to_right)) - mark
        right_ids = np.where(marks >= 0, first_new + marks, right_ids)

        times, new_ids = self._times.take(places), first_new + batch.which
        left_times, right_times = times.take(to_left), times.take(to_right)  # new and old pairs are in one word
        table.lose(batch.pairs.take(batch.which), times)
        table.lose(left, left_times)
        table.lose(right, right_times)
        left_keys, right_keys = keys_of(left_ids, new_ids.take(to_left)), keys_of(new_ids.take(to_right), right_ids)
        return (
            (left_keys, lefts, left_times, left_ids.astype(np.int32)),
            (right_keys, places.take(to_right), right_times, right_ids.astype(np.int32)),
        )

    def _take_in(self, keys: Numbers, places: Numbers, times: Numbers, by: Numbers) -> None:
        """Put new pairs into the table and in their places.

        times: how often what is at each place occurs. by: ids; sorted by them, with equals left as they are, the places
        of each pair stand together.
        """
        order = by.astype(np.min_scalar_type(by.max(initial=0))).argsort(kind="stable")  # up to 16 bits, a radix sort
        keys, places, times = keys.take(order), places.take(order), times.take(order)
        is_start = np.ones(len(places), np.bool_)
        np.not_equal(keys[1:], keys[:-1], out=is_start[1:])
        starts = np.flatnonzero(is_start)
        sizes = np.diff(starts, append=len(places))
        pairs = self._table.add(keys[starts], np.add.reduceat(times, starts, dtype=np.int64), sizes, places)
        self._at[places] = np.repeat(pairs, sizes)


def _num_apart(num_pairs: int, which: Numbers, others: Numbers) -> int:
    """How many of some pairs, from the first on, overlap nowhere.

    which: which of the pairs it is, at some places; others: which one begins there with this one's second token, if one
    does, else a number below 0.
    """
    overlaps = np.flatnonzero(others >= 0)
    one, other = which.take(overlaps), others.take(overlaps)
    reach = np.maximum(one, other)
    reach += one == other
    return int(reach.min(initial=num_pairs))


def _parts(length: int) -> Iterator[slice]:
    """Slices of an array of that length, at least one."""
    return (slice(start, start + PART) for start in range(0, max(1, length), PART))


def _every_other(places: Numbers, step: int) -> npt.NDArray[np.bool_]:
    """Which of rising places to take, if from each run of places that are `step` apart the first, third ... are."""
    is_start = np.ones(len(places), np.bool_)
    is_start[1:] = places[1:] - places[:-1] != step
    starts = np.flatnonzero(is_start)
    is_even = np.zeros(len(places), np.bool_)
    is_even[::2] = True
    is_even ^= np.repeat(starts & 1 == 1, np.diff(starts, append=len(places)))  # the first of each run is
    return is_even

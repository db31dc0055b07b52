"""Counting pairs of neighbouring tokens, and merging one pair everywhere.

In: the distinct words (pieces of text, as bytes) of a corpus and how often each occurs.
Out: the most frequent pair, again and again, as pairs are merged into new tokens.

`RecountedPairs` is the definition, `IndexedPairs` the same answers fast; the tests hold one to the other.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import pairwise
from typing import Protocol

Pair = tuple[int, int]

BOUNDARY = -1  # stands between words, and where a token was that is now part of the one before it


class Pairs(Protocol):
    """What the trainer needs to know of either way of counting."""

    def __init__(self, words: Mapping[bytes, int]) -> None:
        """words: each distinct word with the number of times it occurs."""

    def most_frequent(self) -> Pair | None:
        """The pair that occurs most often; of equals the smaller pair of ids; None when no pair occurs twice."""

    def merge(self, pair: Pair, into: int) -> None:
        """Replace `pair` by the new token `into` in every word, from left to right."""


class RecountedPairs:
    """The definition: count every pair anew before every merge. Slow on purpose; the tests trust it."""

    def __init__(self, words: Mapping[bytes, int]) -> None:
        self.words = [list(word) for word in words]
        self.times = list(words.values())

    def most_frequent(self) -> Pair | None:
        counts = Counter[Pair]()
        for word, times in zip(self.words, self.times, strict=True):
            for pair in pairwise(word):
                counts[pair] += times
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        return best if best is not None and counts[best] >= 2 else None

    def merge(self, pair: Pair, into: int) -> None:
        self.words = [merged(word, pair, into) for word in self.words]


def merged(word: Sequence[int], pair: Pair, into: int) -> list[int]:
    """`word` with every occurrence of `pair` replaced by `into`, from left to right.

    >>> merged([97, 97, 97, 98], (97, 97), 256)
    [256, 97, 98]
    """
    result: list[int] = []
    place = 0
    while place < len(word):
        if tuple(word[place : place + 2]) == pair:
            result.append(into)
            place += 2
        else:
            result.append(word[place])
            place += 1
    return result


class IndexedPairs:
    """The same answers, fast: a merge visits only the places its pair is at.

    All words stand in one list of tokens, each token linked to its neighbours. `places` says where a pair is, or once
    was. A heap orders the pairs by count. A pair's count only falls once the merge that made it is over, so its entry
    in the heap is never too low, and is put right when it comes to the top.
    """

    def __init__(self, words: Mapping[bytes, int]) -> None:
        self.tokens = [BOUNDARY]
        self.times = [0]  # of the word that the token is in
        for word, times in words.items():
            self.tokens += [*word, BOUNDARY]
            self.times += [times] * (len(word) + 1)
        self.before = list(range(-1, len(self.tokens) - 1))
        self.after = list(range(1, len(self.tokens) + 1))
        self.counts: dict[Pair, int] = defaultdict(int)
        self.places: dict[Pair, list[int]] = defaultdict(list)  # always in rising order
        for place, pair in enumerate(pairwise(self.tokens)):
            if BOUNDARY not in pair:
                self.counts[pair] += self.times[place]
                self.places[pair].append(place)
        self.heap = [(-count, pair) for pair, count in self.counts.items() if count >= 2]
        heapify(self.heap)

    def most_frequent(self) -> Pair | None:
        while self.heap:
            negative, pair = self.heap[0]
            count = self.counts.get(pair, 0)
            if count == -negative:
                return pair
            if count >= 2:
                heapreplace(self.heap, (-count, pair))
            else:
                heappop(self.heap)
        return None

    def merge(self, pair: Pair, into: int) -> None:
        tokens, before, after, counts, places = self.tokens, self.before, self.after, self.counts, self.places
        first, second = pair
        made = set[Pair]()
        for place in places.pop(pair, ()):
            follower = after[place]
            if tokens[place] != first or tokens[follower] != second:
                continue  # another merge, or an overlapping place of this one, was faster
            times = self.times[place]
            left, right = before[place], after[follower]
            tokens[place], tokens[follower] = into, BOUNDARY
            after[place], before[right] = right, place
            if (neighbour := tokens[left]) != BOUNDARY:
                counts[neighbour, first] -= times
                counts[neighbour, into] += times
                places[neighbour, into].append(left)
                made.add((neighbour, into))
            if (neighbour := tokens[right]) != BOUNDARY:
                counts[second, neighbour] -= times
                counts[into, neighbour] += times
                places[into, neighbour].append(place)
                made.add((into, neighbour))
        counts.pop(pair, None)
        for new in made:
            if counts[new] >= 2:
                heappush(self.heap, (-counts[new], new))

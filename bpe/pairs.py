"""Learning merges: of all pairs of neighbouring tokens the most frequent is merged, again and again.

In: the distinct words (pieces of text, as bytes) of a corpus and how often each occurs.
Out: the pairs that are merged, in order.

`RecountedPairs` is the definition. `IndexedPairs` (bpe/indexed_pairs.py) does the same fast; the tests bind the two.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

Pair = tuple[int, int]


class Pairs(Protocol):
    """What the trainer needs to know of either way."""

    def __init__(self, words: Mapping[bytes, int]) -> None:
        """words: each distinct word with the number of times it occurs."""

    def merges(self, first_id: int) -> Iterator[Pair]:
        """Merge the pair that occurs most often, of equals the smaller pair of ids, until no pair occurs twice.

        In every word it is replaced, from left to right, by a new token; these get the ids from `first_id` on.
        Out: the pairs as they are merged. To be called once.
        """


class RecountedPairs:
    """The definition: count every pair anew before every merge. Slow on purpose; the tests trust it."""

    def __init__(self, words: Mapping[bytes, int]) -> None:
        self._words = [list(word) for word in words]
        self._times = list(words.values())

    def merges(self, first_id: int) -> Iterator[Pair]:
        new = first_id
        while (pair := self._most_frequent()) is not None:
            yield pair
            self._words = [merged(word, pair, new) for word in self._words]
            new += 1

    def _most_frequent(self) -> Pair | None:
        counts = Counter[Pair]()
        for word, times in zip(self._words, self._times, strict=True):
            for pair in pairwise(word):
                counts[pair] += times
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        return best if best is not None and counts[best] >= 2 else None


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

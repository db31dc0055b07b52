"""Merging the bytes of one piece of text into tokens.

In: the bytes of a piece, and the id that each pair merges into.  Out: the ids.

Of all pairs in the piece, the one learned first (the lowest new id) is merged, from left to right, until no pair is
left that merges. `merge_by_definition` says it so; `merge_piece` gives the same ids faster: in a short piece, as nearly
all are, by searching a plain list for the lowest id, in a longer one by a heap, in n log n steps for n bytes, and in
one as long as a book in another way yet (bpe/long_pieces.py).
"""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise, repeat

from bpe.long_pieces import BOUNDARY, merge_long_piece
from bpe.pairs import Pair, merged

SHORT = 40  # bytes; up to there the list is faster
LONG_PIECE = 1 << 17  # bytes; from there on NumPy is faster than the heap
NO_MERGE = 1 << 62  # higher than any id


def merge_by_definition(piece: bytes, new_ids: Mapping[Pair, int]) -> list[int]:
    """The definition: look for the earliest merge, apply it everywhere, begin again. Slow on purpose."""
    ids = list(piece)
    while pair := earliest_merge(ids, new_ids):
        ids = merged(ids, pair, new_ids[pair])
    return ids


def earliest_merge(ids: Sequence[int], new_ids: Mapping[Pair, int]) -> Pair | None:
    """Of all pairs in a piece the one that was learned first; None when there is none that merges."""
    pairs = [pair for pair in pairwise(ids) if pair in new_ids]
    return min(pairs, key=lambda pair: new_ids[pair], default=None)


def merge_piece(piece: bytes, new_ids: Mapping[Pair, int]) -> list[int]:
    """The same ids, fast."""
    if len(piece) <= SHORT:
        return _merge_short(piece, new_ids)
    if len(piece) < LONG_PIECE:
        return _merge_by_heap(piece, new_ids)
    return merge_long_piece(piece, new_ids)


def _merge_short(piece: bytes, new_ids: Mapping[Pair, int]) -> list[int]:
    """The list of what each pair merges into is kept beside the ids and searched for every merge."""
    new_id = new_ids.get
    ids = list(piece)
    merges = [*map(new_id, pairwise(ids), repeat(NO_MERGE)), NO_MERGE]  # the last token has no pair
    while (new := min(merges)) != NO_MERGE:
        place = merges.index(new)
        ids[place] = new
        del ids[place + 1], merges[place]
        if place > 0:
            merges[place - 1] = new_id((ids[place - 1], new), NO_MERGE)
        if place + 1 < len(ids):
            merges[place] = new_id((new, ids[place + 1]), NO_MERGE)
    return ids


def _merge_by_heap(piece: bytes, new_ids: Mapping[Pair, int]) -> list[int]:
    """A heap says which pair comes next, and where, in one integer; links between neighbours make a merge cheap."""
    ids = [*piece, BOUNDARY]
    size = len(ids)
    heap = [new_ids[pair] * size + place for place, pair in enumerate(pairwise(ids)) if pair in new_ids]
    heapify(heap)
    before = list(range(-1, len(piece)))  # the first token's is -1, the place of the boundary
    after = list(range(1, len(piece) + 2))
    while heap:
        new, place = divmod(heappop(heap), size)
        follower = after[place]
        if new_ids.get((ids[place], ids[follower])) != new:
            continue  # one of the two was merged with its other neighbour
        ids[place], ids[follower] = new, BOUNDARY
        left, right = before[place], after[follower]
        after[place], before[right] = right, place
        if (pair := (ids[left], new)) in new_ids:
            heappush(heap, new_ids[pair] * size + left)
        if (pair := (new, ids[right])) in new_ids:
            heappush(heap, new_ids[pair] * size + place)
    return [id for id in ids if id != BOUNDARY]

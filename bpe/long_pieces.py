"""Merging a piece of text that is as long as a book: every place of a pair at once, with NumPy.

In: the bytes of a piece, and the id that each pair merges into.  Out: the ids.

Hardly any text has such a piece: one without blanks, or one letter over and over. Each merge is made at all its places
in one go, and the merges follow in the order they were learned: none makes a place for an earlier one, which knew
nothing of its new token. Where a pair stands is noted for its merge when it comes to stand there, at first or by
another merge, and looked up when it is that merge's turn.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bpe.pairs import Pair

BOUNDARY = -1  # stands around the piece, and where a token was that is now part of the one before it
NOTED_AT_ONCE = 1 << 16  # places: what is computed of so many fits a core's cache

Places = npt.NDArray[np.int32]


def merge_long_piece(piece: bytes, new_ids: Mapping[Pair, int]) -> list[int]:
    """The same ids as `merge_by_definition`'s."""
    row = _Row(piece, new_ids)
    for pair, new in sorted(new_ids.items(), key=lambda item: item[1]):
        row.merge(pair, new)
    return row.ids()


class _Row:
    """The tokens of a piece, each at the place of its first byte and linked to its neighbours."""

    def __init__(self, piece: bytes, new_ids: Mapping[Pair, int]) -> None:
        end = len(piece)  # the place of a boundary, which stands before the first token, too: at -1
        self._tokens = np.append(np.frombuffer(piece, np.uint8).astype(np.int32), np.int32(BOUNDARY))
        self._before = np.arange(-1, end, dtype=np.int32)
        self._after = np.arange(1, end + 2, dtype=np.int32)
        pairs = np.array([*new_ids, (BOUNDARY, BOUNDARY)], np.int64)
        new = np.array([*new_ids.values(), BOUNDARY], np.int64)
        order = np.argsort(_keys(pairs[:, 0], pairs[:, 1]))
        self._keys, self._new = _keys(pairs[:, 0], pairs[:, 1])[order], new[order]
        self._noted: dict[int, list[Places]] = {}  # by the new id, places where its pair is, or was
        self._note(np.arange(end, dtype=np.int32))

    def _note(self, places: Places) -> None:
        """Note for later merges which of them has its pair at which of these places."""
        for start in range(0, len(places), NOTED_AT_ONCE):
            self._note_some(places[start : start + NOTED_AT_ONCE])

    def _note_some(self, places: Places) -> None:
        keys = _keys(self._tokens[places], self._tokens[self._after[places]])
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        merges = self._keys[found] == keys
        places, new = places[merges], self._new[found[merges]]
        order = np.argsort(new, kind="stable")
        places, new = places[order], new[order]
        starts = np.flatnonzero(np.diff(new, prepend=BOUNDARY))
        for id, group in zip(new[starts].tolist(), np.split(places, starts[1:]), strict=False):
            self._noted.setdefault(id, []).append(group)

    def merge(self, pair: Pair, new: int) -> None:
        """Replace a pair by its new token, from left to right."""
        tokens, before, after = self._tokens, self._before, self._after
        if new not in self._noted:
            return
        places = np.sort(np.concatenate(self._noted.pop(new)), kind="stable")
        places = places[np.diff(places, prepend=-1) > 0]  # between two merges a place is noted twice
        places = places[(tokens[places] == pair[0]) & (tokens[after[places]] == pair[1])]
        if pair[0] == pair[1]:
            places = _without_overlaps(places, after)
        followers = after[places]
        tokens[places], tokens[followers] = new, BOUNDARY
        after[places], before[after[followers]] = after[followers], places
        lefts = before[places]
        self._note(np.concatenate([lefts[lefts >= 0], places]))

    def ids(self) -> list[int]:
        """The tokens."""
        ids: list[int] = self._tokens[self._tokens != BOUNDARY].tolist()
        return ids


def _keys(first: npt.NDArray[np.integer], second: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """A number for each pair."""
    return first.astype(np.int64) << 32 | second


def _without_overlaps(places: Places, after: npt.NDArray[np.int32]) -> Places:
    """Of places in which a token is followed by itself, those that are merged: of `aaaa`, the first and the third."""
    numbers = np.arange(len(places), dtype=np.int32)
    follows = np.append(False, after[places[:-1]] == places[1:])[: len(places)]
    starts = np.maximum.accumulate(np.where(follows, 0, numbers))  # of the run that each is in
    merged: Places = places[(numbers - starts) % 2 == 0]
    return merged

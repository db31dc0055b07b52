"""Numbering stretches of text: the same stretch, the same number.

In: blocks of text as UTF-8, and where to cut them.  Out: the number of each stretch between two cuts.

A dict says it all, and is the definition. But a book has a stretch every five bytes, and a dict would have to be asked
for each. So all stretches of a block are looked up at once in a table of 64-bit keys (bpe/key_table.py), and only what
is new, or long, goes to the dict.

A stretch of up to 8 bytes is its own key, filled up with bytes that UTF-8 never has. The key of one of up to 16 bytes
is mixed from its two halves, so that two stretches may have the same: what the table says of it is compared with it.

Several threads may ask at once. One at a time takes in what is new; the others go on looking up meanwhile, for a number
stands in the table only when all that belongs to it is in place.
"""

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bpe.key_table import NO_KEY, NONE, Keys, KeyTable
from bpe.rows import UNCHECKED, WORD, GrowingArray, Numbers, places_of_some, words_from_each_item

Places = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

CAPACITY = 1 << 22  # bytes of known stretches, some 70 MB with what is kept for them: users start anew beyond that

DENSE = 16  # bytes a stretch; books have five
LONGEST = 2 * WORD  # bytes of a stretch that the table is asked for
_FILLER = b"\xff"  # no byte of UTF-8
_FILLERS = np.frombuffer(b"".join(bytes(n) + _FILLER * (WORD - n) for n in range(WORD + 1)), np.uint64)
_MIXED = np.frombuffer(_FILLER + bytes(WORD - 1), np.uint64)  # no stretch begins so, but every mixed key
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)  # odd numbers without a pattern in their bits


class Stretches:
    """Numbers stretches from 1 on, in the order they are taken in.

    known: every stretch at its number (the one at 0 is none). size: bytes of all known stretches.
    """

    def __init__(self) -> None:
        self.known = [b""]
        self.size = 0
        self._taking_in = threading.Lock()
        self._numbers: dict[bytes, int] = {}
        self._table = KeyTable()
        self._firsts = GrowingArray(np.zeros(1, np.uint64))  # the first word of each stretch
        self._seconds = GrowingArray(np.zeros(1, np.uint64))

    def numbers(self, block: bytes, places: Places) -> Numbers:
        """The number of each stretch of `block`, cut at `places`, which begin with 0 and end with the end."""
        starts, lengths = places[:-1], np.diff(places)
        words = words_from_each_item(np.frombuffer(block + bytes(LONGEST), np.uint8))
        dense = len(words) < DENSE * len(starts)  # to copy them all, as `take` does, is then faster
        keys = words.take(starts, mode=UNCHECKED) if dense else words[starts]
        keys |= _FILLERS.take(lengths, mode="clip")
        longer = places_of_some(lengths > WORD)
        firsts, lengths = keys.take(longer), lengths.take(longer)
        seconds = words[starts.take(longer) + WORD]
        seconds |= _FILLERS.take(lengths - WORD, mode="clip")
        keys[longer] = np.where(lengths > LONGEST, NO_KEY, firsts * _MIX[0] ^ seconds * _MIX[1] | _MIXED)

        numbers = self._table.find(keys)
        found = numbers.take(longer)
        differ = self._firsts.values.take(found, mode=UNCHECKED) != firsts
        differ |= self._seconds.values.take(found, mode=UNCHECKED) != seconds
        numbers[longer[differ]] = NONE
        if numbers.min(initial=len(self.known)) == NONE:
            new = np.flatnonzero(numbers == NONE)
            spans = zip(starts[new].tolist(), places[new + 1].tolist(), strict=True)
            with self._taking_in:
                numbers[new] = self._taken_in([block[start:stop] for start, stop in spans], keys[new])
        return numbers

    def _taken_in(self, stretches: Sequence[bytes], keys: Keys) -> list[int]:
        """The numbers of stretches that the table does not have; those that the dict has not either are taken in."""
        new: dict[bytes, int] = {}  # and where each comes first
        for place, stretch in enumerate(stretches):
            if stretch not in self._numbers:
                new.setdefault(stretch, place)
        if new:
            filled = b"".join([stretch[:LONGEST].ljust(LONGEST, _FILLER) for stretch in new])
            firsts, seconds = np.frombuffer(filled, np.uint64).reshape(-1, 2).T
            self._firsts.extend(firsts)
            self._seconds.extend(seconds)
            self._numbers.update(zip(new, range(len(self.known), len(self.known) + len(new)), strict=True))
            self.known += new
            self.size += sum(map(len, new))
            self._table.add(keys[[*new.values()]])
        return [self._numbers[stretch] for stretch in stretches]

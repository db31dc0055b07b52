"""Numbering stretches of text: the same stretch, the same number.

In: blocks of text as UTF-8, and where to cut them.  Out: the number of each stretch between two cuts.

A dict says it all, and is the definition. But a book has a stretch every five bytes, and to ask a dict for each takes
as long as a regular expression. So a stretch of up to 15 bytes is packed with its length into two 64-bit integers, and
those of a whole block are looked up at once, in a hash table held in NumPy arrays (open addressing, linear probing:
Knuth, The Art of Computer Programming, volume 3, section 6.4). Only what is new, or long, goes to the dict.
"""

import numpy as np
import numpy.typing as npt

from bpe.rows import WORD, GrowingArray, Numbers, words_from_each_byte

Places = npt.NDArray[np.int64]
Halves = npt.NDArray[np.uint64]

NEW = 0  # the number of no stretch, and what an empty slot of the table holds

CAPACITY = 1 << 22  # bytes of known stretches, some 70 MB with what is kept for them: users start anew beyond that

LONGEST = 15  # bytes that are packed; the sixteenth is their number
_MASKS = [(1 << 8 * length) - 1 for length in range(LONGEST + 1)]
_LOW = np.array([*(mask % 2**64 for mask in _MASKS), 0], np.uint64)
_HIGH = np.array([*(mask >> 64 for mask in _MASKS), 0], np.uint64)
_LENGTH = np.array([*(length << 56 for length in range(LONGEST + 1)), 0], np.uint64)  # of a longer one, all is 0
_MIX_LOW, _MIX_HIGH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)  # odd, their bits without a pattern


class Stretches:
    """Numbers stretches from 1 on, in the order they are first seen.

    known: every stretch at its number (the one at 0 is none). size: bytes of all known stretches.
    """

    def __init__(self) -> None:
        self.known = [b""]
        self.size = 0
        self._numbers: dict[bytes, int] = {}
        self._slots = np.full(1 << 12, NEW, np.int32)
        self._low = GrowingArray(np.zeros(1, np.uint64))  # the packed stretch of each number; that of NEW is 0
        self._high = GrowingArray(np.zeros(1, np.uint64))

    def numbers(self, block: bytes, places: Places) -> Numbers:
        """The number of each stretch of `block`, which is cut at `places`; new stretches get one."""
        starts = np.concatenate(([0], places))
        lengths = np.diff(starts, append=len(block))
        low, high = _packed(block, starts, lengths)
        numbers = self._looked_up(low, high)
        new = np.flatnonzero(numbers == NEW)
        if len(new):
            numbers[new] = self._numbers_of_new(block, starts[new], lengths[new], low[new], high[new])
        return numbers

    def _looked_up(self, low: Halves, high: Halves) -> Numbers:
        """The numbers of packed stretches, NEW where the table has none."""
        slots = self._first_slots(low, high)
        numbers = self._slots[slots].astype(np.int64)
        known_low, known_high = self._low.values, self._high.values
        others = np.flatnonzero((known_low[numbers] != low) | (known_high[numbers] != high))
        while len(others := others[numbers[others] != NEW]):  # another stretch has the slot: try the next one
            slots[others] = (slots[others] + 1) % len(self._slots)
            numbers[others] = self._slots[slots[others]]
            found = numbers[others]
            others = others[(known_low[found] != low[others]) | (known_high[found] != high[others])]
        return numbers

    def _first_slots(self, low: Halves, high: Halves) -> Numbers:
        bits = np.uint64(64 - (len(self._slots) - 1).bit_length())
        return (((low * _MIX_LOW) ^ (high * _MIX_HIGH)) >> bits).view(np.int64)

    def _numbers_of_new(self, block: bytes, starts: Places, lengths: Places, low: Halves, high: Halves) -> list[int]:
        """The numbers of stretches that the table does not have; those that the dict has not either are taken in."""
        numbers, first_seen = [], []
        for place, (start, stop) in enumerate(zip(starts.tolist(), (starts + lengths).tolist(), strict=True)):
            stretch = block[start:stop]
            number = self._numbers.get(stretch, NEW)
            if number == NEW:
                number = self._numbers[stretch] = len(self.known)
                self.known.append(stretch)
                self.size += len(stretch)
                first_seen.append(place)
            numbers.append(number)
        if first_seen:
            self._low.extend(low[first_seen])
            self._high.extend(high[first_seen])
            if 2 * len(self.known) > len(self._slots):  # a full table would be searched for ever
                self._slots = np.full(1 << (4 * len(self.known)).bit_length(), NEW, np.int32)
                self._take_slots(np.arange(1, len(self.known)))
            else:
                self._take_slots(np.arange(len(self.known) - len(first_seen), len(self.known)))
        return numbers

    def _take_slots(self, numbers: Numbers) -> None:
        """Put numbers into the table, long stretches left out; of several that want an empty slot, one gets it."""
        numbers = numbers[self._high.values[numbers] != 0]
        slots = self._first_slots(self._low.values[numbers], self._high.values[numbers])
        while len(numbers):
            empty = self._slots[slots] == NEW
            self._slots[slots[empty]] = numbers[empty]
            others = self._slots[slots] != numbers
            numbers, slots = numbers[others], (slots[others] + 1) % len(self._slots)


def _packed(block: bytes, starts: Places, lengths: Places) -> tuple[Halves, Halves]:
    """Each stretch and its length as two integers, both 0 for one that is too long."""
    memory = np.frombuffer(block + bytes(2 * LONGEST), np.uint8)
    words = words_from_each_byte(memory).view("<u8")
    kinds = np.minimum(lengths, LONGEST + 1)
    low = words[starts] & _LOW[kinds]
    high = words[starts + WORD] & _HIGH[kinds] | _LENGTH[kinds]
    return low, high

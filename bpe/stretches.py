"""Numbering stretches of text: the same stretch, the same number.

In: blocks of text as UTF-8, and where to cut them.  Out: the number of each stretch between two cuts.

A dict says it all, and is the definition. But a book has a stretch every five bytes, and to ask a dict for each takes
as long as a regular expression. So a stretch of up to 15 bytes and its length are packed into a key of 16 bytes, and
the keys of a whole block are looked up at once, in a hash table held in NumPy arrays (open addressing, linear probing:
Knuth, The Art of Computer Programming, volume 3, section 6.4). Only what is new, or long, goes to the dict.
"""

import numpy as np
import numpy.typing as npt

from bpe.rows import GrowingArray, Numbers

Places = npt.NDArray[np.int64]
Keys = npt.NDArray[np.void]  # of 16 bytes

NEW = 0  # the number of no stretch, and what an empty slot of the table holds

CAPACITY = 1 << 22  # bytes of known stretches, some 70 MB with what is kept for them: users start anew beyond that

KEY = 16
LONGEST = KEY - 1  # bytes that are packed; the last byte of a key is their number
_LENGTHS = range(LONGEST + 1)
_KEPT = np.array([*(b"\xff" * length + bytes(KEY - length) for length in _LENGTHS), bytes(KEY)], f"V{KEY}")
_LENGTH = np.array([*(bytes(LONGEST) + bytes([length]) for length in _LENGTHS), bytes(KEY)], f"V{KEY}")
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)  # odd numbers without a pattern in their bits


class Stretches:
    """Numbers stretches from 1 on, in the order they are first seen.

    known: every stretch at its number (the one at 0 is none). size: bytes of all known stretches.
    """

    def __init__(self) -> None:
        self.known = [b""]
        self.size = 0
        self._numbers: dict[bytes, int] = {}
        self._slots = np.full(1 << 12, NEW, np.int32)
        self._keys = GrowingArray(np.zeros(1, f"V{KEY}"))  # of each number; all zeros for NEW and for long stretches

    def numbers(self, block: bytes, places: Places) -> Numbers:
        """The number of each stretch of `block`, which is cut at `places`; new stretches get one."""
        starts = np.concatenate(([0], places))
        lengths = np.diff(starts, append=len(block))
        keys = _keys(block, starts, lengths)
        numbers = self._looked_up(keys)
        new = np.flatnonzero(numbers == NEW)
        if len(new):
            numbers[new] = self._numbers_of_new(block, starts[new], lengths[new], keys[new])
        return numbers

    def _looked_up(self, keys: Keys) -> Numbers:
        """The numbers of keys, NEW for those that the table does not have."""
        slots = self._first_slots(keys)
        numbers = self._slots.take(slots).astype(np.int64)
        others = np.flatnonzero(_differ(self._keys.values.take(numbers), keys))
        while len(others := others[numbers[others] != NEW]):  # another stretch has the slot: try the next one
            slots[others] = (slots[others] + 1) % len(self._slots)
            numbers[others] = self._slots[slots[others]]
            others = others[_differ(self._keys.values[numbers[others]], keys[others])]
        return numbers

    def _first_slots(self, keys: Keys) -> Numbers:
        first, second = keys.view(np.uint64).reshape(-1, 2).T
        bits = (len(self._slots) - 1).bit_length()
        slots: Numbers = ((first * _MIX[0] ^ second * _MIX[1]) >> np.uint64(64 - bits)).view(np.int64)
        return slots

    def _numbers_of_new(self, block: bytes, starts: Places, lengths: Places, keys: Keys) -> list[int]:
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
            self._keys.extend(keys[first_seen])
            if 4 * len(self.known) > len(self._slots):  # a full table would be searched for ever
                self._slots = np.full(1 << (8 * len(self.known)).bit_length(), NEW, np.int32)
                self._take_slots(np.arange(1, len(self.known)))
            else:
                self._take_slots(np.arange(len(self.known) - len(first_seen), len(self.known)))
        return numbers

    def _take_slots(self, numbers: Numbers) -> None:
        """Put numbers into the table, long stretches left out; of several that want an empty slot, one gets it."""
        keys = self._keys.values[numbers]
        short = _differ(keys, np.zeros_like(keys))
        numbers, slots = numbers[short], self._first_slots(keys[short])
        while len(numbers):
            empty = self._slots[slots] == NEW
            self._slots[slots[empty]] = numbers[empty]
            others = self._slots[slots] != numbers
            numbers, slots = numbers[others], (slots[others] + 1) % len(self._slots)


def _keys(block: bytes, starts: Places, lengths: Places) -> Keys:
    """The key of each stretch; all zeros for one that is too long."""
    from_each_byte = np.ndarray(len(block) + 1, f"V{KEY}", block + bytes(KEY), strides=(1,))
    kinds = np.minimum(lengths, LONGEST + 1)
    halves = from_each_byte[starts].view(np.uint64)
    halves &= _KEPT.take(kinds).view(np.uint64)
    halves |= _LENGTH.take(kinds).view(np.uint64)
    return halves.view(f"V{KEY}")


def _differ(some: Keys, others: Keys) -> npt.NDArray[np.bool_]:
    """Which keys are not the same."""
    halves: npt.NDArray[np.bool_] = some.view(np.uint64) != others.view(np.uint64)
    both: npt.NDArray[np.bool_] = halves.view(np.uint16) != 0
    return both

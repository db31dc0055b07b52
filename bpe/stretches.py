"""Numbering stretches of text: the same stretch, the same number.

In: blocks of text as UTF-8, and where to cut them.  Out: the number of each stretch between two cuts.

A dict says it all, and is the definition. But a book has a stretch every five bytes, and to ask a dict for each takes
as long as a regular expression. So a stretch of up to 15 bytes and its length are packed into a key of 16 bytes, and
the keys of a whole block are looked up at once, in a hash table held in NumPy arrays (open addressing, linear probing:
Knuth, The Art of Computer Programming, volume 3, section 6.4). Only what is new, or long, goes to the dict.

Several threads may ask at once. One at a time takes in what is new; the others go on looking up meanwhile, for a number
stands in the table only when all that belongs to it is in place.
"""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from bpe.rows import GrowingArray, Numbers

Places = npt.NDArray[np.int64]
Keys = npt.NDArray[np.void]  # of 16 bytes
Slots = npt.NDArray[np.int32]

NEW = 0  # the number of no stretch, and what an empty slot of the table holds

CAPACITY = 1 << 22  # bytes of known stretches, some 70 MB with what is kept for them: users start anew beyond that

KEY = 16
LONGEST = KEY - 1  # bytes that are packed; the last byte of a key is their number
_LENGTHS = range(LONGEST + 1)
_KEPT = np.array([*(b"\xff" * length + bytes(KEY - length) for length in _LENGTHS), bytes(KEY)], f"V{KEY}")
_LENGTH = np.array([*(bytes(LONGEST) + bytes([length]) for length in _LENGTHS), bytes(KEY)], f"V{KEY}")
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)  # odd numbers without a pattern in their bits


class Stretches:
    """Numbers stretches from 1 on, in the order they are taken in.

    learn: called with stretches that are new, in the order of their numbers, before anyone is given those.
    known: every stretch at its number (the one at 0 is none). size: bytes of all known stretches.
    """

    def __init__(self, learn: Callable[[Sequence[bytes]], object] = len) -> None:
        self.known = [b""]
        self.size = 0
        self._learn = learn
        self._taking_in = threading.Lock()
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
            spans = zip(starts[new].tolist(), (starts[new] + lengths[new]).tolist(), strict=True)
            with self._taking_in:
                numbers[new] = self._taken_in([block[start:stop] for start, stop in spans], keys[new])
        return numbers

    def _looked_up(self, keys: Keys) -> Numbers:
        """The numbers of keys, NEW for those that the table does not have."""
        table = self._slots  # a larger one may take its place meanwhile
        slots = self._first_slots(keys, table)
        numbers = table.take(slots).astype(np.int64)
        others = np.flatnonzero(_differ(self._keys.values.take(numbers), keys))
        while len(others := others[numbers[others] != NEW]):  # another stretch has the slot: try the next one
            slots[others] = (slots[others] + 1) % len(table)
            numbers[others] = table[slots[others]]
            others = others[_differ(self._keys.values[numbers[others]], keys[others])]
        return numbers

    def _taken_in(self, stretches: Sequence[bytes], keys: Keys) -> list[int]:
        """The numbers of stretches that the table does not have; those that the dict has not either are taken in."""
        new: dict[bytes, int] = {}  # and where each comes first
        for place, stretch in enumerate(stretches):
            if stretch not in self._numbers:
                new.setdefault(stretch, place)
        if new:
            self._learn([*new])
            self._keys.extend(keys[[*new.values()]])
            numbers = range(len(self.known), len(self.known) + len(new))
            self.known += new
            self.size += sum(map(len, new))
            self._numbers.update(zip(new, numbers, strict=True))
            if 4 * len(self.known) > len(self._slots):  # a full table would be searched for ever
                self._slots = self._table(1 << (8 * len(self.known)).bit_length())
            else:
                self._fill(self._slots, np.array(numbers))
        return [self._numbers[stretch] for stretch in stretches]

    def _table(self, size: int) -> Slots:
        """A table of all known stretches."""
        table = np.full(size, NEW, np.int32)
        self._fill(table, np.arange(1, len(self.known)))
        return table

    def _fill(self, table: Slots, numbers: Numbers) -> None:
        """Put numbers into a table, long stretches left out; of several that want an empty slot, one gets it."""
        keys = self._keys.values[numbers]
        short = _differ(keys, np.zeros_like(keys))
        numbers, slots = numbers[short], self._first_slots(keys[short], table)
        while len(numbers):
            empty = table[slots] == NEW
            table[slots[empty]] = numbers[empty]
            others = table[slots] != numbers
            numbers, slots = numbers[others], (slots[others] + 1) % len(table)

    @staticmethod
    def _first_slots(keys: Keys, table: Slots) -> Numbers:
        first, second = keys.view(np.uint64).reshape(-1, 2).T
        bits = (len(table) - 1).bit_length()
        slots: Numbers = ((first * _MIX[0] ^ second * _MIX[1]) >> np.uint64(64 - bits)).view(np.int64)
        return slots


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

"""Numbering 64-bit keys: the same key, the same number.

In: arrays of keys.  Out: the number of each, all looked up at once.

A dict says it all, but to ask it for each of a million keys takes as long as a regular expression takes to find them.
So this is a hash table held in NumPy arrays (open addressing, linear probing: Knuth, The Art of Computer Programming,
volume 3, section 6.4). One thread may add keys while others look up: a number stands in the table when its key does.
"""

import numpy as np
import numpy.typing as npt

from bpe.rows import UNCHECKED, GrowingArray, Numbers

Keys = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.int32]

NONE = 0  # the number of no key, and what an empty slot of the table holds
NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)  # is never found

_MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number without a pattern in its bits


class KeyTable:
    """Numbers keys from 1 on, in the order they are added."""

    def __init__(self) -> None:
        self._slots = np.full(1 << 12, NONE, np.int32)
        self._keys = GrowingArray(np.zeros(1, np.uint64))  # of each number

    def find(self, keys: Keys) -> Numbers:
        """The numbers of keys, NONE for those that the table does not have."""
        table = self._slots  # a larger one may take its place meanwhile
        slots = _first_slots(keys, table)
        numbers = table.take(slots, mode=UNCHECKED).astype(np.int64)
        others = np.flatnonzero(self._keys.values.take(numbers, mode=UNCHECKED) != keys)
        while len(others := others[numbers[others] != NONE]):  # another key has the slot: try the next one
            slots[others] = (slots[others] + 1) % len(table)
            numbers[others] = table[slots[others]]
            others = others[self._keys.values[numbers[others]] != keys[others]]
        return numbers

    def add(self, keys: Keys) -> None:
        """Give the next numbers to keys. One that is there again (NO_KEY may be) is found, if at all, by one number."""
        first_new = len(self._keys.values)
        self._keys.extend(keys)
        if 4 * len(self._keys.values) <= len(self._slots):
            self._fill(self._slots, np.arange(first_new, len(self._keys.values)))
            return
        table = np.full(1 << (8 * len(self._keys.values)).bit_length(), NONE, np.int32)  # full, it is searched for ever
        self._fill(table, np.arange(1, len(self._keys.values)))
        self._slots = table

    def _fill(self, table: Slots, numbers: Numbers) -> None:
        """Put numbers into a table. Of several that want an empty slot the first gets it: it may be more frequent."""
        numbers = numbers[::-1]  # what is written last, stays
        keys = self._keys.values[numbers]
        numbers, slots = numbers[keys != NO_KEY], _first_slots(keys[keys != NO_KEY], table)
        while len(numbers):
            empty = table[slots] == NONE
            table[slots[empty]] = numbers[empty]
            others = table[slots] != numbers
            numbers, slots = numbers[others], (slots[others] + 1) % len(table)


def _first_slots(keys: Keys, table: Slots) -> Numbers:
    bits = (len(table) - 1).bit_length()
    mixed = keys * _MIX
    mixed >>= np.uint64(64 - bits)
    slots: Numbers = mixed.view(np.int64)
    return slots

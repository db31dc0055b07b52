"""Numbering stretches: the table is held to the dict."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.key_table
import bpe.stretches
from bpe.stretches import Stretches

BYTES = st.sampled_from([b"\x00", b"a", b"b", b"\xc3"])
LETTERS = st.lists(BYTES, min_size=1, max_size=20).map(b"".join)
ALIKE = st.lists(BYTES, max_size=9).map(lambda rest: bytes(8) + b"".join(rest))  # in their first eight bytes
STRETCHES = st.one_of(LETTERS, ALIKE)
BLOCKS = st.lists(st.lists(STRETCHES, min_size=1, max_size=12), max_size=6)


def numbers(stretches, parts):
    places = np.cumsum([0, *map(len, parts)])
    return stretches.numbers(b"".join(parts), places).tolist()


@given(BLOCKS)
def law_of_numbers(blocks):
    stretches, by_definition = Stretches(), {}
    for parts in blocks:
        expected = [by_definition.setdefault(part, len(by_definition) + 1) for part in parts]
        assert numbers(stretches, parts) == expected
    assert stretches.known[1:] == list(by_definition)
    assert stretches.size == sum(map(len, by_definition))


def test_a_stretch_has_the_number_of_its_first_occurrence():
    law_of_numbers()


def test_stretches_that_share_a_slot_keep_their_numbers(monkeypatch):
    monkeypatch.setattr(bpe.key_table, "_MIX", np.uint64(0))
    law_of_numbers()


def test_long_stretches_that_share_a_key_have_numbers_of_their_own(monkeypatch):
    monkeypatch.setattr(bpe.stretches, "_MIX", np.zeros(2, np.uint64))
    law_of_numbers()


def test_numbers_stay_when_the_table_grows():
    parts = [str(number).encode() for number in range(30_000)]
    stretches = Stretches()
    assert numbers(stretches, parts) == list(range(1, 30_001))
    assert numbers(stretches, parts[::-1]) == list(range(30_000, 0, -1))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 14, 15, 16, 17, 40])
def test_stretches_that_differ_only_in_their_last_byte_or_length_are_told_apart(length):
    parts = [b"\x00" * length, b"\x00" * (length - 1) + b"\x01", b"\x00" * (length + 1)]
    assert numbers(Stretches(), parts * 2) == [1, 2, 3, 1, 2, 3]


def test_every_length_that_is_packed_is_found_in_the_table():
    parts = [b"x" * length for length in range(1, bpe.stretches.LONGEST + 1)]
    stretches = Stretches()
    numbers(stretches, parts)
    stretches._numbers.clear()  # the dict is asked no more
    assert numbers(stretches, parts) == [number for number, _ in enumerate(pairwise([*parts, b""]), start=1)]

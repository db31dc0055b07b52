"""Joining rows: held to plain concatenation."""

import sys
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe.rows import GrowingArray, Rows

ROWS = st.lists(st.lists(st.integers(0, 255), max_size=40), min_size=1, max_size=20)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_rows_are_joined_in_the_order_of_their_numbers(dtype):
    @given(ROWS, ROWS, st.lists(st.integers(0, 39), max_size=60))
    def law(first, later, wanted):
        rows = Rows(np.dtype(dtype), first)
        rows.extend_by_items([*chain.from_iterable(later)], np.array([*map(len, later)]))
        every = first + later
        numbers = np.array(wanted, np.int64) % len(every)
        joined = rows.joined(numbers)
        assert joined.dtype == dtype
        assert rows.lengths(numbers).tolist() == [len(every[number]) for number in numbers]
        assert len(rows) == len(every)
        assert joined.tolist() == list(chain.from_iterable(every[number] for number in numbers))

    law()


def test_a_number_without_a_row_is_an_index_error():
    with pytest.raises(IndexError):
        Rows(np.dtype(np.uint8), [[1], [2]]).joined(np.array([2]))


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=50)))
def test_a_growing_array_is_all_that_was_put_in(parts):
    array = GrowingArray(np.zeros(0, np.uint32))
    for part in parts:
        array.extend(part)
    assert array.values.tolist() == list(chain.from_iterable(parts))


def test_what_is_in_a_growing_array_can_be_read_at_every_moment_while_it_grows():
    array, before, seen = GrowingArray(np.arange(1, 9)), sys.gettrace(), []

    def look(frame, event, arg):
        seen.append(array.values[:8].tolist())
        return look

    sys.settrace(look)
    array.extend(np.arange(100))
    sys.settrace(before)
    assert len(seen) > 5
    assert all(values == [*range(1, 9)] for values in seen)

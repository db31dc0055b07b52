"""Laws of packing; those of whole rows are in test_batches.py, where rows become batches."""

from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.packing import best_fit


@given(sizes=st.lists(st.integers(1, 10), max_size=60), seed=st.integers(0, 3))
def test_best_fit_places_everything_once_and_leaves_no_room_that_a_later_row_could_have_filled(sizes, seed):
    order = np.random.default_rng(seed).permutation(len(sizes))
    rows = list(best_fit(np.array(sizes, np.int64), 10, order))
    assert sorted(chain.from_iterable(rows)) == list(range(len(sizes)))
    loads = [sum(sizes[i] for i in row) for row in rows]
    assert all(load <= 10 for load in loads)
    for number, load in enumerate(loads):
        assert all(sizes[i] > 10 - load for row in rows[number + 1 :] for i in row)

"""Numbering keys: the table is held to a dict."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import bpe.key_table
from bpe.key_table import NO_KEY, NONE, KeyTable

KEYS = st.one_of(st.integers(0, 8), st.integers(0, 2**64 - 2), st.just(int(NO_KEY)))
PARTS = st.lists(st.lists(KEYS, max_size=12), max_size=6)


@given(PARTS, st.lists(KEYS, max_size=12))
def law_of_keys(parts, others):
    table, by_definition, number = KeyTable(), {}, 0
    for part in parts:
        for key in part:
            number += 1
            by_definition.setdefault(key, number)
        table.add(np.array(part, np.uint64))
        by_definition.pop(int(NO_KEY), None)
        wanted = part + others
        expected = [by_definition.get(key, NONE) for key in wanted]
        assert table.find(np.array(wanted, np.uint64)).tolist() == expected


def test_a_key_has_the_number_that_it_was_first_given():
    law_of_keys()


def test_keys_that_share_a_slot_keep_their_numbers(monkeypatch):
    monkeypatch.setattr(bpe.key_table, "_MIX", np.uint64(0))
    law_of_keys()


def test_numbers_stay_when_the_table_grows():
    keys = np.arange(30_000, dtype=np.uint64) << np.uint64(40)
    table = KeyTable()
    for some in np.split(keys, 30):
        table.add(some)
    assert table.find(keys).tolist() == list(range(1, 30_001))
    assert not table.find(keys + np.uint64(1)).any()

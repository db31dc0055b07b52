"""Counting and merging pairs: the fast way does what the slow definition does."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe.pairs import IndexedPairs, RecountedPairs, merged

words = st.dictionaries(st.text("abc", min_size=1, max_size=12).map(str.encode), st.integers(1, 5), max_size=12)


@given(words)
def test_indexed_pairs_find_what_recounted_pairs_find_after_every_merge(words):
    fast, slow = IndexedPairs(words), RecountedPairs(words)
    for new in range(256, 300):
        pair = slow.most_frequent()
        assert fast.most_frequent() == pair
        if pair is None:
            break
        fast.merge(pair, new)
        slow.merge(pair, new)


@given(words, st.lists(st.integers(0, 1000), max_size=8))
def test_they_agree_whatever_pair_is_merged(words, choices):
    fast, slow = IndexedPairs(words), RecountedPairs(words)
    for new, choice in enumerate(choices, 256):
        pairs = sorted({pair for word in slow.words for pair in pairwise(word)})
        if not pairs:
            break
        fast.merge(pairs[choice % len(pairs)], new)
        slow.merge(pairs[choice % len(pairs)], new)
        assert fast.most_frequent() == slow.most_frequent()


@pytest.mark.parametrize("counting", [IndexedPairs, RecountedPairs])
def test_the_example_that_is_checked_by_hand(counting):
    a, b, aa, ab = ord("a"), ord("b"), 256, 257
    pairs = counting({b"aaabdaaabac": 1})
    assert pairs.most_frequent() == (a, a)  # four times
    pairs.merge((a, a), aa)  # aa a b d aa a b a c
    assert pairs.most_frequent() == (a, b)  # twice, as (aa, a) is, whose ids are larger
    pairs.merge((a, b), ab)  # aa ab d aa ab a c
    assert pairs.most_frequent() == (aa, ab)
    pairs.merge((aa, ab), 258)  # aaab d aaab a c
    assert pairs.most_frequent() is None  # no pair is there twice


@pytest.mark.parametrize("counting", [IndexedPairs, RecountedPairs])
def test_a_pair_that_occurs_once_is_not_worth_a_token(counting):
    assert counting({b"ab": 1}).most_frequent() is None
    assert counting({b"ab": 2}).most_frequent() == (ord("a"), ord("b"))
    assert counting({}).most_frequent() is None


@given(st.lists(st.sampled_from([1, 2, 3]), max_size=12))
def test_merging_goes_from_left_to_right(word):
    assert b"".join(bytes([id]) if id < 256 else b"\1\1" for id in merged(word, (1, 1), 256)) == bytes(word)
    runs = "".join(map(str, word)).replace("11", "A")
    assert "".join("A" if id == 256 else str(id) for id in merged(word, (1, 1), 256)) == runs

"""Learning merges: the fast way finds what the slow definition finds."""

import random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bpe import indexed_pairs, pair_table
from bpe.indexed_pairs import IndexedPairs
from bpe.pair_table import PairTable, keys_of
from bpe.pairs import RecountedPairs, merged


def words(letters: str, max_size: int, times: st.SearchStrategy[int]) -> st.SearchStrategy[dict[bytes, int]]:
    """Some words of these letters, with how often each occurs."""
    return st.dictionaries(st.text(letters, max_size=max_size).map(str.encode), times, max_size=12)


some_words = st.one_of(
    words("abc", 12, st.integers(1, 5)),
    words("ab", 40, st.just(1)),  # ties, runs, pairs that overlap each other
    words("a", 70, st.integers(1, 9)),
    words("abcdefgh é💡", 9, st.integers(1, 3)),
    words("abcd", 12, st.integers(1, 2**50)),
)


@pytest.mark.parametrize(
    ("first_id", "short", "small", "part", "of_bytes"),
    [
        (256, pair_table.SHORT, indexed_pairs.SMALL, indexed_pairs.PART, indexed_pairs.BYTES),
        (65_530, 1, indexed_pairs.SMALL, 2, 1),  # ids of 16 bits, then of more; one candidate at a time
        (1 << 20, 3, 0, 1, 7),  # places of 64 bits
        (256, 10, 0, 3, 2),
    ],
)
def test_indexed_pairs_merge_what_recounted_pairs_merge(first_id, short, small, part, of_bytes):
    @settings(max_examples=100)
    @given(some_words)
    @example({b"aaabdaaabac": 1})
    @example({b"aaaa": 3, b"aaaab": 2, b"": 7})
    @example({})
    def law(words):
        assert list(IndexedPairs(words).merges(first_id)) == list(RecountedPairs(words).merges(first_id))

    with (
        patch.object(pair_table, "SHORT", short),
        patch.multiple(indexed_pairs, SMALL=small, PART=part, BYTES=of_bytes),
    ):
        law()


def test_they_agree_on_more_pairs_than_are_kept_in_order():
    chance = random.Random(0)
    letters = [*map(chr, range(ord("!"), ord("!") + 64))]
    words = {"".join(chance.choices(letters, range(64, 0, -1), k=6)).encode(): chance.randint(1, 9) for _ in range(150)}
    with patch.object(pair_table, "SHORT", 40):
        merges = list(IndexedPairs(words).merges(256))
    assert len(merges) > 400
    assert merges == list(RecountedPairs(words).merges(256))


@pytest.mark.parametrize("counting", [IndexedPairs, RecountedPairs])
def test_the_example_that_is_checked_by_hand(counting):
    a, b, aa, ab = ord("a"), ord("b"), 256, 257
    assert list(counting({b"aaabdaaabac": 1}).merges(256)) == [
        (a, a),  # four times, making aa a b d aa a b a c
        (a, b),  # twice, as (aa, a) is, whose ids are larger; making aa ab d aa ab a c
        (aa, ab),  # making aaab d aaab a c, where no pair is there twice
    ]


@pytest.mark.parametrize("counting", [IndexedPairs, RecountedPairs])
def test_a_pair_that_occurs_once_is_not_worth_a_token(counting):
    assert list(counting({b"ab": 1}).merges(256)) == []
    assert list(counting({b"ab": 2}).merges(256)) == [(ord("a"), ord("b"))]
    assert list(counting({}).merges(256)) == []


@pytest.mark.parametrize("counting", [IndexedPairs, RecountedPairs])
def test_words_do_not_touch(counting):
    assert list(counting({b"ab": 2, b"cb": 1, b"c": 5, b"": 1, b"aab": 1}).merges(256)) == [(ord("a"), ord("b"))]


pairs_of_ids = st.tuples(st.integers(0, 300), st.integers(0, 300))
new_pairs = st.dictionaries(pairs_of_ids, st.integers(1, 6), min_size=1, max_size=8)


@given(st.lists(st.tuples(new_pairs, st.lists(st.integers(0), max_size=8)), max_size=8), st.integers(1, 6))
def test_the_leaders_of_a_table_are_its_most_frequent_pairs(rounds, most):
    """In each round pairs are added, then some occur once less than before."""
    table = PairTable(np.int64)
    counts: dict[tuple[int, int], int] = {}
    numbers: list[tuple[int, int]] = []
    with patch.object(pair_table, "SHORT", 7):
        for number, (added, losers) in enumerate(rounds):
            new = {(first, second + 1000 * number): count for (first, second), count in sorted(added.items())}
            counts |= new
            numbers += new
            keys = keys_of(*np.array([*new]).T)
            table.add(keys, np.array([*new.values()]), np.ones(len(new), np.int64), np.arange(len(new)))
            for loser in losers:
                counts[numbers[loser % len(numbers)]] -= 1
            table.lose(
                np.array([1 + loser % len(numbers) for loser in losers], np.int64), np.ones(len(losers), np.int64)
            )
            expected = sorted((pair for pair in counts if counts[pair] >= 2), key=lambda pair: (-counts[pair], pair))
            leaders = table.leaders(most)
            assert [numbers[leader - 1] for leader in leaders] == expected[: len(leaders)]
            assert len(leaders) >= min(1, len(expected))


@given(st.lists(st.sampled_from([1, 2, 3]), max_size=12))
def test_merging_goes_from_left_to_right(word):
    assert b"".join(bytes([id]) if id < 256 else b"\1\1" for id in merged(word, (1, 1), 256)) == bytes(word)
    runs = "".join(map(str, word)).replace("11", "A")
    assert "".join("A" if id == 256 else str(id) for id in merged(word, (1, 1), 256)) == runs

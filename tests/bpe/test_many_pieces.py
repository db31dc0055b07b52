"""Merging many pieces at once: held to the definition, piece by piece."""

from itertools import chain, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.many_pieces
from bpe.many_pieces import ManyPieces
from bpe.merging import merge_by_definition

LETTERS = st.text(st.sampled_from("abetTh n'é\n"), min_size=1, max_size=24)
PIECES = st.one_of(LETTERS, st.sampled_from(["the", " the", " then", "aaaa", "a" * 15, "a" * 16, "a" * 17, "é" * 8]))


def assert_ids_are_by_definition(new_ids, pieces):
    ids, lengths = ManyPieces(new_ids).ids(pieces)
    expected = [merge_by_definition(piece, new_ids) for piece in pieces]
    assert lengths.tolist() == [*map(len, expected)]
    assert ids.tolist() == [*chain.from_iterable(expected)]


@pytest.mark.parametrize("few", [1, 4, 1000])
@pytest.mark.parametrize("at_once", [3, 1000])
def test_many_pieces_give_what_the_definition_gives(few, at_once, tokenizers, monkeypatch):
    monkeypatch.setattr(bpe.many_pieces, "FEW", few)
    monkeypatch.setattr(bpe.many_pieces, "AT_ONCE", at_once)

    @given(tokenizers, st.lists(PIECES.map(str.encode), max_size=12))
    def law(tok, pieces):
        assert_ids_are_by_definition({pair: id for id, pair in enumerate(tok.merges, 256)}, pieces)

    law()


@pytest.mark.parametrize("order", [1, -1])
def test_all_pieces_of_two_letters_are_merged_as_the_definition_says(order):
    """With merges of pairs of a letter with itself, which overlap, and of what they make."""
    new_ids = {(97, 97): 256, (256, 97): 257, (256, 256): 258, (98, 256): 259, (257, 98): 260, (98, 98): 261}
    pieces = [bytes(letters) for length in range(1, 11) for letters in product(b"ab", repeat=length)]
    assert_ids_are_by_definition(new_ids, pieces[::order])


def test_without_merges_ids_are_bytes():
    assert_ids_are_by_definition({}, [b"the", b" cat"] * 40)

"""Merging the bytes of a piece: the fast ways are held to the definition."""

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.long_pieces
import bpe.merging
from bpe import Tokenizer
from bpe.merging import LONG_PIECE, SHORT, merge_by_definition, merge_piece

PIECES = st.one_of(
    st.text("abetTh n'é\n", max_size=40),
    st.builds(str.__mul__, st.sampled_from(["a", "the", "aab", "é", "ab"]), st.integers(0, 40)),
).map(str.encode)


@pytest.fixture(params=["as it comes", "list", "heap", "NumPy"])
def way(request, monkeypatch):
    """The way that a piece is merged, whatever its length."""
    short, long = {"list": (10_000, 10_000), "heap": (0, 10_000), "NumPy": (0, 0)}.get(
        request.param, (SHORT, LONG_PIECE)
    )
    monkeypatch.setattr(bpe.merging, "SHORT", short)
    monkeypatch.setattr(bpe.merging, "LONG_PIECE", long)
    monkeypatch.setattr(bpe.long_pieces, "NOTED_AT_ONCE", 3)


def test_fast_merging_gives_what_the_definition_gives(way, tokenizers):
    @given(tokenizers, PIECES)
    def law(tok, piece):
        new_ids = {pair: id for id, pair in enumerate(tok.merges, 256)}
        assert merge_piece(piece, new_ids) == merge_by_definition(piece, new_ids)

    law()


def test_every_piece_of_two_letters_is_merged_as_the_definition_says(way):
    """With merges of pairs of a letter with itself, which overlap, and of what they make."""
    new_ids = {(97, 97): 256, (256, 97): 257, (256, 256): 258, (98, 256): 259, (257, 98): 260, (98, 98): 261}
    for length in range(11):
        for letters in product(b"ab", repeat=length):
            assert merge_piece(bytes(letters), new_ids) == merge_by_definition(bytes(letters), new_ids)


def test_a_piece_as_long_as_a_book_has_the_same_ids_by_heap_and_by_numpy(monkeypatch):
    chance = random.Random(1)
    piece = "".join(chance.choices(["th", "e", "an", "d", "aaa", "é", "你好"], k=LONG_PIECE // 2)).encode()
    new_ids = {pair: id for id, pair in enumerate(Tokenizer.train([piece.decode()], vocab_size=500).merges, 256)}
    ids = merge_piece(piece, new_ids)
    assert len(piece) > LONG_PIECE
    monkeypatch.setattr(bpe.merging, "LONG_PIECE", len(piece) + 1)
    assert merge_piece(piece, new_ids) == ids
    assert len(ids) < len(piece) / 5


def test_encoding_is_merging_each_piece_by_definition(tokenizers, corpus_text, by_definition):
    @given(tokenizers, corpus_text)
    def law(tok, text):
        assert tok.encode(text) == by_definition(tok, text)

    law()

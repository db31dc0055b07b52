"""Merging the bytes of a piece: the fast way is held to the definition."""

from hypothesis import given
from hypothesis import strategies as st

from bpe.merging import merge_by_definition, merge_piece


def test_fast_merging_gives_what_the_definition_gives(tokenizers):
    @given(tokenizers, st.text("abetTh n'é\n", max_size=40))
    def law(tok, piece):
        new_ids = {pair: id for id, pair in enumerate(tok.merges, 256)}
        assert merge_piece(piece.encode(), new_ids) == merge_by_definition(piece.encode(), new_ids)

    law()


def test_encoding_is_merging_each_piece_by_definition(tokenizers, corpus_text, by_definition):
    @given(tokenizers, corpus_text)
    def law(tok, text):
        assert tok.encode(text) == by_definition(tok, text)

    law()

"""Stretches that are met for the first time: held to the definition, whatever is known already."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.many_pieces
import bpe.new_stretches
from bpe.merging import merge_by_definition
from bpe.new_stretches import IdsOfPieces, NewStretches
from bpe.split import PATTERNS, Splitter


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("room", "few", "at_once"), [(0, 1, 1), (2, 1000, 3), (1000, 1, 1000)])
def test_new_stretches_have_the_ids_of_the_definition(
    pattern, room, few, at_once, tokenizers, corpus_text, monkeypatch
):
    monkeypatch.setattr(bpe.new_stretches, "CACHED_PIECES", room)
    monkeypatch.setattr(bpe.new_stretches, "CACHED_LENGTH", 5)
    monkeypatch.setattr(bpe.new_stretches, "AT_ONCE", at_once)
    monkeypatch.setattr(bpe.many_pieces, "FEW", few)
    parts = st.lists(st.one_of(corpus_text, st.sampled_from(["the", " then", "'the", " слово слово"])).filter(bool))

    @given(tokenizers, st.lists(parts.filter(bool), max_size=3))
    def law(tok, batches):
        new_ids = {pair: id for id, pair in enumerate(tok.merges, 256)}
        known = IdsOfPieces(new_ids)
        new_stretches = NewStretches(Splitter(pattern), known)
        for stretches in batches:
            ids, lengths = new_stretches.ids([*map(str.encode, stretches)])
            expected = [
                [*chain.from_iterable(merge_by_definition(piece.encode(), new_ids) for piece in pieces)]
                for pieces in map(Splitter(pattern).pieces, stretches)
            ]
            assert ids.tolist() == [*chain.from_iterable(expected)]
            assert lengths.tolist() == [*map(len, expected)]
            assert len(known) <= max(1, room)
            assert max(map(len, known), default=0) <= bpe.new_stretches.CACHED_LENGTH

    law()


def test_a_known_piece_is_not_merged_again():
    known = IdsOfPieces({})
    known[" слово"] = (7,)
    ids, lengths = NewStretches(Splitter("gpt4"), known).ids([" слово слово".encode()])
    assert (ids.tolist(), lengths.tolist()) == ([7, 7], [2])


def test_where_the_cache_is_full_new_pieces_are_merged_together_all_the_same(monkeypatch):
    monkeypatch.setattr(bpe.new_stretches, "CACHED_PIECES", 10)
    monkeypatch.setattr(bpe.new_stretches, "merge_piece", None)  # one by one
    known = IdsOfPieces({})
    new_stretches = NewStretches(Splitter("gpt4"), known)
    for batch in range(5):
        words = [chr(0x430 + batch) * length for length in range(1, 9)]
        ids, lengths = new_stretches.ids([word.encode() for word in words])
        assert ids.tolist() == [*chain.from_iterable(map(str.encode, words))]
        assert lengths.tolist() == [2 * len(word) for word in words]

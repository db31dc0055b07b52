"""Certain cuts: what a split pattern gives for each stretch is what it gives for the whole text."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe.cuts import cuts_of, is_one_piece
from bpe.split import PATTERNS, Splitter

# One or two characters of every class that the patterns or the cuts tell apart.
ALPHABET = [*"sT7'! \n\r\t\x00é\u0301\u00a0ſ٣—’\u2028ℕ"]


def stretches(pattern, text):
    utf8 = text.encode()
    places = cuts_of(PATTERNS[pattern]).places(utf8).tolist()
    return [utf8[start:stop] for start, stop in pairwise(places) if stop > start]


def assert_stretches_give_the_pieces(pattern, text):
    splitter = Splitter(pattern)
    pieces = list(splitter.pieces(text))
    assert [piece for stretch in stretches(pattern, text) for piece in splitter.pieces(stretch.decode())] == pieces


@pytest.mark.parametrize("pattern", PATTERNS)
def test_stretches_of_every_short_text_give_its_pieces(pattern):
    for letters in product(ALPHABET, repeat=3):
        assert_stretches_give_the_pieces(pattern, "".join(letters))


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_stretches_of_every_text_of_five_classes_give_its_pieces(pattern):
    for letters in product("sT7'! \n\r\t", repeat=5):
        assert_stretches_give_the_pieces(pattern, "".join(letters))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_stretches_of_any_text_give_its_pieces(pattern, corpus_text, any_text):
    @given(st.one_of(corpus_text, any_text, st.text(st.sampled_from(ALPHABET), max_size=30)))
    def law(text):
        assert_stretches_give_the_pieces(pattern, text)

    law()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_plain_english_is_cut_into_stretches_of_a_word_or_a_mark(pattern):
    assert stretches(pattern, 'She said: "No!" and left 12.') == [
        *(b"She", b" said", b":", b' "No', b'!"', b" and", b" left"),
        *([b" 1", b"2", b"."] if pattern == "qwen2" else [b" 12", b"."]),
    ]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_text_is_cut_beside_the_marks_of_prose_as_beside_those_of_ascii(pattern):
    parts = ["She", " said", ":", " “Don", "’t", "!”", " he", "—left"]
    assert [stretch.decode() for stretch in stretches(pattern, "".join(parts))] == parts
    assert len(stretches(pattern, "Whoever\u2028left\u200byesterday")) == 1  # of the same two first bytes, but no marks


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_said_to_be_one_piece_is(pattern, corpus_text):
    @given(st.one_of(corpus_text, st.from_regex(r"\A[ ']?[a-zA-Z]*\Z")))
    def law(text):
        if is_one_piece(text.encode()):
            assert list(Splitter(pattern).pieces(text)) == [text]

    law()
    assert is_one_piece(b" word")
    assert not is_one_piece(b"'ve") and not is_one_piece(b"  word") and not is_one_piece("été".encode())


@pytest.mark.parametrize("size", [1, 7, 1 << 18])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_blocks_are_the_text_and_end_at_certain_cuts(pattern, size, corpus_text):
    @given(corpus_text)
    def law(text):
        cuts = cuts_of(PATTERNS[pattern])
        blocks = [text[block].encode() for block in cuts.blocks(text, size)]
        assert b"".join(blocks) == text.encode()
        assert all(blocks)
        ends, place = set(cuts.places(text.encode()).tolist()), 0
        for block in blocks[:-1]:
            place += len(block)
            assert place in ends

    law()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_texts_that_stand_together_are_cut_as_alone_and_where_they_meet(pattern, corpus_text):
    @given(st.lists(corpus_text, max_size=5))
    def law(texts):
        cuts, utf8 = cuts_of(PATTERNS[pattern]), [text.encode() for text in texts]
        starts = np.cumsum([0, *map(len, utf8)])
        alone = {start + place for start, text in zip(starts[:-1], utf8, strict=True) for place in cuts.places(text)}
        assert cuts.places(b"".join(utf8), starts).tolist() == sorted(alone | {0})

    law()


def test_a_text_without_certain_cuts_is_one_block():
    text = "你好" * 10
    assert list(cuts_of(PATTERNS["qwen2"]).blocks(text, 4)) == [slice(0, len(text))]


def test_a_pattern_of_the_users_own_has_no_certain_cuts():
    assert cuts_of(r"\p{L}+") is None

"""Counting words, piece by piece and in blocks."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.cuts
import bpe.words
from bpe import BPEError
from bpe.split import PATTERNS, Splitter
from bpe.words import count_words


def test_a_word_is_counted_each_time_it_occurs(corpus_text):
    @given(st.lists(corpus_text, max_size=5))
    def law(texts):
        splitter = Splitter("qwen2")
        expected = Counter(piece.encode() for text in texts for piece in splitter.pieces(text))
        assert count_words(texts, splitter) == expected

    law()


@pytest.fixture
def blocks_always(monkeypatch):
    """Blocks of a few bytes, for texts of any length."""
    monkeypatch.setattr(bpe.words, "BLOCK", 9)
    monkeypatch.setattr(bpe.words, "BLOCK_OF_THREADS", 27)


@pytest.mark.parametrize("workers", [1, 2, None])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("capacity", [20, 1 << 22])
def test_stretches_are_counted_as_their_words(
    pattern, workers, capacity, corpus_text, any_text, monkeypatch, blocks_always
):
    monkeypatch.setattr(bpe.words, "CAPACITY", capacity)

    @given(st.lists(st.one_of(corpus_text, any_text), max_size=3))
    def law(texts):
        splitter = Splitter(pattern)
        expected = Counter(piece.encode() for text in texts for piece in splitter.pieces(text))
        assert count_words(texts, splitter, workers) == expected

    law()


@pytest.mark.parametrize("pattern", ["qwen2", "é+|\n"])
@pytest.mark.parametrize("before", [["ok"], []])
def test_a_lone_surrogate_is_named_by_its_position_wherever_words_are_counted(pattern, before, blocks_always):
    with pytest.raises(BPEError, match=r"U\+DC80\) at position 3"):
        count_words([*before, "abc\udc80"], Splitter(pattern), workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_goes_wrong_with_the_texts_reaches_the_caller(workers):
    def texts():
        yield "one"
        yield "two " * 100_000
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        count_words(texts(), Splitter("qwen2"), workers)

"""Counting words, here and in worker processes."""

import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.words
from bpe import BPEError, Tokenizer
from bpe.split import Splitter
from bpe.words import count_words
from bpe.workers import WorkerEnded


def test_a_word_is_counted_each_time_it_occurs(corpus_text):
    @given(st.lists(corpus_text, max_size=5))
    def law(texts):
        splitter = Splitter("qwen2")
        expected = Counter(piece.encode() for text in texts for piece in splitter.pieces(text))
        assert count_words(texts, splitter) == expected

    law()


@pytest.fixture
def always_workers(monkeypatch):
    monkeypatch.setattr(bpe.words, "COUNTED_HERE", 1)


@pytest.mark.parametrize("workers", [1, 2, 3, None])
def test_the_number_of_workers_never_changes_the_vocabulary(workers, always_workers):
    texts = ["first", "l'été, 你好\r\n 👩\u200d🚀\x00", "", "the last the last the last"] * 5
    expected = Tokenizer.train(texts * 2, vocab_size=270, workers=1)
    assert Tokenizer.train(iter(texts * 2), vocab_size=270, workers=workers) == expected


def test_workers_get_a_pattern_of_the_users_own(always_workers):
    splitter = Splitter("é+|\n")
    assert count_words(["x", "ééa\n"], splitter, workers=2) == {b"x": 1, "éé".encode(): 1, b"a": 1, b"\n": 1}


@pytest.mark.parametrize("before", [["ok"], []])
def test_a_lone_surrogate_is_named_by_its_position_wherever_words_are_counted(before, always_workers):
    with pytest.raises(BPEError, match=r"U\+DC80\) at position 3"):
        count_words([*before, "abc\udc80"], Splitter("qwen2"), workers=2)


def test_what_goes_wrong_with_the_texts_reaches_the_caller(always_workers):
    def texts():
        yield "one"
        yield "two" * 100_000
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        count_words(texts(), Splitter("qwen2"), workers=2)


def test_a_worker_that_dies_is_reported_in_one_line(always_workers, monkeypatch):
    monkeypatch.setattr(bpe.words, "count_pieces", sys.exit)
    with pytest.raises(WorkerEnded, match="early end"):
        count_words(["x" * 100_000] * 4, Splitter("qwen2"), workers=2)

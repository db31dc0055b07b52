"""Learning a vocabulary: one corpus, one vocabulary."""

import random

import pytest
import rustbpe
from hypothesis import given
from hypothesis import strategies as st

import bpe.words
from bpe import PATTERNS, BPEError, Tokenizer
from bpe.indexed_pairs import IndexedPairs
from bpe.merging import merge_piece
from bpe.pairs import RecountedPairs
from bpe.split import Splitter
from bpe.trainer import BPETrainer


def test_indexed_pairs_learn_what_recounting_learns(corpus_text):
    @given(st.lists(corpus_text, max_size=5), st.integers(0, 40), st.sampled_from(["qwen2", r"\S+|\s"]))
    def law(texts, num_merges, pattern):
        fast, slow = (
            BPETrainer(num_merges=num_merges, pattern=pattern, counting=way).train(texts)
            for way in (IndexedPairs, RecountedPairs)
        )
        assert fast == slow

    law()


def test_more_merges_begin_with_the_fewer(corpus_text):
    @given(st.lists(corpus_text, max_size=5), st.integers(0, 20), st.integers(0, 20))
    def law(texts, fewer, more):
        short, long = (BPETrainer(num_merges=number).train(texts).merges for number in (fewer, fewer + more))
        assert long[: len(short)] == short

    law()


def test_every_token_of_the_vocabulary_is_encoded_as_itself(tokenizers):
    """So no token is learned twice or in vain, and tools that look pieces up whole give the same ids."""

    @given(tokenizers)
    def law(tok):
        new_ids = {pair: id for id, pair in enumerate(tok.merges, 256)}
        assert [merge_piece(token, new_ids) for token in tok.token_bytes] == [
            [id] for id in range(len(tok.token_bytes))
        ]

    law()


def test_a_corpus_is_read_once_and_few_texts_at_a_time(monkeypatch):
    monkeypatch.setattr(bpe.words, "BLOCK", 60)  # characters, of three texts
    alive = 0

    class Text(str):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def texts():
        nonlocal alive
        for number in range(50):
            alive += 1
            assert alive <= 7
            yield Text(f"text {number} of fifty texts")

    assert Tokenizer.train(texts(), vocab_size=262, workers=1).vocab_size == 262


def rust_tokens(texts, num_merges, pattern):
    other = rustbpe.Tokenizer()
    other.train_from_iterator(texts, vocab_size=256 + num_merges, pattern=Splitter(pattern).source)
    return [bytes(token) for token, _ in sorted(other.get_mergeable_ranks(), key=lambda entry: entry[1])]


@pytest.mark.parametrize("pattern", [*PATTERNS, r"\p{L}+|\P{L}+"])
def test_the_rust_trainer_learns_the_same_tokens(pattern, assigned_text):
    @given(st.lists(assigned_text, max_size=6), st.integers(1, 40))
    def law(texts, num_merges):
        ours = BPETrainer(num_merges=num_merges, pattern=pattern).train(texts).token_bytes
        theirs = rust_tokens(texts, num_merges, pattern)  # goes on to pairs that occur once
        assert ours == theirs[: len(ours)]

    law()


@pytest.mark.parametrize("letters", ["a", "ab", "abcdefghijklmnopqrstuvwxyz", "你好世界", "👩🚀🎨\u200d"])
@pytest.mark.parametrize("pattern", ["qwen2", r"(?s:.+)"])
def test_the_rust_trainer_learns_the_same_tokens_from_text_without_spaces(letters, pattern):
    text = "".join(random.Random(1).choices(letters, k=5_000))
    ours = BPETrainer(num_merges=500, pattern=pattern).train([text, "the end"]).token_bytes
    assert len(ours) > 256 + 10
    assert ours == rust_tokens([text, "the end"], 500, pattern)[: len(ours)]


def test_a_vocabulary_larger_than_the_text_supports_is_refused_with_the_largest_that_is_not():
    with pytest.raises(BPEError, match=r"supports a vocabulary of at most 258, not 300"):
        Tokenizer.train(["abab ab"], vocab_size=300, special_tokens=["<|end|>"])
    for size in (257, 258):
        assert Tokenizer.train(["abab ab"], vocab_size=size, special_tokens=["<|end|>"]).vocab_size == size
    assert Tokenizer.train(["abab ab"], vocab_size=300, special_tokens=["<|end|>"], shrink=True).vocab_size == 258


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 256, "special_tokens": ["<|a|>"]}, "ask for 257 or more"),
        ({"special_tokens": ["<|a|>", "<|a|>"]}, "given twice"),
        ({"special_tokens": [""]}, "empty or not printable"),
        ({"special_tokens": ["<\ud800>"]}, "empty or not printable"),
        ({"special_tokens": ["a"]}, "also a token of plain text"),
        ({"pattern": "("}, "not a regular expression"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_text_is_read(settings, message):
    def texts():
        raise AssertionError("a text was read")
        yield ""

    with pytest.raises(BPEError, match=message):
        Tokenizer.train(texts(), **settings)


def test_a_special_token_that_plain_text_can_spell_is_refused():
    with pytest.raises(BPEError, match="'the' is also a token of plain text"):
        Tokenizer.train(["the the the"], vocab_size=259, special_tokens=["the"])


def test_an_empty_corpus_gives_the_bytes():
    assert Tokenizer.train([], vocab_size=256).vocab_size == 256
    assert Tokenizer.train(["", ""], shrink=True).merges == []


def test_any_number_of_merges_can_be_asked_for():
    assert len(BPETrainer(num_merges=10**20).train(["the the"]).merges) == 2

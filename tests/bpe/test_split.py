"""The laws of splitting text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from bpe import PATTERNS, BPEError
from bpe.split import Splitter

OWN = [r"\p{L}+", r"(a)|(b+)", r"x*", r"\s+(?!\S)", r"(?=t)", r"(?i:the)|\d{2}"]


@pytest.mark.parametrize("pattern", [*PATTERNS, *OWN])
def test_the_pieces_of_a_split_joined_are_the_text(pattern, any_text, corpus_text):
    splitter = Splitter(pattern)

    @given(st.one_of(any_text, corpus_text))
    def law(text):
        pieces = list(splitter.pieces(text))
        assert "".join(pieces) == text
        assert all(pieces)

    law()


@pytest.mark.parametrize("pattern", [*PATTERNS, *OWN])
def test_the_pieces_are_those_of_hugging_face(pattern, assigned_text):
    splitter = Splitter(pattern)
    other = pre_tokenizers.Split(Regex(splitter.source), "isolated")

    @given(assigned_text)
    def law(text):
        assert list(splitter.pieces(text)) == [piece for piece, _ in other.pre_tokenize_str(text)]

    law()


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        ("qwen2", ["It", "'S", " ", "1", "2", " o", "’clock", ",", " I", "'ll", "  ", " say", "!\n\n", "No"]),
        ("gpt2", ["It", "'", "S", " 12", " o", "’", "clock", ",", " I", "'ll", "  ", " say", "!", "\n", "\n", "No"]),
        ("gpt4", ["It", "'S", " ", "12", " o", "’clock", ",", " I", "'ll", "  ", " say", "!\n\n", "No"]),
        (r"\p{L}{2,}", ["It", "'S 12 o’", "clock", ", I'", "ll", "   ", "say", "!\n\n", "No"]),
    ],
)
def test_each_pattern_splits_as_published(pattern, pieces):
    assert list(Splitter(pattern).pieces("It'S 12 o’clock, I'll   say!\n\nNo")) == pieces


@pytest.mark.parametrize("pattern", ["(", "[a", r"\p{Nonsense}", "*"])
def test_a_pattern_that_is_no_regular_expression_is_named(pattern):
    with pytest.raises(BPEError, match=r"is not a regular expression"):
        Splitter(pattern)


@pytest.mark.parametrize("pattern", ["gpt3", "qwen", "gpt-2", "cl100k_base", ""])
def test_a_mistyped_name_is_not_taken_for_a_pattern(pattern):
    with pytest.raises(BPEError, match=r"choose one of qwen2, gpt2, gpt4, or"):
        Splitter(pattern)

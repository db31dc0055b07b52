"""How learning is shown to a reader."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bpe import Tokenizer
from bpe.first_merges import counted, first_merges
from bpe.split import Splitter
from bpe.trainer import BPETrainer
from bpe.vocabulary import Vocabulary
from bpe.words import count_words


def test_each_merge_is_shown_with_its_count_and_what_is_left():
    assert list(first_merges("the then\nthe é", 20, colour=False)) == [
        "The split pattern cuts this into 5 pieces, 4 of them different.",
        "  merge     id       times   tokens left  joins",
        "                                       15  (every byte is a token)",
        "      1    256           3            12  [h][e] -> [he]",
        "      2    257           3             9  [t][he] -> [the]",
        "No pair of tokens is left that occurs twice.",
        "15 bytes are 9 tokens now, 1.67 bytes a token.",
    ]


def test_no_more_are_shown_than_asked_for():
    lines = list(first_merges("the then\nthe é", 1, colour=False))
    assert lines[-2:] == [
        "      1    256           3            12  [h][e] -> [he]",
        "15 bytes are 12 tokens now, 1.25 bytes a token.",
    ]


def test_an_empty_text_teaches_nothing():
    assert list(first_merges("", 5, colour=False))[-1] == "No pair of tokens is left that occurs twice."


def test_counts_and_tokens_are_those_of_the_text_encoded_with_the_merges_so_far(corpus_text):
    @given(corpus_text, st.sampled_from(["qwen2", r"\S+|\s+"]))
    def law(text, pattern):
        splitter = Splitter(pattern)
        vocabulary = BPETrainer(num_merges=12, pattern=pattern).train([text])
        for number, (times, left) in enumerate(counted(count_words([text], splitter, 1), vocabulary)):
            before, after = (
                Tokenizer(Vocabulary(vocabulary.merges[:merges], vocabulary.pattern)) for merges in (number, number + 1)
            )
            pairs = [pair for piece in splitter.pieces(text) for pair in pairwise(before.encode(piece))]
            assert times == pairs.count(vocabulary.merges[number])
            assert left == len(after.encode(text))

    law()


def test_colour_shows_the_same_merges():
    plain, painted = ("\n".join(first_merges("the then\nthe", 3, colour=colour)) for colour in (False, True))
    assert "\x1b[" in painted
    assert re.sub(r"\x1b\[.*?m", "", painted) == re.sub(r"[\[\]]", "", plain)

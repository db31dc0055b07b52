"""How a word is explained to a reader."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe import BPEError, Tokenizer
from bpe.explain import explained
from bpe.split import Splitter


def test_every_merge_of_a_word_is_shown_in_the_order_it_was_learned():
    tok = Tokenizer.train(["the then the then hen"], vocab_size=259)
    assert list(explained(tok, "then thé\n", colour=False)) == [
        "The split pattern cuts this into 3 pieces: [then][ thé][⏎]",
        "",
        "[then]",
        "  merge     id  joins    the piece as it then stands",
        "                         [t][h][e][n]",
        "      1    256  [h][e]   [t][he][n]",
        "      2    257  [t][he]  [the][n]",
        "  ids: 257 110",
        "",
        "[ thé]",
        "  merge     id  joins  the piece as it then stands",
        "                       [ ][t][h][<c3>][<a9>]",
        "  ids: 32 116 104 195 169",
        "",
        "[⏎]",
        "  merge     id  joins  the piece as it then stands",
        "                       [⏎]",
        "  ids: 10",
    ]


def test_of_equal_pairs_all_are_joined_and_a_piece_is_explained_once():
    tok = Tokenizer.train(["aaaa aaaa"], vocab_size=258, pattern=r"\w+|\s")
    lines = list(explained(tok, "aaaaa aaaaa", colour=False))
    assert lines[0] == "The split pattern cuts this into 3 pieces: [aaaaa][ ][aaaaa]"
    assert lines[5:8] == [
        "      1    256  [a][a]    [aa][aa][a]",
        "      2    257  [aa][aa]  [aaaa][a]",
        "  ids: 257 97",
    ]
    assert lines.count("[aaaaa]") == 1


def test_one_piece_and_none_are_said_as_they_are(trained):
    assert next(explained(trained, "the", colour=False)) == "The split pattern cuts this into 1 piece: [the]"
    assert list(explained(trained, "", colour=False)) == ["An empty text has no pieces, and no ids."]


def test_the_ids_explained_are_those_that_encoding_gives_each_piece(tokenizers, corpus_text):
    @given(tokenizers, corpus_text)
    def law(tok, text):
        shown = [line.split()[1:] for line in explained(tok, text, colour=False) if line.startswith("  ids: ")]
        pieces = dict.fromkeys(Splitter(tok.pattern).pieces(text))
        assert shown == [[str(id) for id in tok.encode(piece)] for piece in pieces]

    law()


def test_every_step_joins_two_neighbours_of_the_one_before():
    tok = Tokenizer.train(["singing ringing bringing sing ring"], vocab_size=290, shrink=True)

    @given(st.text("singrb", min_size=1, max_size=12))
    def law(word):
        table = [line for line in explained(tok, word, colour=False) if line.endswith("]")][2:]
        before, number = table[0].split()[-1], 0
        assert before == "".join(f"[{letter}]" for letter in word)
        for line in table[1:]:
            merge, id, pair, after = line.split()
            assert number < int(merge) == int(id) - 255
            assert before.replace(pair, pair.replace("][", "")) == after
            before, number = after, int(merge)

    law()


def test_colour_explains_the_same_and_keeps_the_columns(trained):
    painted = list(explained(trained, "the then", colour=True))
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in painted]
    assert painted != plain
    table = [line for line in plain if re.match(r" +\d+ +\d+  ", line)]
    assert table
    column = plain[3].index("the piece as it then stands")
    assert all(line[column - 1] == " " and line[column] in "the " for line in table)
    assert [line.split()[:2] for line in table] == [
        line.split()[:2] for line in explained(trained, "the then", colour=False) if re.match(r" +\d+ +\d+  ", line)
    ]


def test_a_lone_surrogate_is_named(trained):
    with pytest.raises(BPEError, match=r"U\+D800\) at position 2"):
        list(explained(trained, "ab\ud800", colour=False))

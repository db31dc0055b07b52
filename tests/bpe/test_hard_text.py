"""Text that is hard to cut: every kind of blank and line end, marks, joiners, control characters, odd apostrophes.

For every split pattern: the ids are those of the definition, however they are asked for, the same as the peers', and
give the text back.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bpe.cuts
import bpe.encoder
import bpe.tokenizer
import bpe.words
from bpe import PATTERNS, BPEError, Tokenizer
from bpe.split import Splitter
from bpe.words import count_words

Encode = Callable[[Tokenizer, str], list[int]]

BLANKS = " \t\u00a0\u1680\u2002\u202f\u205f\u3000"
LINE_ENDS = ["\n", "\r\n", "\r", "\n\r", "\v", "\f", "\u0085", "\u2028", "\u2029"]
NO_BLANKS = "\u200b\u200c\u200d\u2060\u180e\ufeff\u00ad\x1c\x1f\u2800\u3164"  # they look like some; \s has none of them
CONTROLS = "\x00\x01\x07\x08\x0e\x1b\x7f\x80\x9f\u200e\u202e\ufffe\uffff\U0010ffff"
APOSTROPHES = ["'", "’", "ʼ", "＇", "''", " '", "\t'", "'\u0301", "\x00'"]
SPACED = {
    "after apostrophes": "s S ſ ſt ﬆ ß ẞ t T re RE rE Re ve Ve m M ll LL lL Ll d D K k İ ı l r ſs ta Sa ðd s\u0301 1",
    "marks": "e\u0301 \u0301 a\u0301\u0323\u0308 ı\u0307 각 \u1100\u1161\u11a8 ก\u0e33 क\u094dष ن\u064f \u20dd",
    "digits": "0 12 123 1234 1234567 ٣٤٥ १२३४ １２ ½ ² Ⅷ 𝟘𝟙 1,000.5 0x1F 一",
    "emoji": "👩\u200d🚀 👨\u200d👩\u200d👧\u200d👦 👍🏽 🏳\ufe0f\u200d🌈 🇩🇪🇫🇷🇩 1\ufe0f\u20e3 ❤\ufe0f ☺ \u200d",
    "words": "the The NASA iPhone naïve Straße Ǆ ŉ ﬁn ªº ʰ ελλάς Ёлка ꙮ don't x_y a-b --a abababababababab",
    "scripts": "你好世界 こんにちは カタカナー ปลาน้ำ עברית العربية नमस्ते አማርኛ 𐍈𐌰 𠀀𠀁",
    "signs": "! ?! ... — “ ” « $ € + ^ ` | <|end|> ￥ · \ufffd ㎏ ☃ \ue000",
}
CATALOGUE = {kind: texts.split() for kind, texts in SPACED.items()} | {
    "blanks": [*BLANKS, "  ", "   ", "\t\t", " \u00a0", "\u3000 "],
    "line ends": [*LINE_ENDS, "\n\n", "\r\n\r\n", " \n", "\n ", "!\n", " \r\n \t\r"],
    "no blanks": [*NO_BLANKS],
    "controls": [*CONTROLS, "\x00\x00", "a\x00", "\x00a"],
    "contractions": [mark + end for mark in APOSTROPHES for end in SPACED["after apostrophes"].split()],
}

# One of each kind that a pattern tells apart, and some that only look like one of them.
KINDS = "as'ſé你 \t\n\r\u00a0\u0085\u200d19½!\u0301\x00👩"


def runs(texts: Sequence[str], longest: int) -> st.SearchStrategy[str]:
    """One of `texts` over and over."""
    return st.builds(str.__mul__, st.sampled_from(texts), st.integers(1, longest))


# Pieces around the sizes at which a program might change its way: 8 and 16 bytes, 64 characters.
SIZES = st.builds(
    lambda letter, size, end: letter * (size // len(letter.encode())) + end,
    st.sampled_from(["a", "é", "你", "👩", "1", "!", " ", "\n", "\x00", "\u00a0"]),
    st.sampled_from([7, 8, 9, 14, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 66, 130]),
    st.sampled_from(["", "a", "\x00", "'", "\u0301"]),
)
HARD = st.lists(
    st.one_of(
        *(st.sampled_from(texts) for texts in CATALOGUE.values()),
        runs(CATALOGUE["blanks"], 20),
        runs(CATALOGUE["line ends"], 20),
        st.text([*BLANKS, *"\n\r\v\u0085\u2028"], max_size=6),
        st.text(KINDS, max_size=8),
        SIZES,
        st.characters(exclude_categories=["Cs", "Cn"]),
    ),
    max_size=25,
).map("".join)


def shuffled(size: int, seed: int) -> str:
    """A text of about `size` characters in which everything in the catalogue meets everything."""
    chance = random.Random(seed)
    pieces: list[str] = []
    while size > 0:
        pieces.append(chance.choice(chance.choice([*CATALOGUE.values()])) * chance.choice([1, 1, 1, 2, 9]))
        size -= len(pieces[-1])
    return "".join(pieces)


@pytest.fixture(scope="module", params=[*PATTERNS, r"\p{L}+|\d"])
def tok(request: pytest.FixtureRequest) -> Tokenizer:
    """One tokenizer for each pattern, with merges of all kinds of hard text."""
    return Tokenizer.train([shuffled(60_000, 1)], vocab_size=1200, pattern=request.param, special_tokens=["<|end|>"])


@pytest.fixture(params=[False, True], ids=["as it comes", "in blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as texts of that length are encoded and counted, once all in blocks of a few letters, as long ones are."""
    if request.param:
        for module in (bpe.encoder, bpe.tokenizer):
            monkeypatch.setattr(module, "LONG", 1)
        for module in (bpe.encoder, bpe.words):
            monkeypatch.setattr(module, "BLOCK", 11)


def assert_same(tok: Tokenizer, ids: Sequence[int], expected: Sequence[int]) -> None:
    """Say where two long lists of ids begin to differ, which pytest would take minutes to find out."""
    if list(ids) == list(expected):
        return
    both = zip(ids, expected, strict=False)
    place = next((n for n, (one, other) in enumerate(both) if one != other), min(len(ids), len(expected)))
    part = slice(max(place - 3, 0), place + 5)
    cut, right = ([tok.decode_bytes([id]) for id in some[part]] for some in (ids, expected))
    pytest.fail(f"ids differ from number {place} on: {cut}, not {right}")


def assert_all_ways_agree(tok: Tokenizer, text: str, by_definition: Encode) -> None:
    expected = by_definition(tok, text)
    assert_same(tok, tok.encode(text), expected)
    assert_same(tok, tok.encode_to_array(text).tolist(), expected)
    assert tok.decode(expected) == text


# ---- the definition ----------------------------------------------------------------------------------------------


def test_hard_text_has_the_ids_of_the_definition_and_comes_back(tok, by_definition, blocks):
    @settings(max_examples=200)
    @given(HARD)
    def law(text):
        assert_all_ways_agree(tok, text, by_definition)

    law()


def test_so_does_text_in_which_a_boundary_is_never_far(tok, by_definition, blocks):
    @settings(max_examples=200)
    @given(st.text(KINDS, max_size=40))
    @example("\n \n  a")
    @example("a  \r\n\t 's")
    @example("!\n\n \n!")
    @example(" \u00a0\u00a0a")
    @example("a'ſ'S'ſa 'ſ")
    def law(text):
        assert_all_ways_agree(tok, text, by_definition)

    law()


@pytest.mark.parametrize("length", [1, 2])
def test_every_short_text_of_all_kinds_has_the_ids_of_the_definition(length, tok, by_definition, blocks):
    for letters in product(KINDS, repeat=length):
        expected = by_definition(tok, "".join(letters))
        assert tok.encode("".join(letters)) == expected, letters


def test_all_neighbourhoods_of_four_letters_have_the_ids_of_the_definition(tok, by_definition):
    assert_all_ways_agree(tok, "".join(map("".join, product(KINDS, repeat=4))), by_definition)


@pytest.mark.slow
def test_a_long_hard_text_has_the_ids_of_the_definition_and_of_tiktoken(tok, by_definition, as_tiktoken):
    text = shuffled(400_000, 2)
    assert_all_ways_agree(tok, text, by_definition)
    assert_same(tok, tok.encode(text), as_tiktoken(tok).encode_ordinary(text))


@pytest.mark.parametrize("kind", CATALOGUE)
def test_a_long_run_of_anything_has_the_ids_of_the_definition(kind, tok, by_definition):
    """No blank, or nothing else, as far as the eye can see."""
    for text in CATALOGUE[kind]:
        assert_all_ways_agree(tok, f"the {text * 200} end", by_definition)


def test_a_special_token_parts_hard_text(tok, by_definition, blocks):
    @given(st.lists(HARD, min_size=1, max_size=4).map("<|end|>".join))
    def law(text):
        parts = (by_definition(tok, part) for part in text.split("<|end|>"))
        expected = [id for part in parts for id in (tok.special_tokens["<|end|>"], *part)][1:]
        assert tok.encode(text, allow_special=True) == expected
        assert tok.encode_to_array(text, allow_special=True).tolist() == expected

    law()


def test_a_stream_of_hard_text_is_the_text(tok):
    @given(HARD)
    def law(text):
        stream = tok.stream()
        assert "".join([*map(stream.push, tok.encode(text)), stream.finish()]) == text

    law()


@pytest.mark.parametrize("pattern", [*PATTERNS, r"\p{L}+|\d"])
def test_the_words_of_hard_texts_are_counted_as_the_definition_cuts_them(pattern, blocks):
    @given(st.lists(st.one_of(HARD, st.text(KINDS, max_size=6)), max_size=3))
    def law(texts):
        splitter = Splitter(pattern)
        expected = Counter(piece.encode() for text in texts for piece in splitter.pieces(text))
        assert count_words(texts, splitter, workers=2) == expected

    law()


@pytest.mark.parametrize(
    "text", ["\r\n", "\n\r", "\u2028", "\x00\x00", "\ufeff", "e\u0301", " \u0301", "\x1c\x1c", "ſ"]
)
def test_training_changes_nothing_in_a_text_on_the_way_in(text):
    """Nothing is stripped, translated or normalised: a pattern that takes all for one piece learns all of it."""
    tok = Tokenizer.train([text, text], vocab_size=300, pattern=r"(?s:.+)", shrink=True)
    assert tok.token_bytes[-1] == text.encode()


# ---- the peers ---------------------------------------------------------------------------------------------------


def test_tiktoken_cuts_hard_text_alike(tok, as_tiktoken):
    theirs = as_tiktoken(tok)

    @settings(max_examples=200)
    @given(HARD)
    def law(text):
        assert theirs.encode_ordinary(text) == tok.encode(text)

    law()


def test_hugging_face_cuts_hard_text_alike(tok, as_hugging_face):
    theirs = as_hugging_face(tok)
    theirs.encode_special_tokens = True

    @settings(max_examples=200)
    @given(HARD)
    def law(text):
        ids = tok.encode(text)
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text

    law()


def test_both_cut_all_neighbourhoods_of_three_letters_alike(tok, as_tiktoken, as_hugging_face):
    text = "".join(map("".join, product(KINDS, repeat=3)))
    ids = tok.encode(text)
    assert_same(tok, ids, as_tiktoken(tok).encode_ordinary(text))
    assert_same(tok, ids, as_hugging_face(tok).encode(text).ids)


# ---- surrogates --------------------------------------------------------------------------------------------------

SURROGATES = st.characters(categories=["Cs"])


@pytest.mark.parametrize(
    "use",
    [
        lambda tok, text: tok.encode(text),
        lambda tok, text: tok.encode(text, allow_special=True),
        lambda tok, text: tok.encode_to_array(text),
        lambda tok, text: Tokenizer.train([text], vocab_size=256, pattern=tok.pattern),
        lambda tok, text: Tokenizer.train(["ok", text], vocab_size=256, pattern=tok.pattern),
    ],
    ids=["encode", "encode special", "encode_to_array", "train", "train second"],
)
def test_the_first_lone_surrogate_is_named_wherever_it_stands(use, tok, blocks):
    @settings(max_examples=20)
    @given(HARD, SURROGATES, st.one_of(HARD, SURROGATES, st.just("\ude80")))
    def law(before, surrogate, after):
        with pytest.raises(BPEError, match=rf"\(U\+{ord(surrogate):04X}\) at position {len(before)},") as caught:
            use(tok, before + surrogate + after)
        assert "\n" not in str(caught.value)

    law()

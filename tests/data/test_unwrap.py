"""Laws of unwrapping: wrapped prose becomes paragraphs, and line breaks that were meant stay."""

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.unwrap import blocks_of, paragraphs


def unwrapped(text: str) -> str:
    return "\n\n".join(paragraphs(blocks_of(text)))


def test_a_table_keeps_its_lines_even_in_small_letters() -> None:
    inside = "whale,        English.\nhval,         Danish.\nballena,      Spanish."
    assert unwrapped(inside) == "whale, English.\nhval, Danish.\nballena, Spanish."


def test_prose_set_narrower_than_the_page_is_joined_too() -> None:
    narrow = (
        "Dear sister, the house on the hill is\nsold, the dog has gone to live with the\n"
        "miller, and I am writing this upon the\nstairs, which are the last chair."
    )
    assert unwrapped(narrow) == narrow.replace("\n", " ")


def test_verse_keeps_its_lines_even_where_one_runs_on_in_small_letters() -> None:
    verse = "The tide went out,\nand with it went the boat;\nThe tide came in,\nand nothing was afloat."
    assert unwrapped(verse) == verse


WORDS = st.lists(
    st.sampled_from(
        ["the", "ship", "went", "slowly", "over", "a", "dark", "sea", "and", "nobody", "saw", "it", "but", "one"]
    ),
    min_size=30,
)


@settings(max_examples=50)
@given(written=st.lists(WORDS, min_size=1, max_size=5), width=st.integers(50, 78))
def test_unwrapping_undoes_wrapping(written: list[list[str]], width: int) -> None:
    prose = [" ".join(words) for words in written]
    filler = textwrap.fill("and then they all went home to the house on the hill " * 40, width)  # shows the width
    wrapped = "\n\n".join([filler, *(textwrap.fill(text, width) for text in prose)])
    assert unwrapped(wrapped).split("\n\n")[1:] == prose


def test_a_word_divided_at_a_line_end_is_closed_up_as_the_book_writes_it_elsewhere() -> None:
    inside = (
        "He was a well-known man, and something of a sailor, it was said by a some-\n"
        "thing of a well-\nknown kind, with a never-\nending pipe."
    )
    assert "a something of a well-known kind, with a never-ending pipe." in unwrapped(inside)


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("was the husband's--", "execution", "husband's--execution"),
        ("was the husband's", "--execution", "husband's--execution"),
        ("was the husband's —", "execution", "husband's — execution"),
        ("went away to L----", "and came back", "L---- and came"),
        ('was the word of the king."', "--HAMLET", 'king." --HAMLET'),
    ],
)
def test_dashes_at_a_line_end_keep_the_blanks_they_had(first: str, second: str, joined: str) -> None:
    line = f"A long line of quiet prose, that fills the page so that it {first}"
    wrapped = f"{line}\n{second} of it all, and that was all that anybody ever said of it to\nthe king."
    assert joined in unwrapped(wrapped)

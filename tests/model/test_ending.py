"""Laws of how a story stops: what sentences are, and that what was shown stays and ends where the definition says."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.ending import ENDINGS, FINISH, HELD, Closing, Ending, sentence_ends

WORDS = [
    "She",
    " ran",
    " he",
    " Mr",
    ".",
    "!",
    "?",
    "...",
    '"',
    "”",
    "“",
    "'",
    ")",
    "\n",
    " ",
    " * * *",
    " ran. No! He",
]
pieces = st.lists(st.sampled_from(["", *WORDS]), max_size=60)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("She ran. He fell", ["She ran."]),
        ("Why? Now! Oh?! Well... So… End", ["Why?", " Now!", " Oh?!", " Well...", " So…"]),
        ('"Wait." Then', ['"Wait."']),
        ("“Wait!” Then", ["“Wait!”"]),
        ("(He left.) She [too.] And 'so.' On", ["(He left.)", " She [too.]", " And 'so.'"]),
        ('"Wait!" he cried. She', ['"Wait!" he cried.']),  # what goes on in lower case has not ended
        ('"I saw it. It was red." Then', ['"I saw it. It was red."']),  # speech is not left open
        ("“I saw it. It was red.” Then", ["“I saw it. It was red.”"]),
        ('"I saw it. It was red\nShe ran. He', ['"I saw it. It was red', "\nShe ran."]),  # but ends with its paragraph
        ("Mr. Fox met Mrs. Hen and J. R. Crow. Then", ["Mr. Fox met Mrs. Hen and J. R. Crow."]),
        ("It was I. Then", ["It was I."]),
        ("It cost 3.50 at e.g. shops. Then", ["It cost 3.50 at e.g. shops."]),
        ("Dear Ann,\nI am well", ["Dear Ann,"]),
        ("She ran.\n\n* * *\n\nHe fell", ["She ran."]),  # a scene break ends nothing
        ("She ran. ", ["She ran."]),
        ("no end", []),
        ("", []),
    ],
)
def test_a_sentence_is_what_a_reader_takes_for_one(text: str, sentences: list[str]):
    ends = [0, *sorted(set(sentence_ends(text)))]
    assert [text[start:end] for start, end in pairwise(ends)] == sentences


@given(pieces, st.integers(0, 40))
def test_ends_are_found_alike_from_anywhere_and_stay_ends_as_the_text_grows(words: list[str], start: int):
    text = "".join(words)
    for in_speech in (False, True):
        ends = list(sentence_ends(text, in_speech=in_speech))
        assert list(sentence_ends(text, start, in_speech=in_speech)) == [end for end in ends if end >= start]
        certain = {end for end in ends if text[end:].strip()}
        assert certain <= set(sentence_ends(text + " And", in_speech=in_speech))
    assert set(sentence_ends(text)) <= set(sentence_ends(text, in_speech=True))


def closed(words: list[str], ending: Ending, max_tokens: int) -> tuple[str, int]:
    """The definition: the text that stays of a story of these tokens' texts, and how many of them are taken."""
    held = len("".join(words[: max(0, max_tokens - HELD - 1)]))  # shown as it came
    limit = "".join(words[:max_tokens]).rstrip()
    if ending == "cut" and len(words) >= max_tokens:
        return "".join(words[:max_tokens]), max_tokens
    for taken in range(max_tokens, 1 + min(len(words), max_tokens + (FINISH if ending == "finish" else 0))):
        text = "".join(words[:taken])
        for end in sentence_ends(text, max(held, len(limit))):
            if text[end:].strip() or "\n" in text[end:]:
                return text[:end], taken
    if len(words) < max_tokens + (FINISH if ending == "finish" else 0):
        return "".join(words), len(words)
    text = "".join(words[: max_tokens + (FINISH if ending == "finish" else 0)])
    ends = list(sentence_ends(text, held)) or list(sentence_ends(text, held, in_speech=True))
    return text[: max(held, ends[-1] if ends else len(limit))], max_tokens + (FINISH if ending == "finish" else 0)


@given(words=st.lists(st.sampled_from(["", *WORDS]), max_size=20), data=st.data())
def test_what_is_shown_piece_by_piece_is_what_the_definition_leaves(words: list[str], data: st.DataObject):
    times = data.draw(st.sampled_from([1, 3, 10]))
    ending = data.draw(st.sampled_from(ENDINGS))
    max_tokens = data.draw(st.integers(1, 1 + times * len(words)))
    words = words * times
    closing, shown, taken = Closing(ending, max_tokens), "", 0
    for word in words:
        shown += closing.push(word)
        taken += 1
        assert "".join(words[:taken]).startswith(shown)
        if closing.over:
            break
    if not closing.over:
        shown += closing.end()
    assert (shown, taken) == closed(words, ending, max_tokens)


def told(ending: Ending, max_tokens: int, text: str) -> str:
    """What stays of a story whose tokens are the text's characters."""
    closing, shown = Closing(ending, max_tokens), ""
    for letter in text:
        shown += closing.push(letter)
        if closing.over:
            return shown
    return shown + closing.end()


def test_the_three_endings():
    text = 'She ran. "Wait," he said. "I am coming. Do not go." Then'
    assert told("cut", 35, text) == 'She ran. "Wait," he said. "I am com'
    assert told("trim", 35, text) == 'She ran. "Wait," he said.'
    assert told("finish", 35, text) == 'She ran. "Wait," he said. "I am coming. Do not go."'
    assert told("finish", 8, text) == told("finish", 9, text) == "She ran."  # after the mark, after the blank
    assert told("finish", 10, text) == 'She ran. "Wait," he said.'
    assert told("finish", 99, text) == told("trim", 99, text) == told("cut", 99, text) == text


def test_a_sentence_that_is_not_finished_soon_is_left_out_and_one_without_end_is_cut():
    endless = "and " * 100
    assert told("finish", 35, "She ran. He fell " + endless) == "She ran."
    assert told("finish", 35, '"She ran. He fell ' + endless) == '"She ran.'  # rather open speech than half a sentence
    assert told("finish", 35, endless) == told("trim", 35, endless) == endless[:35]


def test_speech_is_closed_even_where_the_limit_falls_before_the_quotation_mark():
    assert told("finish", 12, '"I am coming." Then') == '"I am coming."'
    assert told("finish", 13, '"I am coming." he said. Then') == '"I am coming." he said.'


def test_text_is_shown_at_once_until_near_the_limit_and_then_by_sentences():
    closing = Closing("trim", 10 + HELD)
    assert [closing.push(letter) for letter in "She ran ho"] == [*"She ran h", ""]
    assert [closing.push(letter) for letter in "me. He f"] == ["", "", "", "", "ome.", "", "", ""]
    assert closing.end() == " He f"


def test_what_was_given_is_never_trimmed():
    closing = Closing("trim", 4, beginning="Once. A ship")
    assert [closing.push(word) for word in (" sank", " and", " the", " man")] == ["", "", "", " sank and the man"]


def test_where_nothing_but_what_was_given_ends_a_sentence_the_story_is_cut():
    closing = Closing("trim", 4, beginning="Once. A ship sank.")
    assert [closing.push(word) for word in (" And", " the", " man", " swam")] == ["", "", "", " And the man swam"]


def test_of_a_token_of_several_sentences_those_are_shown_that_are_wanted():
    closing = Closing("finish", 2)
    assert [closing.push(word) for word in ("One. Two. She", " ran", ". He fell. The")] == [
        "One. Two.",
        "",
        " She ran.",
    ]

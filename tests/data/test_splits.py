"""Laws of holding out: nothing on both sides, nothing lost, and the same choice every time."""

import logging
import random
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.documents import Document, Pair, Split, warn_once
from data.errors import DataError
from data.splits import FEW, HELD_OUT, keep_documents_apart, keep_pairs_apart, shingles, split_documents, split_pairs

WORDS = [a + b for a in "bdfklmnprst" for b in ("a", "ole", "im", "undo", "arvel", "ike", "ost")]


def story(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(f"{seed}").choices(WORDS, k=words))


def documents(count: int) -> list[Document]:
    return [Document(f"{number}", f"{story(number)}\n\n{story(-number - 1)}") for number in range(count)]


def pairs(count: int) -> list[Pair]:
    return [Pair(f"prompt {number % (count // 2)}", story(number)) for number in range(count)]


def side(split: Split, examples: Iterator[tuple[Split, object]]) -> list[object]:
    return [example for name, example in examples if name == split]


@settings(max_examples=30)
@given(st.integers(1, FEW - 1), st.integers(1, 300))
def test_of_few_documents_the_end_of_each_is_held_out(count: int, words: int) -> None:
    given_ = [Document(str(number), story(number, words)) for number in range(count)]
    marked = list(split_documents(given_))
    for document in given_:
        train, valid = (
            "".join(part.text for name, part in marked if name == split and part.name == document.name)
            for split in ("train", "valid")
        )
        assert (train + valid).replace(" ", "") == document.text.replace(" ", "")
        assert valid and len(train) >= len(document.text) // 2 - 1
        if words > 100:
            assert len(valid) <= 2 * HELD_OUT * len(document.text)


def test_the_held_out_end_starts_with_a_paragraph_where_there_is_one() -> None:
    text = "\n\n".join([story(number) for number in range(50)])
    (_, train), (_, valid) = split_documents([Document("book", text)])
    assert f"{train.text}\n\n{valid.text}" == text


@pytest.mark.parametrize("lines", [1, 20, 100])
def test_a_blank_line_far_from_the_end_does_not_make_more_of_it_held_out(lines: int) -> None:
    """As in texts of one line a paragraph, with blank lines between chapters only."""
    chapter = "\n".join(story(number, 30) for number in range(lines))
    text = f"{chapter}\n\n{chapter[: len(chapter) * 4 // 5]}"
    (_, train), (_, valid) = split_documents([Document("book", text)])
    assert HELD_OUT * len(text) <= len(valid.text) + 1 <= 2 * HELD_OUT * len(text) + 1
    if lines > 1:
        assert f"{train.text}\n{valid.text}" == text  # the nearest paragraph's end


def test_a_text_of_one_letter_is_no_trouble() -> None:
    assert side("valid", split_documents([Document("a", "a")])) == [Document("a", "a")]


@pytest.mark.parametrize("count", [FEW, FEW + 1, 400])
def test_of_many_documents_some_are_held_out_whole_and_none_is_lost(count: int) -> None:
    marked = list(split_documents(iter(documents(count))))
    assert [document for _, document in marked] == documents(count)
    valid = side("valid", iter(marked))
    assert 1 <= len(valid) <= max(2, 2 * HELD_OUT * count)
    assert marked == list(split_documents(documents(count)))


@pytest.mark.parametrize("count", [FEW - 1, 2 * FEW])
def test_of_wide_letters_no_more_is_held_than_the_bytes_of_the_documents_that_are_not_out_yet(count: int) -> None:
    size = 100_000
    long = (Document(str(number), "—" + "a" * (size - number)) for number in range(count))  # 2 bytes a letter
    tracemalloc.start()
    try:
        names = set[str]()
        for _, document in split_documents(long):
            names.add(document.name)
            waiting = max(0, min(FEW, count) - len(names))
            assert tracemalloc.get_traced_memory()[0] < size * (
                waiting + 6
            )  # this one is 2, and cut in two as much again
        assert tracemalloc.get_traced_memory()[1] < size * (FEW + 8)
    finally:
        tracemalloc.stop()


def test_what_is_held_out_hangs_on_the_text_and_not_on_the_name() -> None:
    renamed = [Document("other", document.text) for document in documents(200)]
    texts = [
        {document.text for document in side("valid", split_documents(those))} for those in (documents(200), renamed)
    ]
    assert texts[0] == texts[1]


def test_a_copy_of_a_held_out_document_never_stands_on_the_other_side() -> None:
    twice = [*documents(FEW), *documents(FEW)]
    marked = list(split_documents(twice))
    assert not {d.text for n, d in marked if n == "valid"} & {d.text for n, d in marked if n == "train"}


def test_at_most_a_few_documents_are_held() -> None:
    taken = 0

    def counted() -> Iterator[Document]:
        nonlocal taken
        for document in documents(100):
            taken += 1
            yield document

    next(split_documents(counted()))
    assert taken == FEW


def test_a_given_split_of_documents_is_kept_and_copies_leave_the_training_side() -> None:
    train, valid = documents(30)[:25], documents(30)[20:]
    marked = list(keep_documents_apart(train, valid))
    assert side("valid", iter(marked)) == valid
    assert side("train", iter(marked)) == train[:20]


def test_no_prompt_stands_on_both_sides() -> None:
    marked = list(split_pairs(lambda: pairs(400)))
    train, valid = ({pair.prompt for name, pair in marked if name == split} for split in ("train", "valid"))
    assert train and valid and not train & valid
    assert len(marked) == 400
    assert len(valid) < 3 * HELD_OUT * 200


@pytest.mark.parametrize(
    "spelled", [str.upper, lambda p: f"  {p} ", lambda p: f"{p}!", lambda p: p.replace(" ", "  "), lambda p: f"'{p}'."]
)
def test_a_prompt_in_other_spelling_is_the_same_prompt(spelled: Callable[[str], str]) -> None:
    valid = [Pair("A man in a sinking ship", story(1))]
    train = [Pair(spelled("A man in a sinking ship"), story(2)), Pair("A woman", story(3))]
    assert side("train", keep_pairs_apart(train, valid)) == train[1:]


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 3), st.sampled_from(["whole", "within", "part", "edited"]))
def test_a_near_copy_of_a_held_out_story_is_left_out_of_training(seed: int, position: int, kind: str) -> None:
    held_out = [Pair(f"held {number}", story(seed + number, 200)) for number in range(4)]
    words = held_out[position].story.split()
    copies = {
        "whole": " ".join(words).upper(),
        "within": f"{story(-seed - 1, 1000)}. {' '.join(words)}",
        "part": " ".join(words[60:140]),
        "edited": " ".join("so" if number % 30 == 0 else word for number, word in enumerate(words)),
    }
    train = [Pair("new", copies[kind]), Pair("other", story(-seed - 2, 300))]
    assert side("train", keep_pairs_apart(train, held_out)) == train[1:]


def test_how_many_leaks_were_left_out_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    held_out = [Pair("held", story(1))]
    train = [Pair("HELD", story(2)), Pair("new", story(1)), Pair("other", story(3))]
    with caplog.at_level(logging.WARNING, "data"):
        for _ in range(2):
            list(keep_pairs_apart(train, held_out))
    assert caplog.messages == [
        "left out of training: 1 pairs with a held-out prompt, 1 near-copies of held-out stories"
    ]


def test_a_phrase_in_common_does_not_make_a_copy() -> None:
    phrase = "once upon a time in a land far far away there lived"
    held_out = [Pair("held", f"{phrase} {story(1, 200)}")]
    train = [Pair("new", f"{phrase} {story(2, 200)}")]
    assert side("train", keep_pairs_apart(train, held_out)) == train


def test_two_prompts_are_enough_and_one_is_an_error() -> None:
    two = [Pair("one", story(1)), Pair("two", story(2))]
    assert sorted(name for name, _ in split_pairs(lambda: two)) == ["train", "valid"]
    with pytest.raises(DataError, match="two different prompts"):
        list(split_pairs(lambda: [*two[:1], Pair("ONE", story(3))]))


def test_stories_without_eight_words_still_compare() -> None:
    assert len(shingles("")) == 0
    assert len(shingles("too short")) == 1
    held_out = [Pair("held", "The end."), Pair("none", "...")]
    train = [Pair("new", "the end"), Pair("other", "the beginning"), Pair("dots", "?!")]
    assert side("train", keep_pairs_apart(train, held_out)) == train[1:]

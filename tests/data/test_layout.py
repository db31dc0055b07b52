"""Laws of the layout: what stands around a text, and how windows cover it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe import Tokenizer
from data.errors import DataError
from data.layout import (
    END,
    MIN_CONTEXT,
    PROMPT,
    SPECIAL_TOKENS,
    STORY,
    body_start,
    document_tokens,
    fit_header,
    max_header,
    pair_tokens,
    prompt_tokens,
    windows,
)

contexts = st.integers(MIN_CONTEXT, 40)
lengths = st.integers(0, 300)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int]:
    """A length, a header and a context that belong together."""
    context = draw(contexts)
    header = draw(st.integers(0, max_header(context)))
    return draw(st.integers(header, 300)), header, context


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer.train(["the ship sank, the man swam"], vocab_size=262, special_tokens=SPECIAL_TOKENS)


def seen(start: int, stop: int, header: int) -> list[int]:
    """Indices of the input tokens of a window."""
    return [*range(header if start else 0), *range(start, stop)]


@given(layout=layouts())
def test_every_token_after_the_header_is_scored_exactly_once_and_in_order(layout):
    length, header, _ = layout
    scored = [i for window in windows(*layout) for i in range(window.scored_from, window.stop + 1)]
    assert scored == list(range(max(1, header), length))


@given(layout=layouts())
def test_no_window_holds_more_than_the_context_or_a_token_twice(layout):
    _, header, context = layout
    for window in windows(*layout):
        inputs = seen(window.start, window.stop, header)
        assert len(inputs) <= context
        assert len(set(inputs)) == len(inputs)


@given(layout=layouts())
def test_all_windows_but_the_last_are_full(layout):
    _, header, context = layout
    for window in list(windows(*layout))[:-1]:
        assert len(seen(window.start, window.stop, header)) == context


@given(layout=layouts())
def test_a_scored_token_sees_the_header_and_at_least_half_of_what_that_leaves(layout):
    _, header, context = layout
    for window in windows(*layout):
        for position in range(window.scored_from, window.stop + 1):
            inputs = seen(window.start, position, header)
            assert inputs[:header] == list(range(header))
            assert len(inputs) - header >= min(position - header, (context - header) // 2)
            assert inputs[-1] == position - 1


@given(layout=layouts())
def test_generation_sees_what_evaluation_sees(layout):
    """A story that grows token by token stands in the windows in which it is scored when it is whole."""
    _, header, context = layout
    for window in windows(*layout):
        for position in range(window.scored_from, window.stop + 1):
            assert body_start(position, header, context) == window.start


@given(header=st.integers(0, 20), context=st.integers(40, 80))
def test_the_start_of_the_body_only_moves_when_the_window_is_full(header, context):
    starts = [body_start(position, header, context) for position in range(1, 300)]
    for position, (before, after) in enumerate(pairwise(starts), 2):
        moved = after != before
        assert moved == (position - before + (header if before else 0) > context)


@pytest.mark.parametrize("length", [0, 1])
def test_a_document_in_which_nothing_follows_anything_has_no_window(length):
    assert list(windows(length, 0, 16)) == []


def test_a_short_document_is_one_window():
    assert list(windows(17, 0, 16)) == [(0, 1, 16)]
    assert [window.start for window in windows(18, 0, 16)] == [0, 9]


def test_a_context_without_room_for_a_story_is_refused():
    with pytest.raises(DataError, match=f"context of {MIN_CONTEXT - 1} tokens .* take {MIN_CONTEXT} or more"):
        list(windows(20, 3, MIN_CONTEXT - 1))


def test_a_document_stands_between_two_ends(tok):
    end = tok.special_tokens[END]
    tokens = document_tokens(tok, tok.encode_to_array("the man"))
    assert tokens.tolist() == [end, *tok.encode("the man"), end]
    assert tokens.dtype == tok.dtype


def test_a_pair_is_end_prompt_story_end(tok):
    end, prompt, story = (tok.special_tokens[token] for token in (END, PROMPT, STORY))
    header = [end, prompt, *tok.encode("a ship"), story]
    assert prompt_tokens(tok, tok.encode("a ship")) == header
    assert pair_tokens(tok, header, tok.encode_to_array("the man")).tolist() == [*header, *tok.encode("the man"), end]


def test_special_tokens_in_a_text_are_plain_text(tok):
    inside = f"the {END}{STORY} man"
    assert set(document_tokens(tok, tok.encode_to_array(inside))[1:-1]).isdisjoint(tok.special_tokens.values())
    assert tok.decode(prompt_tokens(tok, tok.encode(inside))[2:-1]) == inside


@given(prompt=st.text(alphabet="the sipman", max_size=60), context=contexts)
def test_a_long_prompt_is_cut_at_its_end_the_same_way_in_training_and_generation(tok, prompt, context):
    header = len(prompt_tokens(tok, tok.encode(prompt)))
    tokens = pair_tokens(tok, prompt_tokens(tok, tok.encode(prompt)), tok.encode_to_array("the man"))
    fitted, fitted_header = fit_header(tokens, header, context)
    cut = prompt_tokens(tok, tok.encode(prompt), max_tokens=max_header(context))
    assert fitted[:fitted_header].tolist() == cut
    assert len(cut) <= context // 2
    assert cut[-1] == tok.special_tokens[STORY]
    assert cut[:-1] == tokens[: len(cut) - 1].tolist()
    assert np.array_equal(fitted[fitted_header:], tokens[header:])


def test_a_tokenizer_without_our_special_tokens_is_refused():
    foreign = Tokenizer.train(["the ship"], vocab_size=256)
    with pytest.raises(DataError, match=rf"{foreign.fingerprint} has no <\|endoftext\|>.*--stage tokenizer"):
        document_tokens(foreign, foreign.encode_to_array("the ship"))

"""How a document, or a prompt and its story, stands in tokens, and in windows of a model's context.

In: the ids of texts, or a count of them.  Out: ids with the project's special tokens around them, and `Window`s.

    a document      <|endoftext|> text <|endoftext|>
    a pair          <|endoftext|> <|prompt|> prompt <|story|>  story <|endoftext|>
                    '------------- header -----------------'

A model sees at most `context` tokens at once. What is longer goes on in a further window: the header again (a pair's;
a document has none), then half a window of what came before, which is read but not scored, then what is new. Training
on pairs, evaluation and generation take their windows from `body_start`, so the model meets one layout everywhere.

    context 8, header 2, 15 tokens      h h a b c d e f g h i j k l m
    first window, inputs 0-7            h h a b c d e f                   predicts a b c d e f g
    next, body from p - keep = 6        h h         e f g h i j           predicts h i j k
    next, body from 10                  h h                 i j k l       predicts l m
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bpe import Tokenizer
from bpe.block_encoder import Ids
from data.errors import DataError

END = "<|endoftext|>"
PROMPT = "<|prompt|>"
STORY = "<|story|>"
SPECIAL_TOKENS = (END, PROMPT, STORY)

MIN_CONTEXT = 8  # the least in which a header of END, PROMPT and STORY leaves half of the window to the story


class Window(NamedTuple):
    """One stretch of a document as a model sees it: the header, unless `start` is 0, then tokens[start:stop].

    start, stop: the body's input tokens. After each input stands the prediction of the token that follows it, so the
    body's targets are tokens[start + 1 : stop + 1]; those from index `scored_from` on are scored, none before.
    """

    start: int
    scored_from: int
    stop: int


def document_tokens(tok: Tokenizer, text: Ids) -> Ids:
    """The ids of a document, an array of `tok.dtype`: END, the text's ids, END; the first of them follows an END."""
    end = np.array([special_id(tok, END)], tok.dtype)
    return np.concatenate([end, text, end])


def prompt_tokens(tok: Tokenizer, prompt: Sequence[int], max_tokens: int | None = None) -> list[int]:
    """The ids that a story follows: END, PROMPT, the prompt's ids, STORY.

    max_tokens: cut the prompt's end so that no more ids than this come out. Generation passes `max_header` of the
    model's context; training and evaluation cut in the same way (`fit_header`).
    """
    header = [special_id(tok, END), special_id(tok, PROMPT), *prompt, special_id(tok, STORY)]
    return header if max_tokens is None or len(header) <= max_tokens else [*header[: max_tokens - 1], header[-1]]


def plain_prompt(prompt: str) -> str:
    """The text of a prompt for a model that has read nothing but plain documents: a blank line follows it."""
    return f"{prompt}\n\n"


def plain_prompt_tokens(tok: Tokenizer, prompt: Sequence[int]) -> list[int]:
    """What such a model is given before a story: END, the ids of the plain prompt."""
    return [special_id(tok, END), *prompt]


def pair_tokens(tok: Tokenizer, header: Sequence[int], story: Ids) -> Ids:
    """The ids of a pair, an array of `tok.dtype`: the header (`prompt_tokens`, uncut), the story's ids, END."""
    end = [special_id(tok, END)]
    return np.concatenate([np.array(header, tok.dtype), story, np.array(end, tok.dtype)])


def special_id(tok: Tokenizer, token: str) -> int:
    """The id of one of SPECIAL_TOKENS. Raises DataError for a tokenizer that was trained without it."""
    try:
        return tok.special_tokens[token]
    except KeyError:
        raise DataError(
            f"the tokenizer {tok.fingerprint} has no {token}, which ends a story or sets off its prompt; train one "
            "with --stage tokenizer"
        ) from None


def check_context(context: int) -> None:
    """Raise DataError for a context under MIN_CONTEXT."""
    if context < MIN_CONTEXT:
        raise DataError(
            f"a context of {context} tokens is too short for a prompt and a story; take {MIN_CONTEXT} or more"
        )


def max_header(context: int) -> int:
    """The most tokens of a window that a header may take: half. A longer prompt is cut at its end, STORY stays last."""
    return context // 2


def fit_header(tokens: Ids, header: int, context: int) -> tuple[Ids, int]:
    """A pair's tokens and header length for windows of `context`: the prompt's end is cut where it takes too much.

    Token files keep prompts whole, so that they serve every context.
    """
    fitted = min(header, max_header(context))
    if fitted == header:
        return tokens, header
    return np.concatenate([tokens[: fitted - 1], tokens[header - 1 :]]), fitted


def body_start(position: int, header: int, context: int) -> int:
    """Where the body of the window starts in which the token at index `position` is predicted.

    0: it is the first window, which holds the document from its start, header and all. Otherwise the inputs are the
    first `header` tokens and then tokens[body_start : position]; at least half of what the header leaves is body.
    header: tokens at the start that every window repeats, at most `max_header(context)`; 0 for a plain document.
    Raises DataError for a context under MIN_CONTEXT.
    """
    if header > max_header(context):
        raise ValueError(f"a header of {header} tokens was not fitted to a context of {context}")
    check_context(context)
    if position <= context:
        return 0
    body = context - header
    keep = body // 2  # what is read again, unscored
    fresh = body - keep + 1  # the last input of a window predicts one token more
    return context + 1 + (position - context - 1) // fresh * fresh - keep


def windows(length: int, header: int, context: int) -> Iterator[Window]:
    """The windows of a document of `length` tokens, in order; each token from max(1, header) on is scored once.

    header, context and what is raised: see `body_start`. A document of fewer than two tokens has no window.
    """
    scored_from = max(1, header)
    while scored_from < length:
        start = body_start(scored_from, header, context)
        room = context - header if start else context
        stop = min(start + room, length - 1)
        yield Window(start, scored_from, stop)
        scored_from = stop + 1

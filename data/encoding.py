"""Documents and pairs -> ids.

In: a stream of examples, each with its split.  Out: the same examples in the same order, as ids; a few at a time are in
memory, of long ones one. The ids never depend on the number of workers.
"""

import functools
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from itertools import groupby

from bpe import Tokenizer
from bpe.block_encoder import Ids
from bpe.encoder import SHARED
from bpe.threads import in_threads
from data.documents import Document, Pair, Split
from data.layout import document_tokens, pair_tokens, plain_prompt_tokens, prompt_tokens

Example = tuple[Split, Document | Pair]


class PlainPair(Pair):
    """A pair for a model that knows no prompts yet: its prompt stands before the story as plain text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as ids."""

    split: Split
    tokens: Ids
    header: int  # tokens at its start that are never scored: a pair's prompt; 0 for a document
    num_bytes: int  # UTF-8 bytes of the text, or of the story


def encode_example(tok: Tokenizer, example: Example, workers: int = 1) -> Encoded:
    """The ids of one example, as data/layout.py lays it out. Raises BPEError for a lone surrogate.

    workers: processes that share a long document.
    """
    split, content = example
    if isinstance(content, Pair):
        lay_out = plain_prompt_tokens if isinstance(content, PlainPair) else prompt_tokens
        header = lay_out(tok, content.prompt)
        return Encoded(split, pair_tokens(tok, header, content.story), len(header), len(content.story.encode()))
    return Encoded(split, document_tokens(tok, content.text, workers), 0, len(content.text.encode()))


def encoded(examples: Iterable[Example], tok: Tokenizer, workers: int | None = None) -> Generator[Encoded, None, None]:
    """The examples as ids, in order; those without text are left out.

    workers: threads that encode an example each, or processes that share a long document; None: one for each core.
    Raises BPEError for a lone surrogate.
    """
    workers = workers or os.cpu_count() or 1
    for long, some in groupby(filter(_has_text, examples), _is_long):
        if long:
            yield from (encode_example(tok, example, workers) for example in some)
        else:
            yield from in_threads(functools.partial(encode_example, tok), some, workers)


def _has_text(example: Example) -> bool:
    _, content = example
    return bool(content.story if isinstance(content, Pair) else content.text)


def _is_long(example: Example) -> bool:
    _, content = example
    return isinstance(content, Document) and len(content.text) > SHARED

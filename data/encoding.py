"""Documents and pairs -> ids, on as many cores as there are.

In: a stream of examples, each with its split.  Out: the same examples in the same order, as ids; a few at a time are in
memory. The ids never depend on the number of processes.
"""

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from queue import SimpleQueue
from typing import Any

from bpe import Tokenizer
from bpe.errors import UserError
from bpe.tokenizer import Ids
from bpe.workers import Worker
from data.documents import Document, Pair, Split
from data.layout import document_tokens, pair_tokens, plain_prompt_tokens, prompt_tokens

Example = tuple[Split, Document | Pair]

PORTION = 1 << 20  # characters that go to a process at a time, or one document if that is longer


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


def encode_example(tok: Tokenizer, example: Example) -> Encoded:
    """The ids of one example, as data/layout.py lays it out. Raises BPEError for a lone surrogate."""
    split, content = example
    if isinstance(content, Pair):
        lay_out = plain_prompt_tokens if isinstance(content, PlainPair) else prompt_tokens
        header = lay_out(tok, content.prompt)
        return Encoded(split, pair_tokens(tok, header, content.story), len(header), len(content.story.encode()))
    return Encoded(split, document_tokens(tok, content.text), 0, len(content.text.encode()))


def encoded(examples: Iterable[Example], tok: Tokenizer, workers: int | None = None) -> Generator[Encoded, None, None]:
    """The examples as ids, in order; those without text are left out.

    workers: processes that encode; None: one for each core. A text of a few portions is encoded in this process.
    Raises BPEError for a lone surrogate, WorkerEnded when a process ends too soon.
    """
    workers = workers or os.cpu_count() or 1
    coming = portions(examples)
    first = list(islice(coming, 2 * workers))
    if workers == 1 or len(first) < 2 * workers:
        for portion in chain(first, coming):
            yield from (encode_example(tok, example) for example in portion)
        return
    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(workers))  # each waits for one process at a time
        idle = SimpleQueue[Worker]()
        for _ in range(workers):
            worker = stack.enter_context(Worker(encode_portions))
            worker.send(tok)
            idle.put(worker)

        def encode(portion: list[Example]) -> list[Encoded]:
            worker = idle.get()
            try:
                worker.send(portion)
                answer: list[Encoded] | UserError = worker.receive()
            finally:
                idle.put(worker)
            if isinstance(answer, UserError):
                raise answer
            return answer

        pending: deque[Future[list[Encoded]]] = deque()
        for portion in chain(first, coming):
            pending.append(threads.submit(encode, portion))
            if len(pending) > workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def portions(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """The examples that have text, in lists of about PORTION characters."""
    portion: list[Example] = []
    characters = 0
    for example in examples:
        _, content = example
        text = content.story if isinstance(content, Pair) else content.text
        if not text:
            continue
        portion.append(example)
        characters += len(text)
        if characters >= PORTION:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion


def encode_portions(messages: Iterator[Any]) -> Iterator[list[Encoded] | UserError]:
    """A worker's work. In: a tokenizer, then portions.  Out: each portion as ids, or what is wrong with it."""
    tok: Tokenizer = next(messages)
    for portion in messages:
        answer: list[Encoded] | UserError
        try:
            answer = [encode_example(tok, example) for example in portion]
        except UserError as error:
            answer = error
        yield answer

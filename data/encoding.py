"""Documents and pairs -> ids, on as many cores as there are.

In: a stream of examples, each with its split.  Out: the same examples in the same order, as ids; a few at a time are in
memory. The ids never depend on the number of processes.
"""

import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain

from bpe import Tokenizer
from data.documents import Document, Pair, Split
from data.layout import Ids, document_tokens, pair_tokens, prompt_tokens

Example = tuple[Split, Document | Pair]

PORTION = 1 << 20  # characters that go to a process at a time, or one document if that is longer


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
        header = len(prompt_tokens(tok, content.prompt))
        return Encoded(split, pair_tokens(tok, content.prompt, content.story), header, len(content.story.encode()))
    return Encoded(split, document_tokens(tok, content.text), 0, len(content.text.encode()))


def encoded(examples: Iterable[Example], tok: Tokenizer, workers: int | None = None) -> Generator[Encoded, None, None]:
    """The examples as ids, in order; those without text are left out.

    workers: processes that encode; None: one for each core. A text of a few portions is encoded in this process.
    """
    workers = workers or os.cpu_count() or 1
    coming = portions(examples)
    first = [portion for portion, _ in zip(coming, range(2 * workers), strict=False)]
    if workers == 1 or len(first) < 2 * workers:
        for portion in chain(first, coming):
            yield from (encode_example(tok, example) for example in portion)
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(tok,))
    try:
        pending: deque[Future[list[Encoded]]] = deque()
        for portion in chain(first, coming):
            pending.append(pool.submit(_encode_portion, portion))
            if len(pending) > workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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


_worker_tok: Tokenizer  # set in worker processes only: sent once, not with every portion


def _start_worker(tok: Tokenizer) -> None:
    global _worker_tok
    _worker_tok = tok
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer


def _encode_portion(portion: list[Example]) -> list[Encoded]:
    return [encode_example(_worker_tok, example) for example in portion]

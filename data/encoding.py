"""Documents and pairs -> ids, on as many cores as there are.

In: a stream of examples, each with its split.  Out: the same examples in the same order, as ids; a few at a time are in
memory. The ids never depend on the number of processes.

A worker process is this module run by a fresh interpreter, which takes portions on stdin and gives ids on stdout: like
the workers of bpe/words.py it shares no threads with the caller and does not run the caller's script again.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue

from bpe import Tokenizer
from bpe.errors import UserError
from data.documents import Document, Pair, Split
from data.errors import DataError
from data.layout import Ids, document_tokens, pair_tokens, plain_prompt_tokens, prompt_tokens

Example = tuple[Split, Document | Pair]

Worker = subprocess.Popen[bytes]

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
    Raises BPEError for a lone surrogate, DataError when a process ends too soon.
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
            idle.put(stack.enter_context(_worker(tok)))

        def encode(portion: list[Example]) -> list[Encoded]:
            worker = idle.get()
            try:
                return _encode_elsewhere(worker, portion)
            finally:
                idle.put(worker)

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


@contextlib.contextmanager
def _worker(tok: Tokenizer) -> Iterator[Worker]:
    """A process that encodes with `tok`, gone when the block ends, however it ends."""
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", "from data.encoding import serve; serve()"]
    pipe = subprocess.PIPE
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | {"PYTHONPATH": path})
    try:
        _send(worker, tok)
        yield worker
    finally:
        worker.kill()  # one that is done does not mind
        worker.wait()
        worker.stdout.close()  # type: ignore[union-attr]
        with contextlib.suppress(OSError):  # what it did not take any more
            worker.stdin.close()  # type: ignore[union-attr]


def _encode_elsewhere(worker: Worker, portion: list[Example]) -> list[Encoded]:
    """Let a process encode a portion. Raises what the process raised, or DataError when it ended too soon."""
    _send(worker, portion)
    with _naming_early_ends():
        answer: list[Encoded] | UserError = pickle.load(worker.stdout)  # type: ignore[arg-type]
    if isinstance(answer, UserError):
        raise answer
    return answer


def _send(worker: Worker, message: object) -> None:
    with _naming_early_ends():
        pickle.dump(message, worker.stdin)  # type: ignore[arg-type]
        worker.stdin.flush()  # type: ignore[union-attr]


@contextlib.contextmanager
def _naming_early_ends() -> Iterator[None]:
    """Make a DataError of what is seen here when a process ends too soon."""
    try:
        yield
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            "a process that encoded text came to an early end, perhaps for want of memory; close other programs and "
            "run again"
        ) from error


def serve() -> None:
    """Be a worker: take a tokenizer and portions from stdin, give the portions as ids, or an error, on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle, who then ends this process
    tok: Tokenizer = pickle.load(sys.stdin.buffer)
    with contextlib.suppress(EOFError):  # the caller is done
        while True:
            answer: list[Encoded] | UserError
            portion: list[Example] = pickle.load(sys.stdin.buffer)
            try:
                answer = [encode_example(tok, example) for example in portion]
            except UserError as error:
                answer = error
            pickle.dump(answer, sys.stdout.buffer)
            sys.stdout.buffer.flush()

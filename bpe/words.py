"""Counting the words of a corpus.

In: texts, one at a time, and how to split them.  Out: every distinct word as bytes, with how often it occurs.

A small corpus is counted here; beyond that, worker processes share the work. A worker is this module run by a fresh
interpreter that reads texts from stdin and writes its counts to stdout: unlike a fork it shares no threads with the
caller, and unlike the spawn of `multiprocessing` it does not run the caller's script again.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import IO

from bpe.errors import BPEError
from bpe.progress import progress_bar
from bpe.split import Splitter

COUNTED_HERE = 1 << 24  # characters, a second or two of work; for less, starting workers would not pay


def count_words(texts: Iterable[str], splitter: Splitter, workers: int | None = None) -> dict[bytes, int]:
    """How often each word (piece of the split) occurs in `texts`, of which one at a time is held in memory.

    workers: processes that share the work on a large corpus, None for one per core; the counts are the same.
    Raises BPEError for a text with a lone surrogate.
    """
    workers = workers or os.cpu_count() or 1
    counts = Counter[str]()
    counted = 0
    stream = _shown(texts)
    for text in stream:
        with naming_lone_surrogates(text):
            text.encode()
        counts.update(splitter.pieces(text))
        counted += len(text)
        if workers > 1 and counted >= COUNTED_HERE:
            for part in _counts_of_workers(stream, splitter.source, workers):
                counts.update(part)
    return {word.encode(): times for word, times in counts.items()}


def _shown(texts: Iterable[str]) -> Iterator[str]:
    """The texts, with a progress bar."""
    with progress_bar(description="counting words", unit="char", unit_scale=True) as bar:
        for text in texts:
            yield text
            bar.update(len(text))


@contextlib.contextmanager
def naming_lone_surrogates(text: str) -> Iterator[None]:
    """Make of an UnicodeEncodeError within the block a BPEError that names the position in `text`."""
    try:
        yield
    except UnicodeEncodeError:
        position = next(place for place, letter in enumerate(text) if "\ud800" <= letter <= "\udfff")
        raise BPEError(
            f"the text has a lone surrogate (U+{ord(text[position]):04X}) at position {position}, and UTF-8 has no "
            'bytes for it; replace it first, as text.encode("utf-8", "replace").decode() does'
        ) from None


def _counts_of_workers(texts: Iterator[str], pattern: str, workers: int) -> Iterator[dict[str, int]]:
    """The counts of each of `workers` processes, which take the texts in turn."""
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", "from bpe.words import serve; serve()"]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | {"PYTHONPATH": path})
            )
            for _ in range(workers)
        ]
        for process in processes:
            stack.callback(_end, process)
            _send(process, pattern.encode())
        for process, text in zip(cycle(processes), texts, strict=False):  # a busy worker's full pipe makes this wait
            with naming_lone_surrogates(text):
                _send(process, text.encode())
        for process in processes:
            process.stdin.close()  # type: ignore[union-attr]
        for process in processes:
            with _naming_early_ends():
                counts: dict[str, int] = json.load(process.stdout)  # type: ignore[arg-type]
            yield counts


@contextlib.contextmanager
def _naming_early_ends() -> Iterator[None]:
    """Make a BPEError of what is seen here when a worker ends too soon."""
    try:
        yield
    except (BrokenPipeError, json.JSONDecodeError) as error:
        raise BPEError(
            "a process that counted words came to an early end, perhaps for want of memory; run with workers=1"
        ) from error


def _send(process: "subprocess.Popen[bytes]", message: bytes) -> None:
    with _naming_early_ends():
        process.stdin.write(len(message).to_bytes(8, "little") + message)  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a worker, whatever has happened; one that is done does not mind."""
    process.kill()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]


def _received(source: IO[bytes]) -> Iterator[bytes]:
    while header := source.read(8):
        yield source.read(int.from_bytes(header, "little"))


def serve() -> None:
    """Be a worker: take a pattern and texts from stdin, give the counts of their words on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle, who then ends this process
    messages = _received(sys.stdin.buffer)
    splitter = Splitter(next(messages).decode())
    counts = Counter[str]()
    for text in messages:
        counts.update(splitter.pieces(text.decode()))
    json.dump(counts, sys.stdout)

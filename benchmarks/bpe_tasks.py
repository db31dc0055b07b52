"""One measurement of one tokenizer library, in a process of its own.

    python -m benchmarks.bpe_tasks '{"task": "encode", "who": "tiktoken", "text": PATH, "tokenizer": PATH, ...}'

In: a Task as JSON.  Out: a line of JSON: seconds, and a digest of the result, by which libraries are compared.

Only a fresh process has cold caches, and only there the number of threads of the Rust libraries can be chosen. Reading
the text and importing the libraries is not counted.
"""

import gc
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bpe import Tokenizer
from bpe.errors import UserError
from bpe.split import PATTERNS

DOCUMENT = 25_000_000  # characters that are encoded as one text
UNKNOWN = 3  # passes through the text until all words are known, of which the first is cold
KNOWN, KNOWN_SECONDS = 5, 3.0  # passes that count then, at most; none is begun after so many seconds of them
BOOK = 500_000  # characters that are given to a trainer as one text
PATTERN = PATTERNS["gpt4"]

Ids = npt.NDArray[np.generic]
Documents = list[str]


class Disagreement(UserError):
    """Two libraries that must agree do not."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to measure."""

    task: str  # train, encode, decode or short
    who: str  # a key of the task's table below
    text: str  # a file
    num_bytes: int  # of it that are used
    workers: int  # threads; of ours, when it encodes, processes
    vocab_size: int = 0  # to train
    tokenizer: str = ""  # to encode with
    document: int = DOCUMENT  # characters of each text to encode


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came out. Seconds are a list: the first is cold; a second, if there is one, with all words known."""

    seconds: list[float]
    digest: str


def documents(task: Task, size: int = DOCUMENT) -> Documents:
    """The text, in documents."""
    with Path(task.text).open("rb") as file:
        text = file.read(task.num_bytes).decode(errors="ignore")
    return [text[start : start + size] for start in range(0, len(text), size)]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it gave."""
    gc.collect()
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


# Training: the bytes of the learned tokens, in order.


def train_ours(task: Task, texts: Documents) -> Iterable[bytes]:
    tok = Tokenizer.train(texts, vocab_size=task.vocab_size, pattern="gpt4", workers=task.workers)
    return tok.token_bytes


def train_rustbpe(task: Task, texts: Documents) -> Iterable[bytes]:
    import rustbpe

    tok = rustbpe.Tokenizer()
    tok.train_from_iterator(iter(texts), task.vocab_size, pattern=PATTERN)
    return [bytes(token) for token, _ in tok.get_mergeable_ranks()]


def train_hugging_face(task: Task, texts: Documents) -> Iterable[bytes]:
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    tok = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERN), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=task.vocab_size, initial_alphabet=alphabet, show_progress=False)
    tok.train_from_iterator(texts, trainer)
    return []  # equal counts go to another pair there, so the tokens are not the same


def train_bpeasy(task: Task, texts: Documents) -> Iterable[bytes]:
    import bpeasy

    bpeasy.train_bpe(iter(texts), PATTERN, 1 << 20, task.vocab_size)
    return []  # sorted otherwise


# Encoding: the ids of each document, as arrays.


def encoder_ours(task: Task) -> Callable[[Documents], list[Ids]]:
    tok = Tokenizer.load(task.tokenizer)
    return lambda texts: [*tok.encode_batch(texts, workers=task.workers)]


def encoder_tiktoken(task: Task) -> Callable[[Documents], list[Ids]]:
    encode = partial(as_tiktoken(Tokenizer.load(task.tokenizer)).encode_to_numpy, disallowed_special=())

    def encode_all(texts: Documents) -> list[Ids]:
        with ThreadPoolExecutor(task.workers) as threads:
            return list(threads.map(encode, texts))

    return encode_all


def encoder_hugging_face(task: Task) -> Callable[[Documents], list[Ids]]:
    import tokenizers

    tok = tokenizers.Tokenizer.from_file(task.tokenizer)
    tok.encode_special_tokens = True
    return lambda texts: [np.array(encoding.ids, np.uint32) for encoding in tok.encode_batch_fast(texts)]


def as_tiktoken(tok: Tokenizer) -> Any:
    import tiktoken

    ranks = {token: id for id, token in enumerate(tok.token_bytes)}
    return tiktoken.Encoding("ours", pat_str=tok.pattern, mergeable_ranks=ranks, special_tokens=tok.special_tokens)


TRAIN: dict[str, Callable[[Task, Documents], Iterable[bytes]]] = {
    "ours": train_ours,
    "rustbpe": train_rustbpe,
    "tokenizers": train_hugging_face,
    "bpeasy": train_bpeasy,
}
ENCODER: dict[str, Callable[[Task], Callable[[Documents], list[Ids]]]] = {
    "ours": encoder_ours,
    "tiktoken": encoder_tiktoken,
    "tokenizers": encoder_hugging_face,
}


def measure_training(task: Task) -> Measured:
    """Text to tokens."""
    texts = documents(task, BOOK)
    TRAIN[task.who](Task(**{**vars(task), "vocab_size": 260}), ["The first call loads what it needs. " * 9])
    seconds, tokens = timed(lambda: TRAIN[task.who](task, texts))
    return Measured(seconds=[seconds], digest=hashlib.sha256(b"\0".join(tokens)).hexdigest())


def measure_encoding(task: Task) -> Measured:
    """Text to ids, cold and with all words known, of which the median of some passes counts.

    Between the two are passes that are not counted: of two processes each takes a part that grows or shrinks with its
    speed, and meets what only the other knew, until both know it.
    """
    texts = documents(task, task.document)
    encode = ENCODER[task.who](task)
    digest = hashlib.sha256()
    cold, arrays = timed(lambda: encode(texts))
    for array in arrays:
        digest.update(array.astype(np.uint32))
    del arrays  # no pass pays for the room that another one's ids take
    for _ in range(1, UNKNOWN):
        encode(texts)
    known: list[float] = []
    while not known or (len(known) < KNOWN and sum(known) < KNOWN_SECONDS):
        known.append(timed(lambda: encode(texts))[0])
    return Measured(seconds=[cold, statistics.median(known)], digest=digest.hexdigest())


def measure_decoding(task: Task) -> Measured:
    """Ids to text: ours from arrays, tiktoken's from the lists that it asks for."""
    tok = Tokenizer.load(task.tokenizer)
    arrays = [tok.encode_to_array(text) for text in documents(task)]
    if task.who == "ours":
        work = [partial(tok.decode, array) for array in arrays]
    else:
        work = [partial(as_tiktoken(tok).decode, array.tolist()) for array in arrays]
    seconds, texts = timed(lambda: [decode() for decode in work])
    return Measured(seconds=[seconds], digest=hashlib.sha256("".join(texts).encode()).hexdigest())


def measure_short(task: Task) -> Measured:
    """Prompts of 20 words, each known from an earlier call; seconds for one."""
    words = documents(task)[0].split()
    prompts = [" ".join(words[start : start + 20]) for start in range(0, 2000, 20)]
    tok = Tokenizer.load(task.tokenizer)
    encode = {"ours": tok.encode, "tiktoken": as_tiktoken(tok).encode_ordinary}[task.who]
    for _ in range(3):
        seconds, ids = timed(lambda: [encode(prompt) for prompt in prompts])
    return Measured(seconds=[seconds / len(prompts)], digest=hashlib.sha256(json.dumps(ids).encode()).hexdigest())


MEASURE = {"train": measure_training, "encode": measure_encoding, "decode": measure_decoding, "short": measure_short}

if __name__ == "__main__":
    wanted = Task(**json.loads(sys.argv[1]))
    print(json.dumps(vars(MEASURE[wanted.task](wanted))))

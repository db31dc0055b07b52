"""Laws of encoding: the same ids in the same order from any number of processes, and only a few examples at a time."""

import contextlib
import subprocess
from collections.abc import Iterator
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe import BPEError, Tokenizer
from bpe.workers import WorkerEnded
from data import encoding
from data.documents import Document, Pair
from data.encoding import PlainPair, encoded, portions
from data.layout import SPECIAL_TOKENS

CORPUS = "The ship sank — slowly. A man swam to the shore; the shore was far, and the man sang as he swam."


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer.train([CORPUS], vocab_size=270, special_tokens=SPECIAL_TOKENS)


@pytest.mark.slow
def test_ids_do_not_depend_on_the_number_of_processes(tok, monkeypatch):
    monkeypatch.setattr(encoding, "PORTION", 200)
    source = [("valid" if i % 5 == 0 else "train", Document("", CORPUS[i % 50 :] * (i % 7))) for i in range(60)]
    source += [("train", kind(CORPUS[:i], CORPUS[i:])) for i in range(20) for kind in (Pair, PlainPair)]
    alone = [(e.split, e.tokens.tolist(), e.header, e.num_bytes) for e in encoded(source, tok, 1)]
    for workers in (2, 3):
        assert [(e.split, e.tokens.tolist(), e.header, e.num_bytes) for e in encoded(source, tok, workers)] == alone
    with pytest.raises(BPEError, match="position 0"):  # and neither do errors
        list(encoded([*source, ("train", Document("", "\ud800"))], tok, 2))


@pytest.mark.slow
def test_a_process_that_dies_is_one_line_and_nothing_is_left_of_the_others(tok, monkeypatch):
    monkeypatch.setattr(encoding, "PORTION", 20)
    started = []
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(start(*args, **kwargs)) or started[-1]
    )
    stream = encoded([("train", Document("", CORPUS))] * 100, tok, 2)
    next(stream)
    for process in started:
        process.kill()
    with pytest.raises(WorkerEnded, match="came to an early end"):
        list(stream)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


@given(lengths=st.lists(st.integers(0, 12), max_size=30))
def test_portions_joined_are_the_examples_that_have_text(lengths):
    examples = [("train", Document(str(i), "x" * length)) for i, length in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "PORTION", 10)
        parts = list(portions(examples))
    assert list(chain.from_iterable(parts)) == [example for example in examples if example[1].text]
    assert all(sum(len(content.text) for _, content in part[:-1]) < 10 for part in parts)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_examples_are_read_as_they_are_needed(tok, monkeypatch, workers):
    monkeypatch.setattr(encoding, "PORTION", 10)
    taken = []

    def source() -> Iterator[tuple[str, Document]]:
        for i in range(100):
            taken.append(i)
            yield "train", Document("", CORPUS)

    with contextlib.closing(encoded(source(), tok, workers)) as stream:
        for number in range(1, 100):
            next(stream)
            assert len(taken) <= number + 2 * workers

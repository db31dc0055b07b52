"""Laws of encoding: the same ids in the same order from any number of workers, and only a few examples at a time."""

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import data.encoding
from bpe import BPEError, Tokenizer
from data.documents import Document, Pair
from data.encoding import PlainPair, encoded
from data.layout import SPECIAL_TOKENS

CORPUS = "The ship sank — slowly. A man swam to the shore; the shore was far, and the man sang as he swam."


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer.train([CORPUS], vocab_size=270, special_tokens=SPECIAL_TOKENS)


@pytest.mark.parametrize("long", [100, 1 << 20])
def test_ids_do_not_depend_on_the_number_of_workers(tok, long, monkeypatch):
    monkeypatch.setattr(data.encoding, "SHARED", long)
    source = [("valid" if i % 5 == 0 else "train", Document("", CORPUS[i % 50 :] * (i % 7))) for i in range(60)]
    source += [("train", Document("", CORPUS * 100))]
    source += [("train", kind(CORPUS[:i], CORPUS[i:])) for i in range(20) for kind in (Pair, PlainPair)]
    alone = [(e.split, e.tokens.tolist(), e.header, e.num_bytes) for e in encoded(source, tok, 1)]
    for workers in (2, 3, None):
        assert [(e.split, e.tokens.tolist(), e.header, e.num_bytes) for e in encoded(source, tok, workers)] == alone
    with pytest.raises(BPEError, match="position 0"):  # and neither do errors
        list(encoded([*source, ("train", Document("", "\ud800"))], tok, 2))


@given(lengths=st.lists(st.integers(0, 12), max_size=30))
def test_examples_without_text_are_left_out(tok, lengths):
    examples = [("train", Document("", "x" * length)) for length in lengths]
    examples += [("train", Pair("a prompt", "x" * length)) for length in lengths]
    assert [example.num_bytes for example in encoded(examples, tok, 1)] == [length for length in lengths if length] * 2


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("together", [1, 5])
def test_examples_are_read_as_they_are_needed(tok, workers, together, monkeypatch):
    monkeypatch.setattr(data.encoding, "SHARED", together * len(CORPUS))
    taken = []

    def source() -> Iterator[tuple[str, Document]]:
        for i in range(100):
            taken.append(i)
            yield "train", Document("", CORPUS)

    with contextlib.closing(encoded(source(), tok, workers)) as stream:
        for number in range(1, 100):
            next(stream)
            assert len(taken) <= number + together

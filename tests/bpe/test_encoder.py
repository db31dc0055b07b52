"""Encoding in blocks: held to the definition, however the text is cut and whoever encodes which part."""

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.block_encoder
import bpe.cuts
import bpe.encoder
from bpe import BPEError, Tokenizer
from bpe.rows import GrowingArray


@pytest.fixture
def blocks_always(monkeypatch):
    """Blocks of a few bytes, and other processes if asked for, for texts of any length."""
    monkeypatch.setattr(bpe.encoder, "LONG", 1)
    monkeypatch.setattr(bpe.encoder, "SHARED", 1)
    monkeypatch.setattr(bpe.encoder, "BLOCK", 9)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_blocks_give_the_ids_of_the_definition(workers, trained, corpus_text, any_text, blocks_always):
    @given(st.one_of(corpus_text, any_text))
    def law(text):
        ids = trained.encode_to_array(text, workers=workers)
        assert ids.tolist() == list(trained._encoder.plain(text))
        assert ids.dtype == trained.dtype

    law()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_gives_the_ids_of_each_text(workers, trained, corpus_text, any_text, blocks_always):
    @given(st.lists(st.one_of(corpus_text, any_text)))
    def law(texts):
        batch = trained.encode_batch(texts, workers=workers)
        assert [ids.tolist() for ids in batch] == [list(trained._encoder.plain(text)) for text in texts]
        assert all(ids.dtype == trained.dtype for ids in batch)

    law()


def test_a_batch_names_the_lone_surrogate_of_the_first_text_that_has_one(trained):
    for long in (1, 10_000):
        with pytest.raises(BPEError, match=r"U\+D800.*position 3"):
            trained.encode_batch(["the" * long, "the\ud800", "\ud801"])


def test_a_large_vocabulary_is_encoded_as_a_small_one(blocks_always):
    words = [f"{first}{second}{third}" for first in "abcdefg" for second in "hijklmn" for third in "opqrstu"]
    text = " ".join(words) + " and the then "
    small = Tokenizer.train([text * 2], vocab_size=600, special_tokens=["<|end|>"])
    names = [f"<|{number}|>" for number in range(1 << 16)]
    large = Tokenizer.train([text * 2], vocab_size=600 + len(names) - 1, special_tokens=names)
    assert (small.dtype, large.dtype) == (np.uint16, np.uint32)
    assert large.encode_to_array(text).tolist() == small.encode_to_array(text).tolist()


def test_a_full_encoder_forgets_and_goes_on(monkeypatch, trained, corpus_text, blocks_always):
    monkeypatch.setattr(bpe.block_encoder, "CAPACITY", 20)

    @given(corpus_text)
    def law(text):
        assert trained.encode_to_array(text).tolist() == list(trained._encoder.plain(text))

    law()


def test_a_known_stretch_is_not_worked_out_again(blocks_always):
    tok = Tokenizer.train(["the then the then"], vocab_size=258)
    tok.encode_to_array("the then, naïve 12 \n\n" * 3)
    tok._encoder._ids.clear()
    tok._encoder._ids.new_ids = {}
    assert tok.decode(tok.encode_to_array("then, the\n")) == "then, the\n"
    assert (
        tok.encode_to_array(" then,").tolist()
        == tok.encode_to_array(" then, naïve")[: -len(" naïve".encode())].tolist()
    )


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_call_that_is_broken_off_leaves_nothing_half_learned_behind(moment, monkeypatch, blocks_always, trained):
    text = "the then 'S 12345 naïve " * 5
    expected = list(trained._encoder.plain(text))
    fresh = Tokenizer(trained.vocabulary)

    extend, calls = GrowingArray.extend, []

    def interrupted(self, values):
        extend(self, values)
        calls.append(values)
        if len(calls) == moment:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if fresh._encoder._cuts is not None:
            patch.setattr(GrowingArray, "extend", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fresh.encode_to_array(text)
    assert fresh.encode_to_array(text).tolist() == expected


def test_what_another_thread_learns_meanwhile_changes_nothing():
    text = [[b"the keeper"], [b" and"], [b" his lamp"]]
    whole = b"".join(chain.from_iterable(text)).decode()
    tok = Tokenizer.train([whole * 2], vocab_size=262)
    encoder = tok._encoder._blocks

    def blocks():
        for block in text:
            yield block
            encoder.encode([block, [b" and"]])  # as another thread may: it learns what was waiting

    encoded = chain.from_iterable(encoder.encode(blocks()))
    assert np.concatenate([*encoded]).tolist() == list(tok._encoder.plain(whole))


def test_a_lost_helper_costs_nothing_but_time(blocks_always, monkeypatch):
    text = "the keeper and his lamp " * 100
    tok = Tokenizer.train([text], vocab_size=262)
    expected = list(tok._encoder.plain(text))
    helpers = tok._encoder._helpers
    assert tok.encode_to_array(text, workers=2).tolist() == expected
    [helper] = helpers._idle
    helper._process.kill()
    assert tok.encode_to_array(text, workers=2).tolist() == expected
    assert not helpers._idle
    monkeypatch.setattr(sys, "executable", "no such program")
    assert tok.encode_to_array(text, workers=2).tolist() == expected


def test_a_lone_surrogate_forgets_no_known_word(blocks_always):
    tok = Tokenizer.train(["the then the then"], vocab_size=258)
    tok.encode_to_array("the then, " * 3)
    known = tok._encoder._blocks._memory
    with pytest.raises(BPEError, match="position 20"):
        tok.encode_to_array("the then, " * 2 + "\ud800")
    assert tok._encoder._blocks._memory is known
    assert tok.encode_to_array("then, the").tolist() == list(tok._encoder.plain("then, the"))


def test_texts_that_fill_most_of_a_block_each_are_shared_too(monkeypatch):
    tok = Tokenizer.train(["the then the then"], vocab_size=258)
    monkeypatch.setattr(bpe.encoder, "SHARED", 4_000)
    monkeypatch.setattr(bpe.encoder, "BLOCK", 1_000)
    texts = ["the then, " * 80] * 10  # two to a block
    assert [ids.tolist() for ids in tok.encode_batch(iter(texts), workers=2)] == [tok.encode(text) for text in texts]
    assert len(tok._encoder._helpers._idle) == 1


def test_threads_may_share_with_other_processes_at_the_same_time(blocks_always):
    texts = [f"the keeper and his lamp {number} " * 60 for number in range(8)]
    tok = Tokenizer.train(texts, vocab_size=262)
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda text: tok.encode_to_array(text, workers=2).tolist(), texts)]
    assert found == [list(tok._encoder.plain(text)) for text in texts]


def test_few_characters_are_no_work_for_another_process(monkeypatch):
    tok = Tokenizer.train(["the then the then"], vocab_size=258)
    monkeypatch.setattr(bpe.encoder, "SHARED", 40_000)
    monkeypatch.setattr(bpe.encoder, "BLOCK", 1_000)
    ids = tok.encode_to_array("the then, " * 10_000, workers=64)
    assert ids.tolist() == tok.encode_to_array("the then, " * 10_000).tolist()
    assert len(tok._encoder._helpers._idle) == 1  # two processes have 40,000 characters each, and three have not


@pytest.mark.parametrize("workers", [1, 2])
def test_a_long_text_is_a_list_of_the_same_ids(workers, trained):
    text = 'The keeper\'s lamp went out -- "again", she said.\n\n' * 200
    assert len(text) > bpe.cuts.LONG
    assert trained.encode(text) == trained.encode_to_array(text, workers=workers).tolist()
    assert trained.encode(text) == list(trained._encoder.plain(text))

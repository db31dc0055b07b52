"""Counting words, here and in worker processes."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bpe.words
from bpe import BPEError, Tokenizer
from bpe.split import Splitter
from bpe.words import count_words

ROOT = Path(__file__).resolve().parents[2]


def test_a_word_is_counted_each_time_it_occurs(corpus_text):
    @given(st.lists(corpus_text, max_size=5))
    def law(texts):
        splitter = Splitter("qwen2")
        expected = Counter(piece.encode() for text in texts for piece in splitter.pieces(text))
        assert count_words(texts, splitter) == expected

    law()


@pytest.fixture
def always_workers(monkeypatch):
    monkeypatch.setattr(bpe.words, "COUNTED_HERE", 1)


@pytest.mark.parametrize("workers", [1, 2, 3, None])
def test_the_number_of_workers_never_changes_the_vocabulary(workers, always_workers):
    texts = ["first", "l'été, 你好\r\n 👩\u200d🚀\x00", "", "the last the last the last"] * 5
    expected = Tokenizer.train(texts * 2, vocab_size=270, workers=1)
    assert Tokenizer.train(iter(texts * 2), vocab_size=270, workers=workers) == expected


def test_workers_get_a_pattern_of_the_users_own(always_workers):
    splitter = Splitter("é+|\n")
    assert count_words(["x", "ééa\n"], splitter, workers=2) == {b"x": 1, "éé".encode(): 1, b"a": 1, b"\n": 1}


def test_workers_need_no_guard_in_the_callers_script(tmp_path):
    """And no import of the project by luck of the current folder."""
    script = tmp_path / "train.py"
    script.write_text(
        "import bpe.words\nfrom bpe import Tokenizer\nbpe.words.COUNTED_HERE = 1\nprint('once')\n"
        "print(Tokenizer.train(['abab'] * 9, vocab_size=257, workers=2).merges)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("once\n[(97, 98)]\n", "")


@pytest.mark.parametrize("before", [["ok"], []])
def test_a_lone_surrogate_is_named_by_its_position_wherever_words_are_counted(before, always_workers):
    with pytest.raises(BPEError, match=r"U\+DC80\) at position 3"):
        count_words([*before, "abc\udc80"], Splitter("qwen2"), workers=2)


def test_what_goes_wrong_with_the_texts_reaches_the_caller_and_no_worker_stays(always_workers, monkeypatch):
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def texts():
        yield "one"
        yield "two" * 100_000
        raise ZeroDivisionError

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with pytest.raises(ZeroDivisionError):
        count_words(texts(), Splitter("qwen2"), workers=2)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_a_worker_that_dies_is_reported_in_one_line(always_workers, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true" if Path("/bin/true").exists() else "/usr/bin/true")
    with pytest.raises(BPEError, match=r"early end.*workers=1"):
        count_words(["x" * 100_000] * 4, Splitter("qwen2"), workers=2)

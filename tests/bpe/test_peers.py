"""The same ids as everyone else: `tokenizers`, `transformers`, `tiktoken` and `rustbpe` on our vocabulary."""

import json
import lzma
import os
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import rustbpe
from hypothesis import given, settings
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bpe import Tokenizer


def as_transformers(tok: Tokenizer, folder: Path) -> PreTrainedTokenizerFast:
    tok.save(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return AutoTokenizer.from_pretrained(folder)


def test_hugging_face_gives_the_same_ids_and_text(trained, assigned_text, as_hugging_face):
    theirs = as_hugging_face(trained)
    assert theirs.get_vocab_size() == trained.vocab_size

    @settings(max_examples=300)
    @given(assigned_text)
    def law(text):
        ids = trained.encode(text, allow_special=True)
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text

    law()


def test_hugging_face_finds_the_same_special_tokens_with_any_small_tokenizer(tokenizers, corpus_text, as_hugging_face):
    @settings(max_examples=50)
    @given(tokenizers, corpus_text)
    def law(tok, text):
        theirs = as_hugging_face(tok)
        assert theirs.encode(text).ids == tok.encode(text, allow_special=True)
        theirs.encode_special_tokens = True
        assert theirs.encode(text).ids == tok.encode(text)

    law()


def test_what_hugging_face_saves_again_is_the_same_tokenizer(trained, as_hugging_face, tmp_path):
    as_hugging_face(trained).save(str(tmp_path / "again.json"))
    assert Tokenizer.load(tmp_path / "again.json") == trained


def test_transformers_gives_the_same_ids_and_text(trained, assigned_text, tmp_path):
    theirs = as_transformers(trained, tmp_path)
    assert len(theirs) == trained.vocab_size

    @settings(max_examples=100)
    @given(assigned_text)
    def law(text):
        ids = trained.encode(text, allow_special=True)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text

    law()


def test_what_transformers_saves_again_is_the_same_tokenizer(trained, tmp_path):
    """Used with other special tokens and settings, it writes a post-processor, truncation and padding of its own."""
    theirs = as_transformers(trained, tmp_path)
    theirs.add_special_tokens({"bos_token": "<|end|>", "eos_token": "<|end|>", "pad_token": "<|end|>"})
    theirs("the cat", truncation=True, max_length=3, padding="max_length")
    theirs.save_pretrained(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again" / "tokenizer.json") == trained


def test_tiktoken_gives_the_same_ids_and_bytes(trained, assigned_text, as_tiktoken):
    theirs = as_tiktoken(trained)

    @settings(max_examples=300)
    @given(assigned_text)
    def law(text):
        ids = trained.encode(text)
        assert theirs.encode(text, disallowed_special=()) == ids
        assert theirs.encode(text, allowed_special="all") == trained.encode(text, allow_special=True)
        assert theirs.decode_bytes(ids) == trained.decode_bytes(ids)

    law()


@pytest.mark.parametrize(
    "text", ["e\u0301", "cafe\u0301 noir", "a\u0301'\u0301s", "\u0301", " \u0301x", "ﬁ Å \u2126 가 각"]
)
def test_nothing_is_normalised(text, trained, as_hugging_face, tmp_path):
    """Qwen2's own tokenizer would make é of e and its accent: the folder must not be taken for one."""
    ids = trained.encode(text)
    assert as_hugging_face(trained).encode(text).ids == ids
    assert as_transformers(trained, tmp_path)(text)["input_ids"] == ids
    assert trained.decode(ids) == text


# ---- the corpora -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book_tokenizer(corpora) -> Tokenizer:
    books = sorted((corpora / "gutenberg" / "mini").glob("*.txt"))
    return Tokenizer.train((book.read_text(encoding="utf-8") for book in books), special_tokens=["<|endoftext|>"])


def texts_of(corpora: Path, which: str) -> Iterator[str]:
    """The texts of one corpus, in portions of some thousand characters to some million."""
    if which == "books":  # six of the first 150; with LLM_BPE_ALL=1 all 535 (minutes)
        stop, step = (None, 1) if os.environ.get("LLM_BPE_ALL") else (150, 25)
        with tarfile.open(corpora / "gutenberg" / "books.tar.xz") as archive:
            files = (member for member in archive if member.isfile())
            for member in islice(files, 0, stop, step):
                yield archive.extractfile(member).read().decode()  # type: ignore[union-attr]
        return
    folder = {"mini": "gutenberg/mini", "raw": "gutenberg/raw"}.get(which, which)
    for path in sorted((corpora / folder).iterdir()):
        content = path.read_bytes() if path.suffix != ".xz" else lzma.decompress(path.read_bytes())
        text = content.decode("utf-8" if which != "raw" else "latin-1")
        lines = text.splitlines(keepends=True)
        yield from ("".join(lines[start : start + 2000]) for start in range(0, len(lines), 2000))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["mini", "raw", "tinystories", "writingprompts", "books"])
def test_every_text_of_the_corpora_has_the_same_ids_everywhere(
    which, corpora, book_tokenizer, as_hugging_face, as_tiktoken, tmp_path
):
    rust, tik = as_hugging_face(book_tokenizer), as_tiktoken(book_tokenizer)
    auto = as_transformers(book_tokenizer, tmp_path)
    rust.encode_special_tokens = True
    for text in texts_of(corpora, which):
        ids = book_tokenizer.encode(text)
        assert tik.encode_ordinary(text) == ids
        assert rust.encode_batch_fast([text])[0].ids == ids
        assert auto(text, split_special_tokens=True, verbose=False)["input_ids"] == ids
        assert book_tokenizer.decode(ids) == text


@pytest.mark.slow
def test_the_rust_trainer_learns_the_same_tokens_from_moby_dick(corpora):
    text = (corpora / "gutenberg/mini/Herman Melville - Moby-Dick.txt").read_text(encoding="utf-8")
    tok = Tokenizer.train([text], vocab_size=4096)
    theirs = rustbpe.Tokenizer()
    theirs.train_from_iterator([text], vocab_size=4096, pattern=tok.pattern)
    assert [(bytes(token), id) for token, id in theirs.get_mergeable_ranks()] == list(
        zip(tok.token_bytes, range(4096), strict=True)
    )

"""Laws of token files: they hold what went in, are whole or refused, and know their tokenizer and their text."""

import errno
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpe import BPEError, Tokenizer
from bpe.errors import UserError
from bpe.vocabulary import Vocabulary
from data.documents import Document, Pair
from data.encoding import PlainPair
from data.errors import DataError
from data.layout import END, SPECIAL_TOKENS, document_tokens, pair_tokens, prompt_tokens
from data.tokens import TokenFile, prepared, token_file_path, write_token_files

SPLITS = ("train", "valid")
CORPUS = "The ship sank — slowly. A man swam to the shore; the shore was far, and the man sang as he swam."
texts = st.text(alphabet=sorted(set(CORPUS)), max_size=60)
pairs = st.builds(Pair, texts, texts.filter(bool))
anew = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer.train([CORPUS], vocab_size=270, special_tokens=SPECIAL_TOKENS)


def documents(*contents: str) -> list[tuple[str, Document]]:
    return [(split, Document("", text)) for text in contents for split in SPLITS]


@pytest.fixture
def written(tok, tmp_path) -> Path:
    """The .bin of a good token file with neighbours."""
    write_token_files(documents(CORPUS, "A man."), tok, tmp_path, "pretrain", source="the text")
    return tmp_path / "pretrain-train.bin"


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@anew
@given(contents=st.lists(texts.filter(bool), min_size=1, max_size=5))
def test_documents_come_back_as_they_went_in(tok, tmp_path, contents):
    files = write_token_files(documents(*contents), tok, tmp_path, "a", source="")
    for split in SPLITS:
        file = TokenFile.open(token_file_path(tmp_path, "a", split), tok)
        assert [file.document(i).tolist() for i in range(len(file))] == [
            document_tokens(tok, tok.encode_to_array(t)).tolist() for t in contents
        ]
        assert file.num_bytes.tolist() == [len(text.encode()) for text in contents]
        assert (file.kind, file.headers.any(), file.tokens.dtype) == ("documents", False, tok.dtype)
        assert np.array_equal(file.tokens, files[split].tokens)


@anew
@given(contents=st.lists(pairs, min_size=1, max_size=5))
def test_pairs_come_back_as_they_went_in(tok, tmp_path, contents):
    file = write_token_files([(s, pair) for pair in contents for s in SPLITS], tok, tmp_path, "a", source="")["valid"]
    for i, pair in enumerate(contents):
        header = prompt_tokens(tok, tok.encode(pair.prompt))
        assert file.document(i).tolist() == pair_tokens(tok, header, tok.encode_to_array(pair.story)).tolist()
        assert file.document(i)[: file.headers[i]].tolist() == header
        assert file.num_bytes[i] == len(pair.story.encode())
    assert file.kind == "pairs"
    assert file.num_tokens == file.lengths.sum()


def test_a_plain_pair_has_its_prompt_as_a_paragraph_before_the_story_and_neither_scored_nor_marked(tok, tmp_path):
    file = write_token_files([("valid", PlainPair("A ship", CORPUS))], tok, tmp_path, "a", source="", splits=["valid"])[
        "valid"
    ]
    tokens = file.document(0).tolist()
    assert file.kind == "pairs"
    assert tok.decode(tokens[1:-1]) == f"A ship\n\n{CORPUS}"
    assert tok.decode(tokens[file.headers[0] : -1]) == CORPUS
    assert tokens[0] == tokens[-1] == tok.special_tokens[END]


def test_examples_of_a_split_that_is_not_wanted_are_left_out(tok, tmp_path):
    files = write_token_files(documents(CORPUS), tok, tmp_path, "a", source="", splits=["valid"])
    assert list(files) == ["valid"]
    assert sorted(contents_of(tmp_path)) == ["a-valid.bin", "a-valid.json"]


def test_a_vocabulary_above_65536_is_stored_in_four_bytes(tmp_path):
    every_two_bytes = tuple((first, second) for first in range(256) for second in range(256))
    large = Tokenizer(Vocabulary(every_two_bytes, r"[^ ]+| ", SPECIAL_TOKENS))
    file = write_token_files(documents(CORPUS), large, tmp_path, "a", source="")["train"]
    assert file.tokens.dtype == np.uint32
    assert file.document(0).tolist() == document_tokens(large, large.encode_to_array(CORPUS)).tolist()
    assert max(file.document(0)) > 65_536


def test_examples_without_text_are_left_out(tok, tmp_path):
    examples = [*documents(CORPUS, ""), ("train", Pair("A ship", ""))]
    assert len(write_token_files(examples, tok, tmp_path, "a", source="")["train"]) == 1


@pytest.mark.parametrize(
    ("split", "message"), [("train", "no text to train on; give"), ("valid", "no text to hold out.*give more")]
)
def test_a_source_that_leaves_a_split_empty_is_refused_and_leaves_nothing_behind(tok, tmp_path, split, message):
    examples = [example for example in documents(CORPUS) if example[0] != split]
    with pytest.raises(DataError, match=message):
        write_token_files(examples, tok, tmp_path, "a", source="")
    assert contents_of(tmp_path) == {}


def test_a_lone_surrogate_is_named_and_leaves_nothing_behind(tok, tmp_path):
    with pytest.raises(BPEError, match="position 4"):
        write_token_files(documents(CORPUS, "ship\ud800"), tok, tmp_path, "a", source="")
    assert contents_of(tmp_path) == {}


def test_files_that_fit_are_used_again_and_others_written_anew(tok, tmp_path):
    def run(source: str, tok: Tokenizer = tok) -> bool:
        """Whether the source was read."""
        read = []
        prepared(lambda purpose: read.append(purpose) or documents(CORPUS), tok, tmp_path, "a", source)
        return bool(read)

    other = Tokenizer.train([CORPUS], vocab_size=265, special_tokens=SPECIAL_TOKENS)
    assert [run("one"), run("one"), run("two"), run("two")] == [True, False, True, False]
    assert [run("two", other), run("two", other), run("two")] == [True, False, True]
    path = token_file_path(tmp_path, "a", "valid")
    path.write_bytes(path.read_bytes()[:-1])
    assert [run("two"), run("two")] == [True, False]
    path.with_suffix(".json").unlink()
    assert [run("two"), run("two")] == [True, False]


def test_no_file_is_mapped_while_another_takes_its_place(tok, tmp_path, monkeypatch):
    """Windows would refuse it."""
    mapped, replace, still_there = [], Path.replace, []

    def noted(path: Path, *mapping: Any) -> np.memmap[Any, Any]:
        tokens = memmap(path, *mapping)
        mapped.append(weakref.ref(tokens))
        return tokens

    def seen(self: Path, target: Path) -> Path:
        still_there.append(sum(tokens() is not None for tokens in mapped))
        return replace(self, target)

    def prepare(source: str, tok: Tokenizer = tok) -> None:
        prepared(lambda purpose: documents(CORPUS), tok, tmp_path, "a", source)

    memmap = np.memmap
    prepare("one")
    monkeypatch.setattr(np, "memmap", noted)
    monkeypatch.setattr(Path, "replace", seen)
    prepare("one")
    prepare("two")
    prepare("two", Tokenizer.train([CORPUS], vocab_size=265, special_tokens=SPECIAL_TOKENS))
    path = token_file_path(tmp_path, "a", "valid")
    path.write_bytes(path.read_bytes()[:-1])
    prepare("two")
    assert len(mapped) > 4
    assert set(still_there) == {0}


def test_another_tokenizer_is_refused_with_both_fingerprints(tok, written):
    other = Tokenizer.train([CORPUS], vocab_size=265, special_tokens=SPECIAL_TOKENS)
    with pytest.raises(DataError, match=rf"tokenizer {tok.fingerprint}, this one is {other.fingerprint}.*again"):
        TokenFile.open(written, other)


def opening_fails(path: Path, tok: Tokenizer) -> str:
    with pytest.raises(DataError) as caught:
        TokenFile.open(path, tok)
    message = str(caught.value)
    assert "\n" not in message
    assert path.stem in message
    assert "prepare the text again" in message
    return message


def test_a_file_cut_at_any_byte_is_refused(tok, written):
    whole = written.read_bytes()
    for size in range(0, len(whole), 7):
        written.write_bytes(whole[:size])
        opening_fails(written, tok)


def test_a_file_changed_in_any_byte_is_refused(tok, written):
    whole = written.read_bytes()
    for place in range(0, len(whole), 5):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        opening_fails(written, tok)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"kind": "documents"}', b"[1, 2]", b'"text"', b"[" * 100_000],
)
def test_a_manifest_that_is_none_is_refused(tok, written, manifest):
    written.with_suffix(".json").write_bytes(manifest)
    assert "does not describe a token file" in opening_fails(written, tok)


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "songs"), ("dtype", "float"), ("tokens", "3"), ("documents", 1), ("version", 99)]
)
def test_a_manifest_that_says_something_else_is_refused(tok, written, field, value):
    path = written.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    opening_fails(written, tok)


def test_a_foreign_or_missing_file_is_refused(tok, written):
    written.write_bytes(b"\x89PNG" * 100)
    assert "does not start as one" in opening_fails(written, tok)
    written.unlink()
    assert "No such file" in opening_fails(written, tok)
    written.with_suffix(".json").unlink()
    assert "No such file" in opening_fails(written, tok)


@pytest.mark.parametrize("failing", range(1, 11))
def test_a_disk_that_fills_up_at_any_moment_leaves_the_old_files_or_files_known_to_be_unfit(
    tok, tmp_path, monkeypatch, failing
):
    write_token_files(documents(CORPUS), tok, tmp_path, "a", source="old")
    before = contents_of(tmp_path)
    calls = []
    fsync = os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left"):
            write_token_files(documents("A man."), tok, tmp_path, "a", source="new")
    assert contents_of(tmp_path).keys() == before.keys()  # no temporary file stays
    if failing <= 3:  # nothing is renamed before both .bin files are on the disk
        assert contents_of(tmp_path) == before
    for split in SPLITS:
        try:
            file = TokenFile.open(token_file_path(tmp_path, "a", split), tok)
        except DataError:
            continue
        expected = {"old": CORPUS, "new": "A man."}[file.manifest.source]
        assert file.document(0).tolist() == document_tokens(tok, tok.encode_to_array(expected)).tolist()
    again = prepared(lambda _: documents("A man."), tok, tmp_path, "a", "new")
    assert all(
        again[split].document(0).tolist() == document_tokens(tok, tok.encode_to_array("A man.")).tolist()
        for split in SPLITS
    )


def test_a_folder_that_cannot_be_written_is_one_line(tok, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*file"):
        write_token_files(documents(CORPUS), tok, tmp_path / "file", "a", source="")


MEASURED = """
import random, resource, sys
from pathlib import Path
from bpe import Tokenizer
from data.documents import Document
from data.layout import SPECIAL_TOKENS
from data.tokens import write_token_files

tok = Tokenizer.load(sys.argv[1])
words = ["the", "ship", "sank", "man", "swam", "shore", "far", "sang"]

def examples(megabytes):
    random.seed(0)
    for i in range(megabytes):
        yield "valid" if i % 5 == 0 else "train", Document("", " ".join(random.choices(words, k=210_000)))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1 << 20)

write_token_files(examples(6), tok, Path(sys.argv[2]), "few", source="", workers=1)
before = peak()
write_token_files(examples(60), tok, Path(sys.argv[2]), "many", source="", workers=1)
print(peak() - before)
"""


@pytest.mark.slow
def test_ten_times_the_text_takes_no_more_memory(tok, tmp_path):
    """The ids of 60 MB alone are 28 MB, so neither they nor the text can have been held."""
    pytest.importorskip("resource", reason="the system does not tell how much memory a process took")
    tok.save(tmp_path / "tokenizer.json")
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "tokenizer.json"), str(tmp_path)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 20

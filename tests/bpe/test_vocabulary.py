"""The file: what is written, and what is refused when reading."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe import BPEError, Tokenizer
from bpe.errors import FileError
from bpe.vocabulary import Vocabulary, spelled


def test_spelling_is_gpt2s_and_keeps_all_bytes_apart():
    assert spelled(b" the\n") == "ĠtheĊ"
    assert spelled("é".encode()) == "Ã©"
    spellings = [spelled(bytes([byte])) for byte in range(256)]
    assert len(set(spellings)) == 256
    assert all(spelling.isprintable() and not spelling.isspace() for spelling in spellings)


def test_a_file_written_twice_has_the_same_bytes(trained, tmp_path):
    trained.save(tmp_path / "one.json")
    Tokenizer.load(tmp_path / "one.json").save(tmp_path / "folder" / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "folder" / "two.json").read_bytes()


def test_merges_spelled_as_pairs_are_read_too(edited):
    def as_pairs(content):
        content["model"]["merges"] = [merge.split(" ") for merge in content["model"]["merges"]]

    assert Tokenizer.load(edited(as_pairs)) == Tokenizer.load(edited(lambda content: None))


def setting(*keys, to):
    """A change of a file's content: the value at the end of the keys is set."""

    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


def swapped(content):
    vocab = content["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]


FOREIGN = {
    "model type": (setting("model", "type", to="WordPiece"), "its model is 'WordPiece', not 'BPE'"),
    "no model": (lambda content: content.pop("model"), "no 'model'"),
    "no vocab": (setting("model", "vocab", to=[]), "no 'vocab'"),
    "no merges": (lambda content: content["model"].pop("merges"), "no 'merges'"),
    "dropout": (setting("model", "dropout", to=0.1), "sets 'dropout'"),
    "byte fallback": (setting("model", "byte_fallback", to=True), "sets 'byte_fallback'"),
    "whole pieces": (setting("model", "ignore_merges", to=True), "sets 'ignore_merges'"),
    "unknown token": (setting("model", "unk_token", to="<unk>"), "sets 'unk_token'"),
    "suffix": (setting("model", "end_of_word_suffix", to="</w>"), "sets 'end_of_word_suffix'"),
    "normalizer": (setting("normalizer", to={"type": "NFC"}), "normalizer"),
    "post-processor": (
        setting("post_processor", to={"type": "TemplateProcessing", "special_tokens": {"<|end|>": {}}}),
        "adds tokens",
    ),
    "no pre-tokenizer": (setting("pre_tokenizer", to=None), "no 'pre_tokenizer'"),
    "pre-tokenizer": (setting("pre_tokenizer", "pretokenizers", to=[{"type": "Metaspace"}]), r"\['Metaspace'\]"),
    "odd step": (setting("pre_tokenizer", "pretokenizers", 0, to=7), r"\[None, 'ByteLevel'\]"),
    "split": (setting("pre_tokenizer", "pretokenizers", 0, "behavior", to="Removed"), "not 'Isolated'"),
    "inverted": (setting("pre_tokenizer", "pretokenizers", 0, "invert", to=True), "not 'Isolated'"),
    "no pattern": (setting("pre_tokenizer", "pretokenizers", 0, "pattern", to={"String": " "}), "no 'Regex'"),
    "bad pattern": (setting("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex", to="("), "not a regular"),
    "prefix space": (setting("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", to=True), "adds a space"),
    "own regex": (setting("pre_tokenizer", "pretokenizers", 1, "use_regex", to=True), "pattern of its own"),
    "bytes out of order": (swapped, "byte 97 does not have the id 97"),
    "text as id": (setting("model", "vocab", "a", to="97"), "byte 97 does not have the id 97"),
    "merge out of order": (setting("model", "vocab", "he", to=300), "merge 0 has the id 300, not 256"),
    "unknown half": (setting("model", "merges", 0, to="qq x"), "names an unknown token"),
    "no pair": (setting("model", "merges", 0, to="the"), "not a pair of tokens"),
    "numbers": (setting("model", "merges", 0, to=[1, 2]), "not a pair of tokens"),
    "merge from later": (setting("model", "merges", 0, to="t he"), "merge 0 has the id 257, not 256"),
    "extra token": (setting("model", "vocab", "zebra", to=259), "'zebra' is neither a byte"),
    "special id": (setting("added_tokens", 0, "id", to=7), "has the id 7, not 258"),
    "special text": (setting("added_tokens", 0, "content", to=""), "empty or not printable"),
    "not special": (setting("added_tokens", 0, "special", to=False), "not a plain special token"),
    "stripping": (setting("added_tokens", 0, "lstrip", to=True), "not a plain special token"),
    "odd added tokens": (setting("added_tokens", to="<|end|>"), "'added_tokens' is no list"),
}


@pytest.mark.parametrize(("change", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_of_another_kind_is_refused_in_one_line_that_says_why(change, message, edited):
    path = edited(change)
    with pytest.raises(BPEError, match=message) as caught:
        Tokenizer.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"7", b"null", b"\xff\xfe{", b"[" * 100_000, b"PK\x03\x04", b"\0"]
)
def test_a_file_that_is_no_tokenizer_is_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BPEError, match=r"tokenizer\.json is"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_truncated_file_is_refused_wherever_it_ends(trained, tmp_path):
    trained.save(tmp_path / "whole.json")
    whole = (tmp_path / "whole.json").read_bytes()
    short = tmp_path / "short.json"

    @given(st.integers(0, len(whole.rstrip()) - 1))
    def law(length):
        short.write_bytes(whole[:length])
        with pytest.raises(BPEError, match="is damaged"):
            Tokenizer.load(short)

    law()


def test_a_damaged_file_is_refused_or_read_but_never_a_traceback(trained, tmp_path):
    trained.save(tmp_path / "whole.json")
    whole = (tmp_path / "whole.json").read_bytes()
    damaged = tmp_path / "damaged.json"

    @given(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=3), st.integers(0, 3))
    def law(place, inserted, removed):
        damaged.write_bytes(whole[:place] + inserted + whole[place + removed :])
        try:
            Tokenizer.load(damaged)
        except BPEError as error:
            assert "\n" not in str(error)

    law()


@pytest.mark.parametrize(
    ("path", "reason"), [("missing.json", "No such file"), (".", "directory"), ("file/x", "directory")]
)
def test_a_path_that_is_no_file_is_named(path, reason, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BPEError, match=rf"cannot read the tokenizer .*{reason}"):
        Tokenizer.load(tmp_path / path)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BPEError, match="Permission denied"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_save_that_fails_leaves_the_old_file(trained, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "tokenizer.json"
    trained.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        Tokenizer.train([], vocab_size=256).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("merges", [((0, 256),), ((0, 1), (257, 0)), ((-1, 0),)])
def test_a_merge_of_tokens_that_do_not_exist_yet_is_refused(merges):
    with pytest.raises(BPEError, match="exist by then"):
        Vocabulary(merges, r"\s")


def test_two_merges_that_make_the_same_token_are_refused():
    with pytest.raises(BPEError, match="the same token"):
        Vocabulary(((97, 98), (98, 99), (256, 99), (97, 257)), r"\s")


def test_the_file_is_what_other_readers_expect(trained, tmp_path):
    trained.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    size = trained.vocab_size - 2
    assert (content["version"], content["normalizer"]) == ("1.0", None)
    assert list(content["model"]["vocab"].values()) == list(range(size))
    assert len(content["model"]["merges"]) == size - 256
    assert [(token["content"], token["id"]) for token in content["added_tokens"]] == [
        ("<|end|>", size),
        ("<|go|>", size + 1),
    ]

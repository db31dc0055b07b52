"""Text to ids and back."""

import pickle
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bpe.cuts
import bpe.new_stretches
from bpe import BPEError, Tokenizer
from bpe.split import Splitter
from bpe.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]


def reloaded(tok, folder):
    tok.save(folder / "tokenizer.json")
    return Tokenizer.load(folder / "tokenizer.json")


def test_decoding_undoes_encoding_for_any_text(tokenizers, any_text, corpus_text):
    @given(tokenizers, st.one_of(any_text, corpus_text), st.booleans())
    def law(tok, text, allow_special):
        assert tok.decode(tok.encode(text, allow_special=allow_special)) == text

    law()


def test_any_ids_have_bytes_and_those_have_a_text(tokenizers):
    @given(st.data(), tokenizers)
    def law(data, tok):
        ids = data.draw(st.lists(st.integers(0, tok.vocab_size - 1)))
        assert tok.decode_bytes(ids).decode(errors="replace") == tok.decode(ids)
        assert tok.decode_bytes(ids) == b"".join(tok.decode_bytes([id]) for id in ids)

    law()


@given(st.binary())
def test_the_first_256_ids_are_the_bytes(content):
    tok = Tokenizer(Vocabulary((), Splitter("qwen2").source))
    assert tok.decode_bytes(content) == content
    assert tok.decode(content) == content.decode(errors="replace")


def test_the_array_holds_the_same_ids(tokenizers, corpus_text):
    @given(tokenizers, corpus_text, st.booleans())
    def law(tok, text, allow_special):
        array = tok.encode_to_array(text, allow_special=allow_special)
        assert array.dtype == tok.dtype == np.uint16
        assert array.tolist() == tok.encode(text, allow_special=allow_special)
        assert tok.decode(array) == text

    law()


@pytest.mark.parametrize(("size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_ids_above_65535_take_four_bytes(size, dtype):
    merges = tuple(divmod(number, 256) for number in range(size - 257))
    tok = Tokenizer(Vocabulary(merges, Splitter("qwen2").source, ("<|end|>",)))
    assert tok.vocab_size == size
    ids = tok.encode_to_array("a<|end|>", allow_special=True)
    assert ids.dtype == dtype
    assert ids.tolist() == [97, size - 1]


def test_special_tokens_cannot_be_forged(tokenizers, corpus_text):
    @given(tokenizers, corpus_text)
    def law(tok, text):
        assert not set(tok.encode(text)) & set(tok.special_tokens.values())
        if not any(token in text for token in tok.special_tokens):
            assert tok.encode(text, allow_special=True) == tok.encode(text)

    law()


def test_of_special_tokens_the_leftmost_and_of_those_the_longest_is_found():
    tok = Tokenizer.train([""], vocab_size=260, special_tokens=["<|a|>", "<|a|>>", "|><", "ab"], shrink=True)
    assert tok.special_tokens == {"<|a|>": 256, "<|a|>>": 257, "|><": 258, "ab": 259}
    assert tok.encode("<|a|>><|a|>ab|><", allow_special=True) == [257, 256, 259, 258]
    assert tok.decode([257, 256, 259, 258]) == "<|a|>><|a|>ab|><"


def test_the_pieces_of_a_stream_joined_are_the_text(tokenizers):
    @given(st.data(), tokenizers)
    def law(data, tok):
        ids = data.draw(st.lists(st.integers(0, tok.vocab_size - 1)))
        stream = tok.stream()
        assert "".join([*map(stream.push, ids), stream.finish()]) == tok.decode(ids)

    law()


def test_a_stream_never_gives_half_a_character(any_text):
    tok = Tokenizer(Vocabulary((), Splitter("qwen2").source))

    @given(any_text)
    def law(text):
        stream = tok.stream()
        pieces = [stream.push(id) for id in tok.encode(text)]
        assert [piece for piece in pieces if piece] == list(text)
        assert stream.finish() == ""

    law()


def test_a_stream_that_ends_within_a_character_says_so():
    stream = Tokenizer(Vocabulary((), Splitter("qwen2").source)).stream()
    assert [stream.push(id) for id in "é".encode()[:1]] == [""]
    assert stream.finish() == "\ufffd"


def test_a_saved_tokenizer_is_the_same_tokenizer(tokenizers, corpus_text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")

    @settings(max_examples=40)  # each file is synced to the disk
    @given(tokenizers, corpus_text)
    def law(tok, text):
        again = reloaded(tok, folder)
        assert again == tok
        assert hash(again) == hash(tok)
        assert again.encode(text, allow_special=True) == tok.encode(text, allow_special=True)
        assert (again.pattern, again.merges, again.special_tokens) == (tok.pattern, tok.merges, tok.special_tokens)
        assert (again.fingerprint, again.vocab_size) == (tok.fingerprint, tok.vocab_size)

    law()


def test_a_tokenizer_travels_to_another_process(tokenizers, corpus_text):
    @given(tokenizers, corpus_text)
    def law(tok, text):
        assert pickle.loads(pickle.dumps(tok)).encode(text) == tok.encode(text)

    law()


def test_the_fingerprint_changes_with_merges_pattern_and_special_tokens():
    pattern = Splitter("qwen2").source
    ab, bc = (97, 98), (98, 99)
    values = [
        Vocabulary((), pattern),
        Vocabulary((ab,), pattern),
        Vocabulary((ab, bc), pattern),
        Vocabulary((bc, ab), pattern),
        Vocabulary((ab,), Splitter("gpt2").source),
        Vocabulary((ab,), pattern, ("<|a|>",)),
        Vocabulary((ab,), pattern, ("<|b|>",)),
        Vocabulary((ab,), pattern, ("<|a|>", "<|b|>")),
        Vocabulary((ab,), pattern, ("<|b|>", "<|a|>")),
    ]
    assert len({value.fingerprint for value in values}) == len(values)
    assert all(len(value.fingerprint) == 16 and int(value.fingerprint, 16) for value in values)


@pytest.mark.parametrize("allow_special", [False, True])
@pytest.mark.parametrize("way", ["encode", "encode_to_array"])
def test_a_lone_surrogate_is_named_by_its_position(way, allow_special, trained):
    with pytest.raises(BPEError, match=r"U\+D83D\) at position 12"):
        getattr(trained, way)("the <|go|> é\ud83d.", allow_special=allow_special)


@pytest.mark.parametrize("beyond", [0, 1, 10**9, None])
def test_an_unknown_id_is_named(beyond, trained):
    strange = -1 if beyond is None else trained.vocab_size + beyond
    for decode in (trained.decode, trained.decode_bytes):
        with pytest.raises(BPEError, match=f"id {strange} is not in this vocabulary, whose ids end at"):
            decode([97, strange])
    with pytest.raises(BPEError, match=f"id {strange} "):
        trained.stream().push(strange)


def test_a_long_piece_takes_time_in_proportion():
    tok = Tokenizer.train(["a" * 5000 + " b" * 100], vocab_size=266, special_tokens=["<|end|>"])
    long = "a" * 300_000 + " " * 100_000
    began = time.perf_counter()
    ids = tok.encode(long)
    assert time.perf_counter() - began < 20  # about one; as many steps as the square of its length would take hours
    assert tok.decode(ids) == long


def test_encoding_a_long_text_takes_twice_the_arrays_memory_and_no_more(monkeypatch):
    monkeypatch.setattr(bpe.encoder, "BLOCK", 1 << 18)
    tok = Tokenizer(Vocabulary((), Splitter("qwen2").source))
    text = "the then naïve 12345\n" * 400_000
    tracemalloc.start()
    ids = tok.encode_to_array(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * ids.nbytes + (24 << 20)  # its parts beside it, and what one block takes; as a list, 60 MB more


def test_the_cache_is_bounded_and_forgetting_changes_nothing(monkeypatch, trained):
    monkeypatch.setattr(bpe.new_stretches, "CACHED_PIECES", 10)
    tok = Tokenizer(trained.vocabulary)
    words = [f" word{chr(97 + number % 26)}{chr(97 + number // 26)} the" for number in range(300)]
    for text in ["".join(words[start : start + 20]) + "a" * 100 for start in range(0, len(words), 20)]:
        assert tok.encode(text) == trained.encode(text)
    assert 0 < len(tok._encoder._ids) <= 10
    assert max(map(len, tok._encoder._ids)) <= bpe.new_stretches.CACHED_LENGTH


def test_no_property_gives_away_what_the_tokenizer_works_with(trained):
    ids = trained.encode("the then <|go|>", allow_special=True)
    trained.merges.clear()
    trained.special_tokens.clear()
    trained.token_bytes.clear()
    assert trained.encode("the then <|go|>", allow_special=True) == ids


def test_bpe_imports_no_torch():
    code = (
        "import sys, bpe, bpe.show, bpe.words, bpe.__main__; sys.exit('torch' in sys.modules or 'data' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0

"""Tokenizers and texts that several of these tests use."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import tiktoken
import tokenizers as hugging_face
from hypothesis import reject
from hypothesis import strategies as st

from bpe import PATTERNS as NAMED
from bpe import BPEError, Tokenizer
from bpe.merging import merge_by_definition
from bpe.split import Splitter

WORDS = ["the", "The", " the", " then", "n't", "'S", "'ſ", "aaa", "aaaa", " ", "  ", "\n", "\r\n", "\t", "12345", "x1"]
WORDS += ["é", "e\u0301", " naïve", "—", "...", "?!", "½", "㎏", "\x00", "\u2028"]
WORDS += ["你好", "ปลา", "עברית", "नमस्ते", "👩\u200d🚀"]
PATTERNS = ["qwen2", "gpt2", "gpt4", r"\p{L}+|\d", r"[^\s]+|\s", r"(a+)(?=b)|t", r"x*"]  # the last three leave gaps
GAPLESS = {r"\p{L}+|\d": r"\p{L}+|\d|[^\p{L}\d]+"}  # tiktoken drops what a pattern does not match
SPECIAL = ["<|end|>", "<|end|>>", "the end", "<|é|>", "aaa the"]


@pytest.fixture(scope="session")
def corpus_text() -> st.SearchStrategy[str]:
    """Texts in the corpus's own words and letters, to which merges and special tokens do apply."""
    letters = st.sampled_from([*WORDS, *SPECIAL, *"".join(WORDS)])
    return st.lists(letters, max_size=30).map("".join)


@pytest.fixture(scope="session")
def any_text() -> st.SearchStrategy[str]:
    """Any text that has an UTF-8: unassigned code points and control characters too."""
    return st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="session")
def assigned_text() -> st.SearchStrategy[str]:
    """Any text of code points that Unicode has assigned: on these every regular expression library agrees."""
    any_letter = st.characters(exclude_categories=["Cs", "Cn"])
    return st.lists(st.one_of(st.sampled_from(WORDS), any_letter), max_size=40).map("".join)


@pytest.fixture(scope="session")
def tokenizers(corpus_text: st.SearchStrategy[str]) -> st.SearchStrategy[Tokenizer]:
    """Small tokenizers: any split pattern, any special tokens, any number of merges."""

    def train(texts: list[str], vocab_size: int, pattern: str, special: list[str]) -> Tokenizer:
        settings = {"vocab_size": vocab_size, "pattern": pattern, "special_tokens": special, "shrink": True}
        try:
            return Tokenizer.train(texts, **settings)
        except BPEError:  # a pattern let a merge spell a special token
            reject()

    return st.builds(
        train,
        st.lists(corpus_text, min_size=1, max_size=4),
        st.integers(261, 330),
        st.sampled_from(PATTERNS),
        st.lists(st.sampled_from(SPECIAL), unique=True),
    )


@pytest.fixture(scope="session", params=["qwen2", "gpt2", "gpt4", r"\p{L}+|\d"])
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    """One tokenizer for each pattern, with merges in many scripts."""
    texts = [" ".join(WORDS[number:] + WORDS) * 2 for number in range(len(WORDS))]
    return Tokenizer.train(
        texts, vocab_size=400, pattern=request.param, special_tokens=["<|end|>", "<|go|>"], shrink=True
    )


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Callable[[dict], object]], Path]:
    """A function that saves a tokenizer, lets its argument change the content of the file, and gives the path."""

    def edit(change: Callable[[dict], object]) -> Path:
        path = tmp_path / "tokenizer.json"
        Tokenizer.train(["the then the then"], vocab_size=259, special_tokens=["<|end|>"]).save(path)
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return edit


@pytest.fixture
def as_hugging_face(tmp_path: Path) -> Callable[[Tokenizer], hugging_face.Tokenizer]:
    """A function that gives the `tokenizers` library's tokenizer for one of ours, by way of a file."""

    def convert(tok: Tokenizer) -> hugging_face.Tokenizer:
        tok.save(tmp_path / "tokenizer.json")
        return hugging_face.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    return convert


@pytest.fixture
def as_tiktoken() -> Callable[[Tokenizer], tiktoken.Encoding]:
    """A function that gives tiktoken's tokenizer for one of ours."""

    def convert(tok: Tokenizer) -> tiktoken.Encoding:
        ranks = {token: id for id, token in enumerate(tok.token_bytes)}
        pattern = tok.pattern if tok.pattern in NAMED.values() else GAPLESS[tok.pattern]
        return tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=ranks, special_tokens=tok.special_tokens)

    return convert


@pytest.fixture
def by_definition() -> Callable[[Tokenizer, str], list[int]]:
    """A function that gives the ids of a text by the definition: its pieces, each merged by the slow rule."""

    def encode(tok: Tokenizer, text: str) -> list[int]:
        new_ids = {pair: id for id, pair in enumerate(tok.merges, 256)}
        pieces = list(Splitter(tok.pattern).pieces(text))
        ids = {piece: merge_by_definition(piece.encode(), new_ids) for piece in set(pieces)}
        return list(chain.from_iterable(map(ids.__getitem__, pieces)))

    return encode

"""Text to token ids and back.

In: a Vocabulary, and text or ids.  Out: ids, or text; always the text that went in.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from os import PathLike

import numpy as np
import numpy.typing as npt
import regex

from bpe.errors import BPEError
from bpe.merging import merge_piece
from bpe.pairs import Pair
from bpe.split import Splitter
from bpe.trainer import BPETrainer
from bpe.vocabulary import FIRST_MERGE_ID, Vocabulary
from bpe.words import naming_lone_surrogates

Ids = npt.NDArray[np.uint16 | np.uint32]

CACHED_PIECES = 1 << 17  # of at most CACHED_LENGTH characters: some 30 MB when full
CACHED_LENGTH = 64


class Tokenizer:
    """A byte-level BPE tokenizer: every text has ids, and its ids give the text back.

    >>> tok = Tokenizer.train(["low lower lowest"], vocab_size=259, special_tokens=["<|end|>"])
    >>> tok.encode("low<|end|>", allow_special=True)
    [257, 258]
    >>> tok.decode([257, 258])
    'low<|end|>'
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._splitter = Splitter(vocabulary.pattern)
        self._ids = _IdsOfPieces({pair: id for id, pair in enumerate(vocabulary.merges, FIRST_MERGE_ID)})
        self._bytes = [*vocabulary.token_bytes, *map(str.encode, vocabulary.special_tokens)]
        longest_first = sorted(vocabulary.special_tokens, key=len, reverse=True)
        self._special = regex.compile("|".join(map(regex.escape, longest_first))) if longest_first else None

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int = 16_384,
        special_tokens: Sequence[str] = (),
        pattern: str = "qwen2",
        workers: int | None = None,
        shrink: bool = False,
    ) -> "Tokenizer":
        """Learn a vocabulary of `vocab_size` ids (bytes, merges and special tokens together) from `texts`.

        texts: read once, as a stream; only the counts of their words are kept. pattern: "qwen2", "gpt2", "gpt4" or a
        regular expression. workers: processes that count words (None: one for each core); the result is the same.
        Raises BPEError when `vocab_size` is too small for bytes and special tokens, or larger than the texts support;
        with `shrink` the vocabulary is then as large as they do support.
        """
        num_merges = vocab_size - FIRST_MERGE_ID - len(special_tokens)
        if num_merges < 0:
            raise BPEError(
                f"a vocabulary of {vocab_size} has no room for 256 bytes and {len(special_tokens)} special tokens; "
                f"ask for {FIRST_MERGE_ID + len(special_tokens)} or more"
            )
        Vocabulary((), Splitter(pattern).source, tuple(special_tokens))  # complain before the work, not after it
        trainer = BPETrainer(num_merges=num_merges, pattern=pattern, special_tokens=special_tokens, workers=workers)
        vocabulary = trainer.train(texts)
        if vocabulary.size < vocab_size and not shrink:
            raise BPEError(
                f"the text supports a vocabulary of at most {vocabulary.size}, not {vocab_size}, because no pair of "
                f"tokens is left that occurs twice; ask for {vocabulary.size} or less, or give more text"
            )
        return cls(vocabulary)

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """The ids of a text. The text of a special token is plain text unless `allow_special`.

        Raises BPEError naming the position of a lone surrogate.
        """
        with naming_lone_surrogates(text):
            return list(self._iterate_ids(text, allow_special))

    def encode_to_array(self, text: str, *, allow_special: bool = False) -> Ids:
        """What `encode` gives, as an array of `dtype`; holds little more than the array, however long the text."""
        with naming_lone_surrogates(text):
            return np.fromiter(self._iterate_ids(text, allow_special), dtype=self.dtype)

    def _iterate_ids(self, text: str, allow_special: bool) -> Iterator[int]:
        parts = self._parts(text) if allow_special else [self._ids_of_plain(text)]
        return chain.from_iterable(chain.from_iterable(parts))

    def _ids_of_plain(self, text: str) -> Iterator[Sequence[int]]:
        return map(self._ids.__getitem__, self._splitter.pieces(text))

    def _parts(self, text: str) -> Iterator[Iterable[Sequence[int]]]:
        """Plain stretches and special tokens in turn: the leftmost, of those the longest."""
        special_ids, end = self.special_tokens, 0
        for match in self._special.finditer(text) if self._special else ():
            yield self._ids_of_plain(text[end : match.start()])
            yield [[special_ids[match.group()]]]
            end = match.end()
        yield self._ids_of_plain(text[end:])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, special tokens as their text; bytes that are no UTF-8 become U+FFFD.

        Raises BPEError for an id that the vocabulary does not have.
        """
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids. Raises BPEError for an id that the vocabulary does not have."""
        listed = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        if listed and (min(listed) < 0 or max(listed) >= self.vocab_size):
            strange = next(id for id in listed if not 0 <= id < self.vocab_size)
            raise BPEError(
                f"id {strange} is not in this vocabulary, whose ids end at {self.vocab_size - 1}; "
                "the ids were made by another tokenizer"
            )
        return b"".join(map(self._bytes.__getitem__, listed))

    def stream(self) -> "StreamDecoder":
        """A decoder that takes ids one at a time."""
        return StreamDecoder(self)

    @property
    def vocab_size(self) -> int:
        """The number of ids: 256 bytes, the merges and the special tokens."""
        return self.vocabulary.size

    @property
    def merges(self) -> list[Pair]:
        """The merges in the order they were learned, as pairs of ids; the first makes id 256."""
        return list(self.vocabulary.merges)

    @property
    def pattern(self) -> str:
        """The regular expression that splits text."""
        return self.vocabulary.pattern

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens and their ids."""
        return self.vocabulary.special_ids

    @property
    def token_bytes(self) -> list[bytes]:
        """The bytes that each id stands for, special tokens left out."""
        return list(self.vocabulary.token_bytes)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that two tokenizers share only when they give the same ids to every text."""
        return self.vocabulary.fingerprint

    @property
    def dtype(self) -> np.dtype[np.uint16 | np.uint32]:
        """The smallest unsigned integers that hold every id: uint16, or uint32 for more than 65,536 ids."""
        return np.dtype(np.uint16) if self.vocab_size <= 1 << 16 else np.dtype(np.uint32)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a tokenizer.json that `tokenizers` and `transformers` read. Raises FileError."""
        self.vocabulary.save(path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Tokenizer":
        """Read a tokenizer.json. Raises BPEError for a file that is missing, damaged, or of another kind."""
        return cls(Vocabulary.load(path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.vocabulary == other.vocabulary

    def __hash__(self) -> int:
        return hash(self.vocabulary)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[Vocabulary]]:
        return Tokenizer, (self.vocabulary,)  # for worker processes: no caches in the luggage

    def __repr__(self) -> str:
        return f"<Tokenizer {self.fingerprint}: {self.vocab_size:,} ids, {len(self.special_tokens)} of them special>"


class StreamDecoder:
    """Decodes ids one at a time and never gives half a character: the pieces joined are the text of the ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """The text that is certain after one more id; often empty within a character. Raises BPEError."""
        return self._decoder.decode(self._tokenizer.decode_bytes([id]))

    def finish(self) -> str:
        """What is left when no more ids come: U+FFFD if they ended within a character."""
        return self._decoder.decode(b"", final=True)


class _IdsOfPieces(dict[str, tuple[int, ...]]):
    """The ids of pieces of text, each worked out when first asked for; as a dict, it answers without running Python."""

    def __init__(self, new_ids: dict[Pair, int]) -> None:
        super().__init__()
        self.new_ids = new_ids

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = tuple(merge_piece(piece.encode(), self.new_ids))
        if len(piece) <= CACHED_LENGTH:
            if len(self) >= CACHED_PIECES:
                self.clear()
            self[piece] = ids
        return ids

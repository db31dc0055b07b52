"""Text to token ids and back.

In: a Vocabulary, and text or ids.  Out: ids, or text; always the text that went in.
"""

import codecs
import os
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike

import numpy as np
import regex

from bpe.block_encoder import Ids
from bpe.cuts import LONG
from bpe.encoder import Encoder
from bpe.errors import BPEError
from bpe.pairs import Pair
from bpe.rows import Rows
from bpe.split import Splitter
from bpe.trainer import BPETrainer
from bpe.vocabulary import FIRST_MERGE_ID, Vocabulary
from bpe.words import naming_lone_surrogates

DECODED_AT_ONCE = 1 << 16  # ids: their bytes fit a core's cache


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
        self._encoder = Encoder(vocabulary)
        self._bytes = Rows(np.dtype(np.uint8), [*vocabulary.token_bytes, *map(str.encode, vocabulary.special_tokens)])
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
        regular expression. workers: threads that count words (None: one for each core); the result is the same.
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
            if len(text) >= LONG:
                ids: list[int] = self.encode_to_array(text, allow_special=allow_special).tolist()
                return ids
            ids = []
            for part in self._parts(text) if allow_special else [text]:
                ids += [part] if isinstance(part, int) else self._encoder.plain(part)
            return ids

    def encode_to_array(self, text: str, *, allow_special: bool = False, workers: int | None = 1) -> Ids:
        """What `encode` gives, as an array of `dtype`; of a long text it takes, at its peak, twice the array's memory.

        workers: processes that share a text of millions of characters; None: one for each core. The ids are the same.
        Raises BPEError naming the position of a lone surrogate.
        """
        workers = workers or os.cpu_count() or 1
        with naming_lone_surrogates(text):
            if not allow_special:
                return self._encoder.encode(text, workers)
            parts = [
                np.array([part], self.dtype) if isinstance(part, int) else self._encoder.encode(part, workers)
                for part in self._parts(text)
            ]
            return np.concatenate(parts)

    def encode_batch(self, texts: Iterable[str], *, workers: int | None = 1) -> list[Ids]:
        """What `encode_to_array` gives for each text, special tokens as plain text; many short ones go fast together.

        Raises BPEError naming the position of a lone surrogate in the first text that has one.
        """
        texts = list(texts)
        try:
            return self._encoder.encode_each(texts, workers or os.cpu_count() or 1)
        except UnicodeEncodeError:
            for text in texts:
                with naming_lone_surrogates(text):
                    text.encode()
            raise

    def _parts(self, text: str) -> Iterator[str | int]:
        """Plain stretches of text and ids of special tokens in turn: of these the leftmost, of those the longest."""
        special_ids, end = self.special_tokens, 0
        for match in self._special.finditer(text) if self._special else ():
            yield text[end : match.start()]
            yield special_ids[match.group()]
            end = match.end()
        yield text[end:]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, special tokens as their text; bytes that are no UTF-8 become U+FFFD.

        Raises BPEError for an id that the vocabulary does not have.
        """
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids. Raises BPEError for an id that the vocabulary does not have."""
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
        strange = array[(array < 0) | (array >= self.vocab_size)]
        if len(strange):
            raise BPEError(
                f"id {strange[0]} is not in this vocabulary, whose ids end at {self.vocab_size - 1}; "
                "the ids were made by another tokenizer"
            )
        starts = range(0, len(array), DECODED_AT_ONCE)
        blocks = (array[start : start + DECODED_AT_ONCE].astype(np.int64) for start in starts)
        return b"".join(self._bytes.joined(block).tobytes() for block in blocks)

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
        return self._encoder.dtype

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

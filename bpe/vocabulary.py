"""The vocabulary as a value, and the file it is kept in.

In: merges, a split pattern, special tokens; or a tokenizer.json in the format of Hugging Face's `tokenizers`.
Out: the bytes and the id of every token; that file.

Ids: 0-255 are the bytes, then the merges in order, then the special tokens.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from os import PathLike, fspath
from pathlib import Path
from typing import Any, AnyStr

from bpe.errors import BPEError
from bpe.files import write_json
from bpe.pairs import Pair
from bpe.split import Splitter

FIRST_MERGE_ID = 256


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer is made of: two tokenizers with equal vocabularies give equal ids.

    merges: pairs of ids, the first making token 256, the next 257, and so on. pattern: the regular expression that
    splits text. special_tokens: their texts, in the order of their ids.
    Raises BPEError when they do not make a vocabulary.
    """

    merges: tuple[Pair, ...]
    pattern: str
    special_tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Splitter(self.pattern)
        for new, (first, second) in enumerate(self.merges, FIRST_MERGE_ID):
            if not (0 <= first < new and 0 <= second < new):
                pair, number = (first, second), new - FIRST_MERGE_ID
                raise BPEError(f"merge {number} joins {pair}, but only ids 0 to {new - 1} exist by then")
        spellings = set(self.spellings)
        if len(spellings) != len(self.spellings):
            raise BPEError("two merges make the same token, so ids would be ambiguous")
        seen = set[str]()
        for token in self.special_tokens:
            if not token or not token.isprintable():
                raise BPEError(f"special token {token!r} is empty or not printable; use one such as <|endoftext|>")
            if token in seen:
                raise BPEError(f"special token {token!r} is given twice; give each once")
            if token in spellings:
                raise BPEError(f"special token {token!r} is also a token of plain text; use one such as <|endoftext|>")
            seen.add(token)

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes that each id stands for, special tokens left out."""
        return _joined([bytes([byte]) for byte in range(FIRST_MERGE_ID)], self.merges)

    @cached_property
    def spellings(self) -> list[str]:
        """The tokens of `token_bytes` as the file spells them."""
        return _joined([spelled(bytes([byte])) for byte in range(FIRST_MERGE_ID)], self.merges)

    @property
    def special_ids(self) -> dict[str, int]:
        """The id of each special token."""
        first = FIRST_MERGE_ID + len(self.merges)
        return {token: first + number for number, token in enumerate(self.special_tokens)}

    @property
    def size(self) -> int:
        """The number of ids: bytes, merges and special tokens."""
        return FIRST_MERGE_ID + len(self.merges) + len(self.special_tokens)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits (of a SHA-256) that two vocabularies share only when they are equal."""
        content = json.dumps([self.merges, self.pattern, self.special_tokens], separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def save(self, path: str | PathLike[str]) -> None:
        """Write a tokenizer.json that `tokenizers` and `transformers` read. Raises FileError."""
        write_json(path, self._as_json())

    def _as_json(self) -> dict[str, Any]:
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        split = {"type": "Split", "pattern": {"Regex": self.pattern}, "behavior": "Isolated", "invert": False}
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": id, "content": token, **flags} for token, id in self.special_ids.items()],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {spelling: id for id, spelling in enumerate(self.spellings)},
                # "first second" is read by every version of the library; pairs only by newer ones
                "merges": [f"{self.spellings[first]} {self.spellings[second]}" for first, second in self.merges],
            },
        }

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Vocabulary":
        """Read a tokenizer.json. Raises BPEError for a file that is missing, damaged, or of another kind."""
        try:
            content = json.loads(Path(path).read_bytes())
        except OSError as error:
            raise BPEError(
                f"cannot read the tokenizer {fspath(path)}: {error.strerror or error}; train one, or name another file"
            ) from error
        except (ValueError, RecursionError) as error:
            raise BPEError(
                f"{fspath(path)} is damaged or no tokenizer.json ({error}); train it anew or take a whole copy"
            ) from error
        try:
            return _from_json(content)
        except BPEError as error:
            raise BPEError(
                f"{fspath(path)} is no tokenizer that this program can use: {error}; take one that this program trained"
            ) from error


def _joined(tokens: list[AnyStr], merges: Iterable[Pair]) -> list[AnyStr]:
    """The tokens for the single bytes, followed by the token that each merge makes."""
    for first, second in merges:
        tokens.append(tokens[first] + tokens[second])
    return tokens


def _from_json(content: Any) -> Vocabulary:
    """The vocabulary in the content of a tokenizer.json; raises BPEError with the reason why there is none."""

    def require(condition: object, reason: str) -> None:
        if not condition:
            raise BPEError(reason)

    def part(of: Any, key: str, kind: type) -> Any:
        require(isinstance(of, dict) and isinstance(of.get(key), kind), f"it has no {key!r} of the usual form")
        return of[key]

    model = part(content, "model", dict)
    require(model.get("type") == "BPE", f"its model is {model.get('type')!r}, not 'BPE'")
    for key in (
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "ignore_merges",
    ):
        require(not model.get(key), f"its model sets {key!r}")
    require(not content.get("normalizer"), "it has a normalizer, which changes the text")
    after = content.get("post_processor") or {"type": "ByteLevel"}
    plain = isinstance(after, dict) and (after.get("type") == "ByteLevel" or after.get("special_tokens") == {})
    require(plain, "its post-processor adds tokens")

    steps = part(part(content, "pre_tokenizer", dict), "pretokenizers", list)
    kinds = [step.get("type") if isinstance(step, dict) else None for step in steps]
    require(kinds == ["Split", "ByteLevel"], f"its pre-tokenizer does {kinds}, not Split and ByteLevel")
    split, byte_level = steps
    require(split.get("behavior") == "Isolated" and not split.get("invert"), "its Split is not 'Isolated'")
    pattern = part(part(split, "pattern", dict), "Regex", str)
    plain = not byte_level.get("add_prefix_space", True) and not byte_level.get("use_regex", True)
    require(plain, "its ByteLevel adds a space or splits by a pattern of its own")

    vocab = part(model, "vocab", dict)
    for byte in range(FIRST_MERGE_ID):
        require(vocab.get(spelled(bytes([byte]))) == byte, f"byte {byte} does not have the id {byte}")
    merges = [_pair(number, merge, vocab) for number, merge in enumerate(part(model, "merges", list))]

    special: list[str] = []
    added = content.get("added_tokens") or []
    require(isinstance(added, list) and all(isinstance(token, dict) for token in added), "'added_tokens' is no list")
    for number, token in enumerate(added, FIRST_MERGE_ID + len(merges)):
        name = part(token, "content", str)
        require(token.get("id") == number, f"the added token {name!r} has the id {token.get('id')}, not {number}")
        odd = [key for key in ("single_word", "lstrip", "rstrip") if token.get(key)]
        require(token.get("special") is True and not odd, f"the added token {name!r} is not a plain special token")
        special.append(name)
    vocabulary = Vocabulary(tuple(merges), pattern, tuple(special))
    known_ids = {spelling: id for id, spelling in enumerate(vocabulary.spellings)} | vocabulary.special_ids
    strange = next((name for name, id in vocab.items() if known_ids.get(name) != id), None)
    require(strange is None, f"its token {strange!r} is neither a byte, nor a merge, nor a special token")
    return vocabulary


def _pair(number: int, merge: Any, vocab: dict[str, Any]) -> Pair:
    """The ids that a merge of the file joins. There are thousands: nothing is put into words before it is needed."""
    names = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(names, list) or [*map(type, names)] != [str, str]:
        raise BPEError(f"merge {number} is not a pair of tokens")
    first, second, new = vocab.get(names[0]), vocab.get(names[1]), vocab.get(names[0] + names[1])
    if type(first) is not int or type(second) is not int:
        raise BPEError(f"merge {number} ({names[0]!r}, {names[1]!r}) names an unknown token")
    if new != FIRST_MERGE_ID + number:
        raise BPEError(f"merge {number} has the id {new}, not {FIRST_MERGE_ID + number}")
    return first, second


_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(0x100) if byte not in _PRINTABLE]
_SPELLING = dict(chain(((byte, byte) for byte in _PRINTABLE), ((byte, 0x100 + n) for n, byte in enumerate(_OTHERS))))


def spelled(token: bytes) -> str:
    """A token as the file spells it: each byte as one visible letter (GPT-2's bytes_to_unicode).

    >>> spelled(b" the")
    'Ġthe'
    """
    return token.decode("latin-1").translate(_SPELLING)

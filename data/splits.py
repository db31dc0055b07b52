"""Which text is trained on and which is held out to measure by.

In: streams of documents, or of (prompt, story) pairs.  Out: the same, each marked "train" or "valid". The choice hangs
on the texts and their order (files': by name), never on chance: the same on every machine and in every run. About 5 %
is held out.

Nothing stands on both sides: no document, no prompt, and no near-copy of a story; what would is left out of training.
Such copies make held-out loss look better than it is (Lee et al. 2022, arXiv:2107.06499, section 5).
"""

import hashlib
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice

import numpy as np
import numpy.typing as npt

from data.documents import Document, Pair, Split, warn_once
from data.errors import DataError

HELD_OUT = 0.05  # share of documents, or prompts
FEW = 20  # with fewer documents than this, the end of each is held out rather than one of them whole
SHINGLE = 8  # words in a row; two texts of different writers hardly share any
COPIED = 0.2  # two stories are near-copies when they share this part of the shorter one's shingles

_LOWEST = int(HELD_OUT * 2**64)
_WORD = re.compile(r"\w+")

Hashes = npt.NDArray[np.uint64]


def split_documents(documents: Iterable[Document]) -> Iterator[tuple[Split, Document]]:
    """Mark each document as it comes; the first FEW are held as UTF-8 until it is their turn.

    Of the first FEW the one with the smallest hash is held out, of the rest those in the lowest HELD_OUT of hashes.
    Of fewer than FEW in all, the last HELD_OUT of each, up to twice as much where a paragraph or a word ends there.
    """
    stream = iter(documents)
    first = deque((document.name, document.text.encode("utf-8")) for document in islice(stream, FEW))
    if len(first) < FEW:
        for document in _given_up(first):
            yield from _end_held_out(document)
        return
    chosen = min(_hash_of_utf8(text) for _, text in first)
    for document in _given_up(first):
        yield ("valid" if _hash(document.text) == chosen else "train"), document
    for document in stream:
        hashed = _hash(document.text)
        yield ("valid" if hashed < _LOWEST or hashed == chosen else "train"), document


def _given_up(texts: deque[tuple[str, bytes]]) -> Iterator[Document]:
    """The documents of these names and texts, none of which is held any longer when it is out."""
    while texts:
        name, text = texts.popleft()
        yield Document(name, text.decode("utf-8"))


def keep_documents_apart(train: Iterable[Document], valid: Iterable[Document]) -> Iterator[tuple[Split, Document]]:
    """A split that was given, less the training documents that are held out too. Held-out documents come first."""
    held_out: set[int] = set()
    for document in valid:
        held_out.add(_hash(document.text))
        yield "valid", document
    for document in train:
        if _hash(document.text) not in held_out:
            yield "train", document


def split_pairs(pairs: Callable[[], Iterable[Pair]]) -> Iterator[tuple[Split, Pair]]:
    """Hold out the pairs whose prompts have the lowest HELD_OUT of all hashes, at least one prompt; they come first.

    `pairs` gives the same stream each time it is called; it is read three times and never held.
    Raises DataError when there are not two different prompts.
    """
    hashes = {_hash_of_prompt(pair) for pair in pairs()}
    if len(hashes) < 2:
        raise DataError("the pairs have fewer than two different prompts, so none can be held out; add pairs")
    lowest = max(_LOWEST, min(hashes) + 1)
    if max(hashes) < lowest:
        lowest = max(hashes)
    valid = (pair for pair in pairs() if _hash_of_prompt(pair) < lowest)
    train = (pair for pair in pairs() if _hash_of_prompt(pair) >= lowest)
    yield from keep_pairs_apart(train, valid)


def keep_pairs_apart(train: Iterable[Pair], valid: Iterable[Pair]) -> Iterator[tuple[Split, Pair]]:
    """A split that was given, less the training pairs with a held-out prompt or a near-copy of a held-out story.

    Held-out pairs come first. Of them the hashes are kept (12 bytes a word); of the training side nothing is.
    """
    prompts: set[int] = set()
    stories: list[Hashes] = []
    for pair in valid:
        prompts.add(_hash_of_prompt(pair))
        stories.append(shingles(pair.story))
        yield "valid", pair
    copies = CopiesOf(stories)
    same_prompt = near_copy = 0
    for pair in train:
        if _hash_of_prompt(pair) in prompts:
            same_prompt += 1
        elif copies.include(pair.story):
            near_copy += 1
        else:
            yield "train", pair
    if same_prompt or near_copy:
        warn_once(
            f"left out of training: {same_prompt:,} pairs with a held-out prompt, "
            f"{near_copy:,} near-copies of held-out stories"
        )


class CopiesOf:
    """Answers whether a story is a near-copy of one of those given, each as its shingles."""

    def __init__(self, stories: list[Hashes]) -> None:
        sizes = np.array([len(story) for story in stories], dtype=np.int64)
        every = np.concatenate([*stories, np.empty(0, dtype=np.uint64)])
        self._hashes, where = np.unique(every, return_index=True)
        self._owner = np.repeat(np.arange(len(stories)), sizes)[where]  # of a shingle in several, the first
        self._sizes = sizes

    def include(self, story: str) -> bool:
        """Whether the story shares at least COPIED of the shorter one's shingles with one of the stories."""
        own = shingles(story)
        if not len(own) or not len(self._hashes):
            return False
        at = np.minimum(np.searchsorted(self._hashes, own), len(self._hashes) - 1)
        owners, shared = np.unique(self._owner[at[self._hashes[at] == own]], return_counts=True)
        return bool(np.any(shared >= COPIED * np.minimum(self._sizes[owners], len(own))))


def shingles(text: str) -> Hashes:
    """The different runs of SHINGLE words in a text, hashed, in ascending order; case and punctuation do not count.

    A text of fewer words is one run. Broder 1997, "On the resemblance and containment of documents".
    """
    words = np.array([_hash_of_word(word) for word in _WORD.findall(text.lower())], dtype=np.uint64)
    size = min(SHINGLE, len(words))
    if not size:
        return words
    runs = np.zeros(len(words) - size + 1, dtype=np.uint64)
    for offset in range(size):
        runs = runs * np.uint64(0x9E3779B97F4A7C15) + words[offset : len(words) - size + 1 + offset]
    return np.unique(runs)


def _end_held_out(document: Document) -> Iterator[tuple[Split, Document]]:
    """The document's start as training text and its end as held-out text, cut where a paragraph ends if one does."""
    text = document.text
    earliest, at = int(len(text) * (1 - 2 * HELD_OUT)), min(int(len(text) * (1 - HELD_OUT)), len(text) - 1)
    cut = next((found for mark in ("\n\n", "\n", " ") if (found := text.rfind(mark, earliest, at)) > 0), at)
    parts: tuple[tuple[Split, str], ...] = (("train", text[:cut]), ("valid", text[cut:]))
    for split, part in parts:
        if part := part.strip():
            yield split, Document(document.name, part)


def _hash(text: str) -> int:
    """The first 64 bits of the SHA-256 of the text as UTF-8."""
    return _hash_of_utf8(text.encode("utf-8"))


def _hash_of_utf8(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def _hash_of_prompt(pair: Pair) -> int:
    """Equal for prompts that differ in case, blanks and punctuation only."""
    return _hash(" ".join(_WORD.findall(pair.prompt.lower())) or pair.prompt)


@lru_cache(maxsize=1 << 17)
def _hash_of_word(word: str) -> int:
    return zlib.crc32(word.encode("utf-8"))

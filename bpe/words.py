"""Counting the words of a corpus.

In: texts, one at a time, and how to split them.  Out: every distinct word as bytes, with how often it occurs.
"""

from collections import Counter
from collections.abc import Iterable

from bpe.errors import BPEError
from bpe.split import Splitter


def count_words(texts: Iterable[str], splitter: Splitter, workers: int | None = 1) -> dict[bytes, int]:
    """How often each word (piece of the split) occurs in `texts`, of which one at a time is held in memory."""
    counts = Counter[str]()
    for text in texts:
        to_utf8(text)
        counts.update(splitter.pieces(text))
    return {word.encode(): times for word, times in counts.items()}


def to_utf8(text: str) -> bytes:
    """The UTF-8 of a text. Raises BPEError naming the position of a lone surrogate, which has none."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BPEError(
            f"the text has a lone surrogate (U+{ord(text[error.start]):04X}) at position {error.start}, which no UTF-8 "
            'can hold: take it out, for instance with text.encode("utf-8", "replace").decode()'
        ) from error

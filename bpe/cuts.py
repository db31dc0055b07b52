"""Where a text can be cut without asking the regular expression.

In: a split pattern, and text as UTF-8.  Out: places where pieces of that pattern certainly begin.

A named pattern ends a piece between certain neighbours, whatever stands around them: between a letter and a blank, for
one. Cut at such places, each stretch of text gives by itself the pieces that it gives within the text:

    She said:| "No!"| --| and| left|.        stretches
    She| said|:| "|No|!"| --| and| left|.    pieces
"""

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

from bpe.split import PATTERNS

Places = npt.NDArray[np.int64]

# Classes of characters. Beside any other byte (tabs, controls, half a character) no cut is certain.
LETTER, DIGIT, MARK, BLANK, LINE_END = CLASSES = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    b"0123456789",
    b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    b" ",
    b"\r\n",
)
VISIBLE = (LETTER, DIGIT, MARK)

# Between which neighbours a piece always ends. Not after a blank or a line end where the pattern could look ahead to
# what follows them: `\s+(?!\S)` leaves the last blank to the next word, so at a cut it would see another text.
CERTAIN = {
    "gpt2": [
        *product([LETTER], [DIGIT, MARK, BLANK, LINE_END]),
        *product([DIGIT], [LETTER, MARK, BLANK, LINE_END]),
        *product([MARK], [DIGIT, BLANK, LINE_END]),
    ],
    "gpt4": [
        *product([LETTER], [DIGIT, MARK, BLANK, LINE_END]),
        *product([DIGIT], [LETTER, MARK, BLANK, LINE_END]),
        *product([MARK], [DIGIT, BLANK]),
        *product([LINE_END], VISIBLE),  # \s*[\r\n]+ has taken all blanks before
    ],
}
CERTAIN["qwen2"] = [*CERTAIN["gpt4"], (DIGIT, DIGIT)]

LONG = 1 << 11  # characters; for a shorter text, blocks do not pay
BLOCK = 1 << 20  # characters: large enough for threads, which wait for each other at each call into NumPy
_TAIL = 1 << 10


def cuts_of(pattern: str) -> "Cuts | None":
    """The certain cuts of a regular expression; None for any that is not one of the named patterns."""
    names = {source: name for name, source in PATTERNS.items()}
    return Cuts(CERTAIN[names[pattern]]) if pattern in names else None


def is_one_piece(stretch: bytes) -> bool:
    """Whether a stretch is certainly one piece of every named pattern: a word in ASCII, with or without a blank."""
    return stretch.removeprefix(BLANK).isalpha()


class Cuts:
    """Finds where a text is cut. neighbours: the classes between which it is, of the byte before and the one after."""

    def __init__(self, neighbours: Iterable[tuple[bytes, bytes]]) -> None:
        before, after = bytearray(256), bytearray(256)  # a bit for each class, and for those it is cut from
        for bit, left in enumerate(CLASSES):
            for byte in left:
                before[byte] = 1 << bit
        for left, right in neighbours:
            for byte in right:
                after[byte] |= 1 << CLASSES.index(left)
        self._before, self._after = bytes(before), bytes(after)

    def places(self, text: bytes) -> Places:
        """Where `text` is certainly cut: rising, without 0 and the end."""
        before = np.frombuffer(text.translate(self._before), np.uint8)
        after = np.frombuffer(text.translate(self._after), np.uint8)
        return np.flatnonzero((before[:-1] & after[1:]) != 0) + 1

    def blocks(self, text: str) -> Iterator[str]:
        """`text` in blocks that end at certain cuts: of about BLOCK characters, or more where no cut is found.

        Raises UnicodeEncodeError for a lone surrogate where it looks for cuts.
        """
        start = 0
        for stop in range(BLOCK, len(text), BLOCK):
            cut = self._last_cut(text, max(start, stop - _TAIL), stop) or self._last_cut(text, start, stop)
            if cut:
                yield text[start:cut]
                start = cut
        if start < len(text):
            yield text[start:]

    def _last_cut(self, text: str, start: int, stop: int) -> int:
        """The last certain cut between two places, not further back than BLOCK; 0 when there is none."""
        start = max(start, stop - BLOCK)
        utf8 = text[start:stop].encode()
        places = self.places(utf8)
        return start + len(utf8[: places[-1]].decode()) if len(places) else 0

"""Where a text can be cut without asking the regular expression.

In: a split pattern, and text as UTF-8.  Out: places where pieces of that pattern certainly begin.

A named pattern ends a piece between certain neighbours, whatever stands around them: between a letter and a blank, for
one. Cut at such places, each stretch of text gives by itself the pieces that it gives within the text:

    She said:| "No!"| --| and| left|.        stretches
    She| said|:| "|No|!"| --| and| left|.    pieces
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from bpe.split import PATTERNS

Places = npt.NDArray[np.int64]
Class = Literal["letter", "digit", "mark", "blank", "line end"]

# Classes are of ASCII, but that dashes, quotation marks and dots from U+2010 to U+2027 are marks too: prose is full of
# them. Beside other characters no cut is certain.
#
# After which classes a piece always ends where which other class follows. After a blank, never, and after a line end
# only where the pattern does not look ahead from there: `\s+(?!\S)` leaves the last blank to the next word, so that at
# a cut it would not see the text that it saw without.
CERTAIN: dict[str, dict[Class, list[Class]]] = {
    "gpt2": {
        "letter": ["digit", "mark", "blank", "line end"],
        "digit": ["letter", "mark", "blank", "line end"],
        "mark": ["digit", "blank", "line end"],
    },
    "gpt4": {
        "letter": ["digit", "mark", "blank", "line end"],
        "digit": ["letter", "mark", "blank", "line end"],
        "mark": ["digit", "blank"],
        "line end": ["letter", "digit", "mark"],  # \s*[\r\n]+ has taken all blanks before
    },
}
CERTAIN["qwen2"] = CERTAIN["gpt4"] | {"digit": ["letter", "digit", "mark", "blank", "line end"]}

LONG = 1 << 11  # characters; for fewer, blocks do not pay
BLOCK = 1 << 18  # characters: enough that calling NumPy costs little, and few enough for the caches of a core
TOGETHER = 6  # blocks of that size, in which what is new is learned together
NOWHERE: Places = np.zeros(0, np.int64)
_TAIL = 1 << 10
_BEFORE = 4  # bits, one for each class that a cut comes after
_PROSE_MARKS = ("‐".encode(), "‧".encode())  # the first and the last: U+2010, U+2027, three bytes each


def cuts_of(pattern: str) -> "Cuts | None":
    """The certain cuts of a regular expression; None for any that is not one of the named patterns."""
    names = {source: name for name, source in PATTERNS.items()}
    return Cuts(CERTAIN[names[pattern]]) if pattern in names else None


def is_one_piece(stretch: bytes) -> bool:
    """Whether a stretch is certainly one piece of every named pattern: a word in ASCII, with or without a blank."""
    return stretch.removeprefix(b" ").isalpha()


class Cuts:
    """Finds where a text is cut. neighbours: the classes after which it is, and before which others."""

    def __init__(self, neighbours: Mapping[Class, list[Class]]) -> None:
        self._codes = bytes(_code(byte, neighbours) for byte in range(256))

    def places(self, text: bytes, between: Places = NOWHERE) -> Places:
        """Where `text` is certainly cut: rising, from 0 to the end.

        between: where two texts meet, of several that stand there one after the other: it is cut there in any case.
        """
        codes = np.frombuffer(text.translate(self._codes), np.uint8)
        if _PROSE_MARKS[0][:2] in text:
            marks = _prose_marks(np.frombuffer(text, np.uint8))
            codes = codes.copy()
            codes[marks] = codes[marks + 2] = self._codes[ord("!")]
        cut = np.ones(len(text) + 1, np.bool_)
        inner = cut[1:-1].view(np.uint8)  # computed in place: the fewer arrays, the more of them are in the cache
        np.right_shift(codes[1:], _BEFORE, out=inner)
        inner &= codes[:-1]
        np.not_equal(inner, 0, out=cut[1:-1])
        cut[between] = True
        return np.flatnonzero(cut)

    def blocks(self, text: str, size: int) -> Iterator[slice]:
        """Slices of `text` that end at certain cuts: of about so many characters, or more.

        Raises UnicodeEncodeError for a lone surrogate where it looks for cuts.
        """
        start = 0
        for stop in range(size, len(text), size):
            start_of_last = max(start, stop - size)
            cut = self._last_cut(text, max(start, stop - _TAIL), stop) or self._last_cut(text, start_of_last, stop)
            if cut:
                yield slice(start, cut)
                start = cut
        if start < len(text):
            yield slice(start, len(text))

    def _last_cut(self, text: str, start: int, stop: int) -> int:
        """The last certain cut between two places; 0 when there is none."""
        utf8 = text[start:stop].encode()
        places = self.places(utf8)
        return start + len(utf8[: places[-2]].decode()) if len(places) > 2 else 0


def _prose_marks(text: npt.NDArray[np.uint8]) -> Places:
    """Where each of the marks of prose begins."""
    first, last = _PROSE_MARKS
    places = np.flatnonzero(text == first[0])
    seconds, thirds = text[places + 1], text[places + 2]
    are_marks = (seconds == first[1]) & (thirds >= first[2]) & (thirds <= last[2])
    marks: Places = places[are_marks]
    return marks


def _code(byte: int, neighbours: Mapping[Class, list[Class]]) -> int:
    """What a byte has to do with cuts, as bits: which class before a cut it is of, and from which it is cut."""
    class_ = _class(chr(byte))
    after = sum(1 << bit for bit, before in enumerate(neighbours) if class_ == before)
    before = sum(1 << bit for bit, others in enumerate(neighbours.values()) if class_ in others)
    return after | before << _BEFORE


def _class(letter: str) -> Class | None:
    if not letter.isascii():
        return None
    if letter.isalpha():
        return "letter"
    if letter.isdigit():
        return "digit"
    if letter == " ":
        return "blank"
    if letter in "\r\n":
        return "line end"
    return "mark" if letter.isprintable() else None

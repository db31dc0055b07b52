"""Hard-wrapped lines -> paragraphs.

In: the lines of a plain-text book, wrapped at some width.  Out: blocks (lines between blank lines), then paragraphs:
prose on one line, verse, addresses and tables with their line breaks.

One idea decides: whoever wraps a line fills it. So a line break where the next word would still have fitted was meant
by the writer, and one where it would not have fitted is only the wrapping. The width, and how loosely the book was
wrapped, are measured on breaks before a small letter, which are nearly always wrapping.

- A break is kept when the next word would have fitted by more than the book's own looseness, unless the line is at
  least 60 % full, or ends in a divided word, and goes on with a small letter.
- A block whose lines all begin with a capital, half of its breaks meant, is verse or a list: all its breaks are kept.
- A block with columns (three blanks or more inside half of its lines) is a table: all its breaks are kept.
- A block set narrower than the page, filled to its own width, is prose.
- Inside prose an indented line before one at the margin, or after a short one, opens a paragraph (some books have no
  blank lines between paragraphs).
- A word divided at a line's end is closed up; its hyphen goes only when the book has the word without, and not with it.
- Runs of blanks become one, a line of asterisks becomes `* * *`, other ruled lines go.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_DIVIDED = re.compile(r"([^\W\d_]+)-$")
_STARS = re.compile(r"\s*(?:\*\s*){3,}")
_RULE = re.compile(r"\s*[-=_~+|\s]{4,}")
_COLUMNS = re.compile(r"\S {3,}\S")
_OPENING = "\"'“‘([_*—-"
_FULL = 0.6  # of the width: a line this long that goes on with a small letter is wrapped, however loosely
_SLIPS = 3  # columns: even a strictly wrapped book has a few lines that could have held one short word more


@dataclass(frozen=True)
class Block:
    """Lines (no trailing blanks, none empty) between blank lines, and how many blank lines stand before them."""

    lines: tuple[str, ...]
    gap: int

    @property
    def text(self) -> str:
        """The block as one line."""
        return " ".join(" ".join(self.lines).split())


@dataclass(frozen=True)
class Wrapping:
    """How a book was wrapped: its width, and the blanks (columns) a wrapped line may leave beyond need."""

    width: int = 72
    looseness: int = 8

    def spare(self, line: str, following: str, width: int | None = None) -> int:
        """Columns left over on `line` had the next line's first word been put there; negative if it did not fit."""
        return (width or self.width) - len(line) - 1 - len(following.split(maxsplit=1)[0])


def blocks_of(text: str) -> list[Block]:
    """Cut a text (LF line ends) at its blank lines."""
    blocks: list[Block] = []
    lines: list[str] = []
    gap = 0
    for line in [*(line.rstrip() for line in text.split("\n")), ""]:
        if line:
            lines.append(line)
        else:
            if lines:
                blocks.append(Block(tuple(lines), gap))
                lines, gap = [], 0
            gap += 1
    return blocks


def is_rule(line: str) -> bool:
    """A drawn line, of hyphens or the like; asterisks are a break between scenes instead."""
    return _RULE.fullmatch(line) is not None and not line.isspace()


def measure(blocks: Sequence[Block]) -> Wrapping:
    """The wrapping of a book, from its breaks before a small letter; the usual one when there are under 20 of them."""
    pairs = [pair for block in blocks for pair in pairwise(block.lines)]
    pairs = [(line, following) for line, following in pairs if _goes_on(following)]
    if len(pairs) < 20:
        return Wrapping()
    lengths = sorted(len(line) for line, _ in pairs)
    width = lengths[len(lengths) * 99 // 100]
    spare = sorted(Wrapping(width).spare(line, following) for line, following in pairs)
    return Wrapping(width, min(max(spare[len(spare) * 97 // 100], _SLIPS), width // 4))


def paragraphs(blocks: Sequence[Block]) -> list[str]:
    """The paragraphs of a book; those that keep line breaks hold LF."""
    wrapping = measure(blocks)
    words = Counter(word.lower() for block in blocks for line in block.lines for word in _WORD.findall(line))
    found: list[str] = []
    for block in blocks:
        lines = [line for line in block.lines if not is_rule(line)]
        for part in _indented_paragraphs(lines, wrapping):
            kept = _meant_breaks(part, wrapping)
            pieces = [part[0].strip()]
            for line, meant in zip(part[1:], kept, strict=True):
                pieces[-1], glue = (pieces[-1], "\n") if meant else _joint(pieces[-1], line.strip(), words)
                pieces += [glue, line.strip()]
            text = "".join(pieces)
            found.append("\n".join("* * *" if _STARS.fullmatch(line) else _tidy(line) for line in text.split("\n")))
    return [text for text in found if text.strip()]


def _meant_breaks(lines: Sequence[str], wrapping: Wrapping) -> list[bool]:
    """For every break of a block: was it meant by the writer?"""
    pairs = list(pairwise(lines))
    fits = [wrapping.spare(line, following) > wrapping.looseness for line, following in pairs]
    if len(pairs) >= 2 and 2 * sum(fits) >= len(pairs) and all(_begins(following) for _, following in pairs):
        return [True] * len(pairs)
    if 2 * sum(_COLUMNS.search(line) is not None for line in lines) >= len(lines):
        return [True] * len(pairs)
    own = max(map(len, lines))
    if len(pairs) >= 3 and any(_goes_on(following) for _, following in pairs):
        narrow = [wrapping.spare(line, following, own) <= wrapping.looseness for line, following in pairs]
        if all(narrow) and own >= wrapping.width // 2:
            return [False] * len(pairs)
    full = _FULL * wrapping.width
    return [
        _STARS.fullmatch(line) is not None
        or _STARS.fullmatch(following) is not None
        or (fit and not (_goes_on(following) and (len(line) >= full or _DIVIDED.search(line))))
        for fit, (line, following) in zip(fits, pairs, strict=True)
    ]


def _indented_paragraphs(lines: Sequence[str], wrapping: Wrapping) -> list[Sequence[str]]:
    """Cut a block of prose where an indented line, before one at the margin or after a short one, opens a paragraph."""
    fits = [wrapping.spare(line, following) > wrapping.looseness for line, following in pairwise(lines)]
    if 3 * fits.count(False) < len(fits) or not fits:
        return [lines] if lines else []
    margin = min(map(_indent, lines))
    opens = [
        i
        for i, line in enumerate(lines[1:], 1)
        if _indent(line) > margin
        and not _goes_on(line)
        and (fits[i - 1] or (i + 1 < len(lines) and _indent(lines[i + 1]) == margin))
    ]
    return [lines[start:end] for start, end in pairwise([0, *opens, len(lines)])]


def _joint(line: str, following: str, words: Counter[str]) -> tuple[str, str]:
    """How two lines become one: the first as it will stand, and what goes between them."""
    if (divided := _DIVIDED.search(line)) and (rest := _WORD.match(following)):
        head, tail = divided[1].lower(), rest[0].lower()
        alone = words[head + tail] > 0 and words[f"{head}-{tail}"] == 0
        return line[:-1] if alone else line, ""
    dash_before = re.search(r"(?<![-\s])--$|(?<!\s)—$", line)
    dash_after = re.match(r"—|--(?!-)", following) and line[-1] not in '."”_)'
    return line, "" if dash_before or dash_after else " "


def _tidy(line: str) -> str:
    return " ".join(line.split())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _goes_on(line: str) -> bool:
    """The line begins with a small letter, so it is the rest of a sentence."""
    return line.lstrip().lstrip(_OPENING)[:1].islower()


def _begins(line: str) -> bool:
    return not _goes_on(line)

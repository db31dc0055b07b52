"""Project Gutenberg files -> the book alone.

In: a file as Project Gutenberg distributes it (any age), as bytes or as text.  Out: the book's own words, from its
title or first chapter to its last sentence, one paragraph a line, one blank line between paragraphs (verse and tables
keep their line breaks; data/unwrap.py). `python -m data.gutenberg FILE` prints it.

What goes: everything before the start marker and from the end marker on (1990s "SMALL PRINT" files and later ones,
markers wrapped over lines too), and inside the book what data/apparatus.py lists: credits, transcribers' notes,
illustration marks, footnotes in brackets, the table of contents, publishers' imprints, a closing "THE END".
Text without any Project Gutenberg marker is returned unchanged. A marked book that cannot be cleaned with certainty
raises Uncertain: the caller skips and lists it.
"""

import argparse
import codecs
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bpe.command import CommandParser, run_command, show
from data import apparatus, unwrap
from data.apparatus import Uncertain
from data.errors import CONVERT_IT, DataError

EXAMPLES = "  python -m data.gutenberg pg2701.txt > moby-dick.txt\n"

_START = re.compile(
    r"^[^\w\n]*START\s+OF\s+TH(?:E|IS)\s+PROJECT\s+GUTENBERG\s+E-?(?:BOOK|TEXT)\b", re.IGNORECASE | re.MULTILINE
)
_SMALL_PRINT = re.compile(r"^[^\w\n]*END[\s*]*THE\s+SMALL\s+PRINT!?", re.IGNORECASE | re.MULTILINE)
_END = re.compile(
    r"^[^\w\n]*(?:this\s+is\s+)?(?:the\s+)?end\s+of\s+(?:th(?:e|is)\s+)?project\s+gutenberg",
    re.IGNORECASE | re.MULTILINE,
)
_HEADER = re.compile(
    r"^[^\w\n]*(?:the\s+)?project\s+gutenberg(?:['’]s|\s+(?:e-?text|e-?book|edition))\b"
    r"|^[^\w\n]*START[\s:*]*(?:FULL\s+LICENSE|THE\s+SMALL\s+PRINT)",
    re.IGNORECASE | re.MULTILINE,
)
_TITLE = re.compile(r"^Title:[ \t]*(\S[^\n]*)", re.MULTILINE)
_TITLE_BEFORE_1998 = re.compile(
    r"project\s+gutenberg\s+e-?(?:text|book)\s+of:?\s+([^\n*]+?)(?:,?\s+by\s|\*|$)", re.IGNORECASE | re.MULTILINE
)
_CHARSET = re.compile(
    rb"character set encoding:[ \t]*(iso[- ]?(?:latin|8859)[- ]1|(?:windows|cp)-?1252)\b", re.IGNORECASE
)
_LEFT = re.compile(
    r"project\s+gutenberg|gutenberg(?:-tm|™|\.org|\.net)|\be-?(?:text|book)s?\b|transcribers?['’]?s?['’]?\s+notes?"
    r"|distributed\s+proofread|pgdp|https?://|\bwww\.|\[\s*illustration|\[\s*footnote",
    re.IGNORECASE,
)
_MARKER_LENGTH = 400  # characters: the longest title in a marker
_BETWEEN_ENDS = 600  # characters: "End of Project Gutenberg's X" and "*** END OF ..." stand together


def decode(raw: bytes) -> str:
    """A text file's bytes as text with LF line ends: UTF-8 (with or without BOM), or the set a PG header declares.

    Raises DataError, naming the byte's position, for bytes that are neither.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if not _CHARSET.search(raw[:10_000]):
            raise DataError(f"not UTF-8 at byte {error.start}; {CONVERT_IT}") from error
        # Files that declare ISO-8859-1 but were made on Windows have letters where ISO-8859-1 has control characters.
        windows = any(0x80 <= byte <= 0x9F for byte in raw)
        text = raw.decode("cp1252" if windows else "latin-1", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def clean(text: str) -> str:
    """The book in a Project Gutenberg text; a text with no such marker is returned as it is.

    Raises Uncertain (a DataError) when what is the book and what is not cannot be told.
    """
    if not is_marked(text):
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    start, end = _book(text)
    blocks = apparatus.remove(text[start:end], title=title(text[:start]))
    book = "\n\n".join(unwrap.paragraphs(blocks))
    book = apparatus.without_emphasis(book)
    if not book:
        raise Uncertain("nothing is left between its Project Gutenberg markers; skip it or clean it by hand")
    if left := _LEFT.search(book):
        line = book[max(book.rfind("\n", 0, left.start()) + 1, left.start() - 30) : left.end() + 30].split("\n")[0]
        raise Uncertain(f"words that are not the book's are left inside ({line!r}); skip it or clean it by hand")
    return book + "\n"


def is_marked(text: str) -> bool:
    """Whether the text carries any Project Gutenberg header, marker or footer."""
    if "utenberg" not in text and "UTENBERG" not in text and "SMALL PRINT" not in text:
        return False  # nearly every text, in a thousandth of the time
    return any(mark.search(text) for mark in (_START, _SMALL_PRINT, _END, _HEADER))


def title(header: str) -> str:
    """The title that a file's header states, its first line; empty when it states none."""
    found = _TITLE.search(header) or _TITLE_BEFORE_1998.search(header)
    return found[1].strip() if found else ""


def _book(text: str) -> tuple[int, int]:
    """Where the book begins and ends in a marked text."""
    ends = [mark.start() for mark in _END.finditer(text)]
    if not ends:
        raise Uncertain("it has a Project Gutenberg marker but no end marker; get the whole file again")
    starts = [_after(text, mark, "***") for mark in _START.finditer(text)]
    if len(starts) > 1:
        raise Uncertain("it has more than one start marker; put each book in a file of its own")
    starts += [_after(text, mark, "*END*") for mark in _SMALL_PRINT.finditer(text) if mark.start() < ends[0]]
    if not starts:
        raise Uncertain("it has a Project Gutenberg marker but no start marker; get the whole file again")
    start = max(starts)
    if start > ends[0]:
        raise Uncertain("its end marker stands before its start marker; get the whole file again")
    if ends[-1] - ends[0] > _BETWEEN_ENDS:
        raise Uncertain("it has end markers far apart; put each book in a file of its own")
    return start, ends[0]


def _after(text: str, mark: re.Match[str], close: str) -> int:
    """Where the text goes on after a marker, which may run over several lines and usually ends in asterisks."""
    paragraph_end = text.find("\n\n", mark.end())
    reach = min(mark.end() + _MARKER_LENGTH, paragraph_end if paragraph_end >= 0 else len(text))
    closed = text.find(close, mark.end(), reach)
    line_end = text.find("\n", mark.end() if closed < 0 else closed)
    return len(text) if line_end < 0 else line_end + 1


def parser() -> CommandParser:
    """The options."""
    parser = CommandParser("python -m data.gutenberg", "Print the book in a Project Gutenberg text file.", EXAMPLES)
    parser.add_argument("file", type=Path, metavar="FILE", help="the raw file, as it was downloaded")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("data.gutenberg", lambda: run(parser().parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    """Print the book in a file. Raises a UserError for what the user can put right."""
    try:
        book = clean(decode(args.file.read_bytes()))
    except OSError as error:
        raise DataError(
            f"cannot read {args.file}: {error.strerror or error}; check its name and permissions"
        ) from error
    except DataError as error:
        raise DataError(f"{args.file}: {error}") from error
    show(book)


if __name__ == "__main__":
    sys.exit(main())

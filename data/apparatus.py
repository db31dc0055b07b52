"""What stands inside a Project Gutenberg book and is not the book.

In: the text between a file's markers.  Out: its blocks without

- marks in square brackets: [Illustration: ...], [Transcriber's note: ...], [Footnote ...], [Music ...], page numbers;
  with footnotes go the [A] or [1] that point at them and the heading over them;
- transcribers' notes: from their heading to a ruled line, a gap of three blank lines, or the first block that speaks of
  no editing; a note at the very end runs to the end;
- credits ("Produced by ...") and web addresses, in the first and last dozen blocks; a sentence that only begins like
  one ("Prepared for the worst, he ...") stays;
- what stands before the title (a series, a list of other books), where the title is found within twenty lines;
- the table of contents and the list of illustrations: from their heading to where their first entry stands again as a
  heading over prose, else to the first gap of three blank lines; where neither is found they stay;
- publishers' imprints around the title, and a closing "THE END".
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from data.errors import DataError
from data.unwrap import Block, blocks_of, is_rule


class Uncertain(DataError):
    """A marked Project Gutenberg file in which the book cannot be told from what is around it."""


_BRACKETED = re.compile(
    r"\[[\s*_]*(?:illustrations?|transcribers?|transcriptions?|footnotes?|sidenotes?|music|blank\s+page|decorations?|"
    r"decorative|frontispiece|headpiece|tailpiece|ornaments?|TN)\b[^\w\]]*|\[(?:pg|page|p\.)[\s.]*[\divxlc]+\]",
    re.IGNORECASE,
)
_LONGEST_BRACKET = 6_000  # characters
_REFERENCE = re.compile(r"[ \t]?\[(?:[A-Z]|\d{1,3})\]")
_NOTE = re.compile(
    r"\W*(?:original\s+)?(?:transcribers?|transcription)[’']?s?[’']?\s+(?:end\s*)?notes?\b\W*"
    r"|\W*notes?\s+(?:on|to|about)\s+(?:the|this)\s+(?:e-?text|e-?book|electronic|transcription)\b"
    r"|\W*note:\s+project\s+gutenberg\b",
    re.IGNORECASE,
)
_OF_EDITING = re.compile(
    r"transcri|\be-?text|\be-?book|spelling|punctuation|hyphenat|typograph|typesett|misprint|italic|"
    r"printer[’']?s[’']? error|"
    r"underscore|\bcorrect(?:ed|ion)|inconsisten|gutenberg|proofread|\bhtml\b|substitut|scann|unicode|\bascii\b|"
    r"\boriginal\s+(?:text|edition|spelling|book|publication|print|page)|page\s+(?:numbers?|images?)|public\s+domain|"
    r"copyright",
    re.IGNORECASE,
)
_CREDIT = re.compile(
    r"[^\w\"'“‘«]*(?:credits:|(?:this\s+)?(?:(?:updated|first|html|e-?text|e-?book|file|edition|version)\s+)*"
    r"(?:was\s+|is\s+)?(?:first\s+)?"
    r"(?:produced|prepared|transcribed|scanned|digiti[sz]ed|proofed|proofread|typed|keyed|entered|converted|created|posted)"
    r"(?:(?:\s*,\s*|\s+and\s+|\s*&\s*)+\w+)*\s*(?::|by\b|from\b|for\b|in\b))",
    re.IGNORECASE,
)
_OF_FILES = re.compile(r"credits:|html|e-?text|e-?book|digiti|proofread", re.IGNORECASE)  # no book begins like that
_NAMED = re.compile(r"(?:\b(?i:by)\b|:)\W*(?:[A-Z]|an?\s+anonymous\b|volunteers?\b)|\b(?:19[7-9]|20)\d\d\b")
_OF_CREDITS = re.compile(  # words in small letters that do not make it a sentence of the book's
    r"an?|additional|and|anonymous|assistance|at|available|book|by|cop(?:y|ies)|de[rn]?|digital|du|editions?|email|files?|"
    r"for|from|generously|help|html|images?|in|is|kindly|l[ae]|made|of|on|online|original|pages?|prepared|produced|"
    r"project|proofing|proofread|provided|scan(?:s|ned)|software|supplied|text|the|this|to|transcribed|using|v[ao]n|"
    r"version|volunteers?|was|with"
)
_WEB = re.compile(
    r"https?:|www\.|\w@\w+\.\w|pgdp|internet\s+archive|google\s+books|hathitrust|distributed\s+proofread|"
    r"project\s+gutenberg|\b(?:images?|scans?)\s+(?:generously\s+|kindly\s+)*made\s+available",
    re.IGNORECASE,
)
_CONTENTS = re.compile(r"\W*(?:table\s+of\s+)?contents\W*(?:page\W*)?", re.IGNORECASE)
_PICTURES = re.compile(r"\W*(?:list\s+of\s+|the\s+)*illustrations\W*(?:page\W*)?", re.IGNORECASE)
_IMPRINT = re.compile(
    r"\W*(?:printed\s+(?:in|by|and)|published\s+(?:in|by)|first\s+published|copyright|all\s+rights\s+reserved|\d{4}\W*$)"
    r"|.*\b(?:publishers?|publishing|and\s+company|limited|ltd|press|library|bibliothek|illustrated\s+by)\b"
    r"|.*\bwith\s+illustrations\b|.*&\s*(?:co|company|sons)\b|\W*vol(?:ume|\.)\s*[ivxlc\d]+\W*$"
    r"|\W*(?:london|new\s+york|boston|edinburgh)\b[\W\d]*$",
    re.IGNORECASE,
)
_CLOSING = re.compile(r"\W*(?:the\s+end|finis|end)?\W*", re.IGNORECASE)
_LABEL = re.compile(r"(?:(?:chapter|book|part|letter|stave|volume)\s+)?(?:\d+|[ivxlc]+)\s+(?=\w)")
_NEAR = 12  # blocks at each end in which credits stand
_BEFORE_TITLE = 20  # lines
_LONGEST_CONTENTS = 500  # blocks
_LONGEST_END_NOTE = 40  # blocks


def remove(text: str, *, title: str = "") -> list[Block]:
    """The blocks of the text between the markers, without what is not the book. Raises Uncertain."""
    blocks = _without_notes(blocks_of(_without_brackets(text)))
    blocks = _without_credits(blocks)
    blocks = _from_title(blocks, title)
    blocks = _without_list(blocks, _PICTURES)
    blocks = _without_list(_without_imprint(blocks), _CONTENTS)
    while blocks and all(_CLOSING.fullmatch(line) for line in blocks[-1].lines):
        blocks.pop()
    return blocks


def without_emphasis(text: str) -> str:
    """The text without the underscores that stand for italics; runs of two or more are something else and stay."""
    return re.sub(r"(?<!_)_(?!_)", "", text)


def _without_brackets(text: str) -> str:
    """Take off marks in square brackets, each to the bracket that closes it."""
    pieces: list[str] = []
    at = 0
    footnotes = False
    while found := _BRACKETED.search(text, at):
        depth = 0
        for bracket in re.compile(r"[\[\]]").finditer(text, found.start(), found.start() + _LONGEST_BRACKET):
            depth += 1 if bracket[0] == "[" else -1
            if depth == 0:
                break
        else:
            raise Uncertain(f"{found[0].strip()!r} opens a bracket that nothing closes; close it by hand")
        footnotes |= "footnote" in found[0].lower()
        pieces.append(text[at : found.start()])
        at = bracket.end()
    text = "".join((*pieces, text[at:]))
    if footnotes:
        text = _REFERENCE.sub("", text)
        text = re.sub(r"^\W*footnotes?\W*$", "", text, flags=re.IGNORECASE | re.MULTILINE)
    return text


def _without_notes(blocks: list[Block]) -> list[Block]:
    kept: list[Block] = []
    at = 0
    while at < len(blocks):
        if (heading := _note_heading(blocks[at])) is None:
            kept.append(blocks[at])
            at += 1
            continue
        while kept and all(is_rule(line) for line in kept[-1].lines):
            kept.pop()
        gap = blocks[at].gap
        at = _end_of_note(blocks, at, heading)
        if at < len(blocks):
            blocks[at] = replace(blocks[at], gap=max(gap, blocks[at].gap))
    return kept


def _note_heading(block: Block) -> str | None:
    """The words that open a transcriber's note, when they open this block (under a ruled line or a box's edge)."""
    for line in block.lines[:3]:
        if found := _NOTE.match(line):
            return found[0]
        if not is_rule(line):
            return None
    return None


def _end_of_note(blocks: Sequence[Block], at: int, heading: str) -> int:
    """The index of the first block after the note that opens at `at`."""
    if blocks[at].lines[0].lstrip().startswith("+-"):  # a box: its end is drawn
        return at + 1
    rest = blocks[at + 1 :]
    if len(rest) <= _LONGEST_END_NOTE and at > len(blocks) // 2:
        if any(is_prose(block) and not _OF_EDITING.search(block.text) for block in rest):
            raise Uncertain("a transcriber's note near its end runs into other text; skip it or clean it by hand")
        return len(blocks)
    said = len(blocks[at].text) > len(heading.strip()) + 20
    for i, block in enumerate(rest, at + 1):
        if said and all(is_rule(line) for line in block.lines):
            return i + 1
        if said and (block.gap >= 3 or not _OF_EDITING.search(block.text)):
            return i
        if not said and not _OF_EDITING.search(block.text):
            raise Uncertain("a transcriber's note has a heading and no clear text; skip it or clean it by hand")
        said = True
    return len(blocks)


def _without_credits(blocks: list[Block]) -> list[Block]:
    last = len(blocks) - _NEAR
    return [block for i, block in enumerate(blocks) if not ((i < _NEAR or i >= last) and _is_credit(block.text))]


def _is_credit(text: str) -> bool:
    """Whether a block says who made the file. Raises Uncertain for one that may as well be a sentence of the book's."""
    if _WEB.search(text):
        return True
    if not (found := _CREDIT.match(text)):
        return False
    if _OF_FILES.search(found[0]):
        return True
    words = re.findall(r"[^\W\d_]+", text[found.end() :])
    strange = any(word[0].islower() and not _OF_CREDITS.fullmatch(word) for word in words)
    named = _NAMED.search(text) is not None
    if named and not strange:
        return True
    if strange and not named and re.search(r"[.!?:;,—-][\"'”’_]*$", text):
        return False
    raise Uncertain(f"{text[:40]!r} may be a credit or the book's own; skip it or clean it by hand")


def _from_title(blocks: list[Block], title: str) -> list[Block]:
    """Start at the title, where few lines and no prose stand before it."""
    wanted = _words(re.split(r"[;:,(]|\bor\b", title, maxsplit=1)[0])
    lines_before = 0
    for i, block in enumerate(blocks):
        if wanted and f"{_words(block.text)} ".startswith(f"{wanted} "):
            return blocks[i:]
        lines_before += len(block.lines)
        if lines_before > _BEFORE_TITLE or is_prose(block):
            break
    return blocks


def _without_list(blocks: list[Block], heading: re.Pattern[str]) -> list[Block]:
    """Take off the table of contents, or the list of illustrations, where its end is certain."""
    for at, block in enumerate(blocks[: max(_NEAR * 4, len(blocks) // 10)]):
        if heading.fullmatch(block.lines[0]):
            rest = [Block(block.lines[1:], 1)] if len(block.lines) > 1 else []
            end = _end_of_list(rest + blocks[at + 1 :])
            if end is not None:
                return blocks[:at] + blocks[at + 1 + end - len(rest) :]
    return blocks


def _end_of_list(blocks: Sequence[Block]) -> int | None:
    """How many blocks a list of chapters has, None if that is not certain."""
    entries = [
        line
        for block in blocks[:6]
        for line in block.lines
        if not re.fullmatch(r"\W*(?:chapter|page|\W)*", line, re.IGNORECASE)
    ]
    for entry in entries[:3]:
        for i, block in enumerate(blocks[1:_LONGEST_CONTENTS], 1):
            if is_prose(block):
                break
            if _is_heading_of(block, entry) and any(is_prose(later) for later in blocks[i + 1 : i + 1 + _NEAR]):
                return i
    for i, block in enumerate(blocks[1:_LONGEST_CONTENTS], 1):
        if is_prose(blocks[i - 1]):
            break
        if block.gap >= 3:
            return i
    return None


def _is_heading_of(block: Block, entry: str) -> bool:
    """Whether a block repeats an entry of the table of contents, wholly or with its first two or more words."""
    entry, heading = _words(re.sub(r"[\s.]+\d+\s*$", "", entry)), _words(block.text)
    if not heading:
        return False
    if heading == entry or (" " in heading and f"{entry} ".startswith(f"{heading} ")):
        return True
    return _LABEL.sub("", heading, count=1) == _LABEL.sub("", entry, count=1)


def _without_imprint(blocks: list[Block]) -> list[Block]:
    """Take off short blocks that name publisher, place or year between the title and the contents or first chapter."""
    chapter = re.compile(r"\W*(?:chapter|book|part|volume)\b", re.IGNORECASE)
    bounds = (i for i, block in enumerate(blocks) if _CONTENTS.fullmatch(block.lines[0]) or chapter.match(block.text))
    end = min(next(bounds, 0), _NEAR)
    return [
        block
        for i, block in enumerate(blocks)
        if not (0 < i < end and len(block.lines) <= 4 and not is_prose(block) and _IMPRINT.match(block.text))
    ]


def is_prose(block: Block) -> bool:
    """Three or more lines, most of them long: sentences, not headings or a list."""
    long = sum(len(line.strip()) >= 45 for line in block.lines)
    return len(block.lines) >= 3 and 2 * long > len(block.lines)


def _words(text: str) -> str:
    """Letters and digits alone, in small letters, one blank between words, without an article in front."""
    words = " ".join(re.findall(r"[^\W_]+", text.casefold()))
    return re.sub(r"^(?:the|a|an) ", "", words)

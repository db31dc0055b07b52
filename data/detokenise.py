"""The spelling of the Penn Treebank, undone.

In: text that a tokenizer took apart, wholly or by half: "`` Do n't , '' he said ( twice ) .".  Out: the same as people
write it. The WritingPrompts data set is stored in this spelling, the Penn Treebank's (Marcus et al. 1993) as NLTK's
word_tokenize makes it. A text that shows no sign of it comes back as it was.
"""

import re

_SIGN = re.compile(
    r"``|''|-[LR][RSC]B-|\w (?:[nN]['][tT]|'(?:s|re|ve|ll|m|d|S|RE|VE|LL|M|D)|' (?:s|t|re|ve|ll|m|d))\b"
    r"|\b(?:[gG]on na|[gG]ot ta|[wW]an na)\b|(?: |^)\" (?=\S)|[(\[] (?=\w)|(?<!\w)[$£€] (?=\d)"
    r"|[\w'\")] [.,!?;]+(?<!\.\.)(?=\s|$)",
    re.MULTILINE,
)

_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"(?<=\w) (n't|'(?:s|re|ve|ll|m|d))\b", r"\1"),
        (r"(?<=\w) ' (?=(?:s|t|re|ve|ll|m|d)\b)", "'"),
        (r"\b(gon|wan) (na)\b|\b(got) (ta)\b|\b(can) (not)\b|\b(gim|lem) (me)\b", r"\1\2\3\4\5\6\7\8"),
        (r"(?<!\w)('t) (is|was|were|will|would)\b", r"\1\2"),
        (r"(?<=\S) +([.,!?;:%]+)(?=[\s\"')\]}]|$)", r"\1"),
        (r"([(\[{]) +", r"\1"),
        (r" +([)\]}])", r"\1"),
        (r"(?<!\w)([$£€#]) (?=\d)", r"\1"),
        (r"(?<=\w) '(?=[\s.,!?;:]|$)", "'"),  # a plural's apostrophe, or the end of a single-quoted word
        (r"(?<=[.,!?;:])'(?=\w)", " '"),  # the start of one, pulled to the word before it
        (r"(?<=[a-z])'(?=(?:em|im|ave|bout|cause|til)\b)", " '"),
        (r"(?<=\w\w)'(?!(?:all|am|clock|em|er|[a-z])\b)(?=\w{2,}[^'\n]*\w[.,!?]?'(?:\W|$))(?!re\b|ve\b|ll\b)", " '"),
    )
)
_QUOTE = re.compile(r"( *)(``|''|\")( *)")
_OPENING = "([{*_"  # what stands before a quoted passage
_CLOSING = ")]}.,;:!?*_"  # and after it
_ENDING = (".", ",", "!", "?")  # what ends it from within; no string, as that would hold "", the start of a line


def detokenise(text: str) -> str:
    """The text in ordinary spelling where it is tokenised, else the same text. In: what `normalise` gives.

    Tokenised is what shows one of these: two backticks or apostrophes as a quotation mark, a double one with blanks on
    both sides, `do n't`, `it 's`, `it ' s`, `gon na`, `-LRB-`, `( word`, `$ 5`, or a mark of punctuation after a blank.
    """
    if not _SIGN.search(text):
        return text
    for written, bracket in _BRACKETS.items():
        text = text.replace(written, bracket)
    lines = (re.sub(r" {2,}", " ", line).strip() for line in text.split("\n"))
    return "\n".join(map(_line, lines))


def _line(line: str) -> str:
    for pattern, replacement in _RULES:
        line = pattern.sub(replacement, line)
    return _with_quotes(line)


def _with_quotes(line: str) -> str:
    """The line with straight double quotes, each pressed to what it opens or closes.

    A blank on one side only shows which it is; otherwise they alternate, anew on each line.
    """
    is_open = False

    def spelled(match: re.Match[str]) -> str:
        nonlocal is_open
        before, mark, after = match.groups()
        previous, following = line[: match.start()][-1:], line[match.end() :][:1]
        blank_before = bool(before) or previous in _OPENING or previous == " "  # also at the line's start
        blank_after = bool(after) or following in _CLOSING
        if mark == "``":
            opens = bool(following) and (not is_open or following not in _CLOSING)
        elif blank_before != blank_after:
            opens = blank_before
        else:
            opens = not is_open and bool(following) and not (mark == "''" and previous in _ENDING and after)
        is_open = opens
        if opens:
            return '"' if previous in _OPENING and not before else ' "'
        return '"' if following in _CLOSING else '" '

    return re.sub(r" {2,}", " ", _QUOTE.sub(spelled, line)).strip()

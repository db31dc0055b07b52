"""Where a story may stop: at the end of a sentence.

In: a story's text as it grows, and its limit in tokens.  Out: the text that stays, and whether the story is over.

    cut       the story stops at the limit, wherever that is
    trim      the sentence that the limit breaks off is left out
    finish    it is written to its end, over the limit by FINISH tokens at most; a longer one is left out

What was shown is never taken back. So near the limit, where a sentence may have to be left out, each one is shown when
it is whole. A story that has no sentence end there is cut.
"""

import bisect
from collections.abc import Iterator
from typing import Literal, get_args

import regex

Ending = Literal["finish", "trim", "cut"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)  # the first is the default

FINISH = 64  # tokens over the limit: some fifty words
HELD = 128  # tokens before the limit from which on sentences are shown whole

_TITLES_AND_INITIALS = r"(?<!\b(?:Mrs?|Ms|Drs?|St|Prof|Rev|Hon|Capt|Col|Gen|Lt|Sgt|Mt|[A-HJ-Z]))"
_END = regex.compile(
    rf"""(?:[!?…]|{_TITLES_AND_INITIALS}\.)[.!?…]*["'”’»)\]]*(?=\s*\Z|\s+[^\s\p{{Ll}}])"""  # not: "Why?" he asked.
    r"|(?<=[^\s*_#~=—-])(?=\n)"  # the end of a paragraph, but for a scene break such as * * *
)


def sentence_ends(text: str, start: int = 0, *, in_speech: bool = False) -> Iterator[int]:
    """The places from `start` on where a sentence ends: after its last mark, before the blank that follows.

    in_speech: also within quotation marks that were opened in the paragraph and not closed yet.
    """
    paragraph = text.rfind("\n", 0, start) + 1
    for match in _END.finditer(text, paragraph):
        end = match.end()
        if end >= start and (in_speech or text.startswith("\n", end) or not _speech_is_open(text[:end])):
            yield end


def _speech_is_open(text: str) -> bool:
    """Whether the last paragraph of the text has an opening quotation mark without its closing one."""
    paragraph = text[text.rfind("\n") + 1 :]
    return paragraph.count('"') % 2 == 1 or paragraph.count("“") > paragraph.count("”")


class Closing:
    """Brings one story to its close: takes the text of each token, gives the text that stays.

    text: all that was taken, after `beginning`, which stays in any case. over: nothing more is to be taken.
    most: tokens that it may take, at the limit or over it.
    """

    def __init__(self, ending: Ending, max_tokens: int, beginning: str = "") -> None:
        self.ending, self.max_tokens = ending, max_tokens
        self.most = max_tokens + (FINISH if ending == "finish" else 0)
        self.text, self.shown, self.given = beginning, len(beginning), len(beginning)
        self.places: list[int] = []  # where in the text each token ends
        self.limit = 0  # where max_tokens of them end
        self.over = False

    def push(self, piece: str) -> str:
        """Take the text of one token more, often empty or half a word; what can be shown now."""
        self.text += piece
        self.places.append(len(self.text))
        taken = len(self.places)
        if taken == self.max_tokens:
            self.limit = len(self.text.rstrip())
        if self.ending == "cut" or taken < self.max_tokens - HELD:
            self.over = taken == self.most
            return self._show(len(self.text))
        ends = self._ends()
        certain = [end for end in ends if self.text[end:].strip() or "\n" in self.text[end:]]  # nothing can follow it
        if taken >= self.max_tokens and (finished := [end for end in certain if end >= self.limit]):
            self.over = True
            return self._show(finished[0])
        if taken < self.most:
            return self._show(max(certain, default=0))
        self.over = True
        return self._show(max(ends or self._ends(in_speech=True), default=self.limit))

    def end(self) -> str:
        """The story has ended by itself: all that was kept back."""
        self.over = True
        return self._show(len(self.text))

    def kept(self) -> int:
        """How many tokens, from the first on, the text that was shown is made of."""
        return len(self.places) if self.shown == len(self.text) else bisect.bisect_left(self.places, self.shown) + 1

    def _ends(self, *, in_speech: bool = False) -> list[int]:
        """Where sentences end that may be the last; where what was given ends, nothing would have been written."""
        return [end for end in sentence_ends(self.text, self.shown, in_speech=in_speech) if end > self.given]

    def _show(self, stop: int) -> str:
        """The text up to `stop` that was not shown before."""
        piece = self.text[self.shown : stop]
        self.shown += len(piece)
        return piece

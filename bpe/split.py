"""Cutting text into pieces: tokens never cross from one piece into the next.

In: the name of a split pattern, or a regular expression of the user's own, and text.
Out: the pieces, in order; joined, they are the text.
"""

from collections.abc import Iterator

import regex

from bpe.errors import BPEError

# Sources: GPT-2's encoder (Radford et al. 2019), tiktoken's cl100k_base (GPT-4), the tokenizer.json of Qwen2.5.
PATTERNS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


class Splitter:
    """Cuts text by a split pattern.

    pattern: a key of PATTERNS, or a regular expression in the syntax of the `regex` module. Other programs read it with
    Oniguruma or Rust's, so it should mean the same there (^ and $ do not). `source` is the regular expression.
    Raises BPEError for an unknown name and for what is not a regular expression.
    """

    def __init__(self, pattern: str) -> None:
        self.source = PATTERNS.get(pattern, pattern)
        if regex.fullmatch(r"[\w-]*", self.source):  # a mistyped name would be a valid, and useless, pattern
            names = ", ".join(PATTERNS)
            raise BPEError(f"unknown split pattern {pattern!r}: choose one of {names}, or a regular expression")
        try:
            self._compiled = regex.compile(self.source)
        except regex.error as error:
            raise BPEError(f"the split pattern {pattern!r} is not a regular expression: {error}") from error
        self._leaves_no_gaps = self.source in PATTERNS.values()

    def pieces(self, text: str) -> Iterator[str]:
        """The pieces of `text`, one after the other; none is empty, and joined they are `text`.

        What a pattern of the user's own does not match is a piece too, from one match to the next
        (the behaviour that Hugging Face's Split calls "Isolated").
        """
        if self._leaves_no_gaps:
            return iter(self._compiled.findall(text))
        return _with_gaps(text, self._compiled.finditer(text))


def _with_gaps(text: str, matches: "Iterator[regex.Match[str]]") -> Iterator[str]:
    """The matches and what lies between them."""
    end = 0
    for match in matches:
        if match.start() > end:
            yield text[end : match.start()]
        if match.end() > match.start():
            yield match.group()
        end = match.end()
    if end < len(text):
        yield text[end:]

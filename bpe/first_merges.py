"""Showing the first merges that are learned from a text.

In: a small text.  Out: lines: of each merge its number and id, how often its pair occurs, and how the text shrinks.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from bpe.pairs import merged
from bpe.show import number_of, tokens_in_a_row
from bpe.split import Splitter
from bpe.trainer import BPETrainer
from bpe.vocabulary import FIRST_MERGE_ID, Vocabulary
from bpe.words import count_words


def first_merges(text: str, num_merges: int, *, colour: bool) -> Iterator[str]:
    """Lines that tell of the first `num_merges` merges of `text`; of fewer, where no pair is left that occurs twice."""
    vocabulary = BPETrainer(num_merges=num_merges).train([text])
    words = count_words([text], Splitter(vocabulary.pattern), workers=1)
    token_bytes = vocabulary.token_bytes
    tokens = size = len(text.encode())
    pieces = number_of(sum(words.values()), "piece")
    yield f"The split pattern cuts this into {pieces}, {len(words):,} of them different."
    yield "  merge     id       times   tokens left  joins"
    yield f"{tokens:41,}  (every byte is a token)"
    for new, (times, tokens) in enumerate(counted(words, vocabulary), FIRST_MERGE_ID):
        pair = [token_bytes[id] for id in vocabulary.merges[new - FIRST_MERGE_ID]]
        joins = f"{tokens_in_a_row(pair, colour=colour)} -> {tokens_in_a_row([token_bytes[new]], colour=colour)}"
        yield f"{new - FIRST_MERGE_ID + 1:7} {new:6} {times:11,} {tokens:13,}  {joins}"
    if len(vocabulary.merges) < num_merges:
        yield "No pair of tokens is left that occurs twice."
    if tokens:
        yield f"{size:,} bytes are {tokens:,} tokens now, {size / tokens:.2f} bytes a token."


def counted(words: Mapping[bytes, int], vocabulary: Vocabulary) -> Iterator[tuple[int, int]]:
    """Of each merge in turn: how often its pair occurs (in aaa, aa does twice), and how many tokens are left after it.

    words: the distinct words of a text, each with the number of times it occurs.
    """
    ids_of = {word: list(word) for word in words}
    left = sum(len(word) * times for word, times in words.items())
    for new, pair in enumerate(vocabulary.merges, FIRST_MERGE_ID):
        token = vocabulary.token_bytes[new]
        occurrences = 0
        for word in [word for word in words if token in word]:  # no other has the pair
            ids = ids_of[word]
            ids_of[word] = merged(ids, pair, new)
            occurrences += words[word] * [*pairwise(ids)].count(pair)
            left -= words[word] * (len(ids) - len(ids_of[word]))
        yield occurrences, left

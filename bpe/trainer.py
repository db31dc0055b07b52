"""Learning a vocabulary from text.

In: texts, the split pattern, the number of merges, the special tokens.  Out: a Vocabulary.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from bpe.indexed_pairs import IndexedPairs
from bpe.pairs import Pair, Pairs
from bpe.progress import progress_bar
from bpe.split import Splitter
from bpe.vocabulary import FIRST_MERGE_ID, Vocabulary
from bpe.words import count_words


@dataclass(frozen=True, kw_only=True)
class BPETrainer:
    """Learns which pairs of tokens to join, most frequent first, until there are `num_merges` or no pair occurs twice.

    Equal counts go to the smaller pair of ids, so one corpus has exactly one vocabulary.
    Sennrich et al. 2016, arXiv:1508.07909, run on bytes as in GPT-2 (Radford et al. 2019, section 2.2).

    >>> BPETrainer(num_merges=3, pattern=r".+").train(["aaabdaaabac"]).merges  # aa, ab, aa+ab
    ((97, 97), (97, 98), (256, 257))
    """

    num_merges: int
    pattern: str = "qwen2"  # see bpe.split
    special_tokens: Sequence[str] = ()
    counting: type[Pairs] = IndexedPairs
    workers: int | None = 1  # threads that count words; None: one for each core

    def train(self, texts: Iterable[str]) -> Vocabulary:
        """The vocabulary of `texts`, which are read once, few at a time. Raises BPEError for a lone surrogate."""
        splitter = Splitter(self.pattern)
        pairs = self.counting(count_words(texts, splitter, self.workers))
        merges: list[Pair] = []
        with progress_bar(total=self.num_merges, description="learning merges", unit="merge") as bar:
            for pair in islice(pairs.merges(FIRST_MERGE_ID), min(self.num_merges, sys.maxsize)):
                merges.append(pair)
                bar.update()
        return Vocabulary(tuple(merges), splitter.source, tuple(self.special_tokens))

"""Text without special tokens -> ids.

In: a vocabulary, and text.  Out: the ids.

`Encoder.plain` is the definition, word for word: split, then merge each piece. `Encoder.encode` gives the same ids, and
where there is more text, in blocks (bpe/block_encoder.py), if the split pattern allows it; other processes may take a
part.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from bpe.block_encoder import BlockEncoder, Ids
from bpe.cuts import BLOCK, LONG, TOGETHER, cuts_of
from bpe.freed_memory import keep_freed_memory
from bpe.new_stretches import IdsOfPieces, NewStretches
from bpe.split import Splitter
from bpe.text_blocks import Block, TextBlock, text_blocks
from bpe.vocabulary import FIRST_MERGE_ID, Vocabulary

if TYPE_CHECKING:
    from bpe.helpers import Helpers

SHARED = 1 << 22  # characters that a process gets at least: fewer are encoded here before another has started


class Encoder:
    """Encodes text in which no special token is looked for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.dtype: np.dtype[np.uint16 | np.uint32] = np.dtype(np.uint16 if vocabulary.size <= 1 << 16 else np.uint32)
        self._splitter = Splitter(vocabulary.pattern)
        self._ids = IdsOfPieces({pair: id for id, pair in enumerate(vocabulary.merges, FIRST_MERGE_ID)})
        self._vocabulary = vocabulary
        self._cuts = cuts_of(vocabulary.pattern)
        new_stretches = NewStretches(self._splitter, self._ids)
        self._blocks = BlockEncoder(self._cuts, new_stretches.ids, self.dtype) if self._cuts else None

    @cached_property
    def _helpers(self) -> "Helpers[Vocabulary, list[Block], list[Ids]]":
        from bpe.helpers import Helpers  # not sooner: it takes a twentieth of the time of `import bpe`

        return Helpers(_block_encoder, self._vocabulary)

    def plain(self, text: str) -> Iterator[int]:
        """The ids, by the definition."""
        return chain.from_iterable(map(self._ids.__getitem__, self._splitter.pieces(text)))

    def encode(self, text: str, workers: int = 1) -> Ids:
        """The ids, fast. workers: processes that share a long text. Raises UnicodeEncodeError for a lone surrogate."""
        [ids] = self.encode_each([text], workers)
        return ids

    def encode_each(self, texts: Sequence[str], workers: int = 1) -> list[Ids]:
        """The ids of each text; short ones go through together. workers and what is raised: as for `encode`."""
        characters = sum(map(len, texts))
        if self._cuts is None or characters < LONG:
            return [np.fromiter(self.plain(text), self.dtype) for text in texts]
        blocks, arrays = list[TextBlock](), list[int]()  # and how many arrays of ids each text will have
        for some in text_blocks(texts, self._cuts, BLOCK):
            blocks += some
            arrays += [1] * len(some[0].texts) if len(some) == 1 else [len(some)]
        ids = deque(self._encode(blocks, min(workers, characters // SHARED)))
        # an array that is joined is let go: the next text's ids take its place
        return [np.concatenate([ids.popleft() for _ in range(number)]) for number in arrays]

    def _encode(self, blocks: Sequence[TextBlock], processes: int) -> list[Ids]:
        """The ids of each text of each block, one after the other."""
        assert self._blocks
        encoder = self._blocks
        keep_freed_memory()

        def encode(some: Iterable[TextBlock]) -> list[list[Ids]]:
            return encoder.encode(_utf8(some))

        if processes > 1:
            encoded = self._helpers.share(blocks, processes - 1, encode, lambda some: [*_utf8(some)], together=TOGETHER)
        else:
            few = (blocks[start : start + TOGETHER] for start in range(0, len(blocks), TOGETHER))
            encoded = [*chain.from_iterable(map(encode, few))]
        return [*chain.from_iterable(encoded)]


def _utf8(blocks: Iterable[TextBlock]) -> Iterator[Block]:
    """Blocks as UTF-8, each when it is needed: until then it would only push other things out of the cache."""
    return (block.utf8() for block in blocks)


def _block_encoder(vocabulary: Vocabulary) -> Callable[[Iterable[Block]], list[list[Ids]]]:
    """What encodes blocks, made anew in another process."""
    blocks = Encoder(vocabulary)._blocks
    assert blocks
    return blocks.encode

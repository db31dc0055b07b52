"""Texts in blocks of one size, on which NumPy is fast: short texts together, long ones in parts.

In: texts.  Out: blocks of them, and each block as UTF-8.

        | one long text ------------------- | a | short | one, | and | more |
        | block | block | block | the rest  |         one block             |
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from bpe.cuts import Cuts, Places

Item = TypeVar("Item")
Block = Sequence[bytes]  # the UTF-8 of texts that stand together, or of a part of one


class TextBlock(NamedTuple):
    """Short texts, or a part of a long one."""

    texts: Sequence[str]
    part: slice = slice(None)

    def utf8(self) -> Block:
        """Each text's bytes. Raises UnicodeEncodeError for a lone surrogate."""
        return [text[self.part].encode() for text in self.texts]


def text_blocks(texts: Iterable[str], cuts: Cuts, size: int) -> Iterator[list[TextBlock]]:
    """Blocks of about `size` characters, in lists: one block of several short texts, or all blocks of one long text.

    Texts are read as they are needed. Raises UnicodeEncodeError for some lone surrogates.
    """
    for group in together(texts, len, size):
        is_long = len(group[0]) > size
        yield [TextBlock(group, part) for part in cuts.blocks(group[0], size)] if is_long else [TextBlock(group)]


def together(items: Iterable[Item], length: Callable[[Item], int], size: int) -> Iterator[list[Item]]:
    """Items one after the other in groups that are no longer than `size`; what is longer by itself is alone."""
    group, so_far = list[Item](), 0
    for item in items:
        its_length = length(item)
        if group and so_far + its_length > size:
            yield group
            group, so_far = [], 0
        group.append(item)
        so_far += its_length
    if group:
        yield group


def joined(block: Block) -> tuple[bytes, Places]:
    """The texts of a block as one, and where in it two of them meet."""
    return b"".join(block), np.cumsum([*map(len, block[:-1])], dtype=np.int64)

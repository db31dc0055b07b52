"""The ids of whole blocks of text at once.

In: blocks of text.  Out: the ids of each.

    block ── cuts ──> stretches ── table ──> numbers ── ids of each number ──> ids
                                     │
                                     └─ new ones: split pattern, merges

Python does nothing for a single stretch but when it is met for the first time.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from bpe.cuts import Cuts
from bpe.rows import Rows
from bpe.stretches import CAPACITY, Stretches

Ids = npt.NDArray[np.uint16 | np.uint32]


class BlockEncoder:
    """Encodes blocks that end at certain cuts; several threads may do so at once.

    ids_of: the ids of one stretch as UTF-8, by the definition: split into pieces, each piece merged.
    """

    def __init__(
        self, cuts: Cuts, ids_of: Callable[[bytes], Sequence[int]], dtype: np.dtype[np.uint16 | np.uint32]
    ) -> None:
        self._cuts, self._ids_of, self._dtype = cuts, ids_of, dtype
        self._memory = self._empty()

    def _empty(self) -> tuple[Stretches, Rows[np.uint16 | np.uint32]]:
        ids_of_numbers = Rows(self._dtype, rows=[()])
        return Stretches(learn=lambda new: ids_of_numbers.extend(map(self._ids_of, new))), ids_of_numbers

    def encode(self, block: str) -> Ids:
        """The ids of a block. Raises UnicodeEncodeError for a lone surrogate."""
        utf8 = block.encode()
        stretches, ids_of_numbers = self._memory
        if stretches.size > CAPACITY:
            stretches, ids_of_numbers = self._memory = self._empty()
        try:
            numbers = stretches.numbers(utf8, self._cuts.places(utf8))
        except BaseException:  # Ctrl-C, for one, in the middle of taking in
            self._memory = self._empty()
            raise
        return ids_of_numbers.joined(numbers)

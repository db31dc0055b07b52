"""One token more for every story that is written, in loops.

In: a model laid out for writing (model/fused.py), on the CPU, a token for each row, and the cache of what the rows have
read.  Out: what the model's `hidden` says; FusedBlock is the definition.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.attention import Cache
from model.loops import add_and_norm, attend, gated, take_threads
from model.products import Floats

if TYPE_CHECKING:
    from model.fused import FusedBlock, FusedNorm, FusedTransformer


class OneToken:
    """Goes through the blocks of a FusedTransformer with one token in each row."""

    def __init__(self, model: "FusedTransformer") -> None:
        self.blocks = [OneTokenBlock(block) for block in model.blocks]
        self.norm, self.embedding = OneTokenNorm(model.norm), model.embedding
        half = model.config.head_size // 2
        self.cos, self.sin = model.cos[:, 0, :half].numpy(), model.sin[:, 0, half:].numpy()

    def hidden(self, ids: Tensor, places: Tensor, cache: Cache) -> Tensor:
        """ids, and where they stand: (rows, 1). cache: begun; the caller advances it. Returns (rows, 1, width)."""
        if len(ids) != len(cache.lengths):
            raise ValueError(f"{len(ids)} rows do not go on in a cache of {len(cache.lengths)}")
        take_threads(torch.get_num_threads())
        at, kept = places[:, 0].numpy(), cache.kept.numpy()
        cos, sin = self.cos[at], self.sin[at]
        x = self.embedding(ids[:, 0]).numpy()
        added = np.zeros_like(x)
        for layer, block in enumerate(self.blocks):
            added = block(x, added, cos, sin, kept[layer], at)
        return torch.from_numpy(self.norm(x, added))[:, None]


class OneTokenBlock:
    """A FusedBlock."""

    def __init__(self, block: "FusedBlock") -> None:
        self.queries_keys_values, self.out, self.gate_up, self.down = (product.of_rows for product in block.products)
        self.input_norm, self.feed_forward_norm = OneTokenNorm(block.input_norm), OneTokenNorm(block.feed_forward_norm)
        self.weight, self.least = block.head_norm.weight.numpy(), block.head_norm.least.numpy()

    def __call__(
        self, x: Floats, added: Floats, cos: Floats, sin: Floats, kept: Floats, at: NDArray[np.int64]
    ) -> Floats:
        """What its last product adds to x, (rows, width), which takes up in place what was `added` before it."""
        heads = self.queries_keys_values(self.input_norm(x, added)).reshape(len(x), *self.weight.shape)
        added = self.out(attend(heads, self.weight, self.least, cos, sin, kept, at))
        return self.down(gated(self.gate_up(self.feed_forward_norm(x, added))))


class OneTokenNorm:
    """A FusedNorm, of a sum that is taken on the way."""

    def __init__(self, norm: "FusedNorm") -> None:
        self.weight, self.least = norm.weight.numpy(), norm.least.numpy()

    def __call__(self, x: Floats, added: Floats) -> Floats:
        """The norm of x, to which `added` is added in place; both (rows, width)."""
        return add_and_norm(x, added, self.weight, self.least)

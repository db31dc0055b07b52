"""One token more for every story that is written, in one loop through all layers.

In: a model laid out for writing (model/fused.py), on the CPU, a token for each row, and the cache of what the rows have
read.  Out: what the model's `hidden` says; FusedBlock is the definition, which the tests hold the loops to.

A token costs one pass over all weights. Between two products lie a few hundred numbers: torch spends more time on being
called for them, some thirty times a block, than on computing, and so would Python on calling a loop for each product.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from model.attention import Cache
from model.dots import multiply
from model.loops import compiled, instruction, take_threads
from model.products import Floats, LoopProduct, Matrix

if TYPE_CHECKING:
    from model.fused import FusedTransformer


class OneToken:
    """Goes through the blocks of a FusedTransformer with one token in each row."""

    def __init__(self, model: "FusedTransformer") -> None:
        self.embedding, blocks = model.embedding, model.blocks
        self.matrices = tuple(cast(LoopProduct, product).matrix for product in model.products)
        before = stacked(block.input_norm.weight for block in blocks)
        between = stacked(block.feed_forward_norm.weight for block in blocks)
        self.norms, self.least = (before, between, stacked([model.norm.weight])), model.norm.least.numpy()
        self.head_norm = (
            stacked(block.head_norm.weight for block in blocks),
            stacked(block.head_norm.least for block in blocks),
        )
        half = model.config.head_size // 2
        self.cos, self.sin = model.cos[:, 0, :half].numpy(), model.sin[:, 0, half:].numpy()

    def hidden(self, ids: Tensor, places: Tensor, cache: Cache) -> Tensor:
        """ids, and where they stand: (rows, 1). cache: begun; the caller advances it. Returns (rows, 1, width)."""
        if len(ids) != len(cache.lengths):
            raise ValueError(f"{len(ids)} rows do not go on in a cache of {len(cache.lengths)}")
        take_threads(torch.get_num_threads())
        at, x = places[:, 0].numpy(), self.embedding(ids[:, 0]).numpy()
        turns = self.cos[at], self.sin[at]
        hidden = next_hidden(x, turns, cache.kept.numpy(), at, self.matrices, self.norms, self.least, self.head_norm)
        return torch.from_numpy(hidden)[:, None]


def stacked(layers: Iterable[Tensor]) -> Floats:
    """A tensor of every layer, (layers, ...)."""
    array: Floats = torch.stack(list(layers)).numpy()
    return array


@compiled
def next_hidden(
    x: Floats,
    turns: tuple[Floats, Floats],
    kept: Floats,
    places: NDArray[np.int64],
    matrices: tuple[Matrix, ...],
    norms: tuple[Floats, ...],
    least: Floats,
    head_norm: tuple[Floats, Floats],
) -> Floats:
    """The embedding x, (rows, width), after all blocks and the last norm; x is used up.

    turns: cosine and sine for each row's place, (rows, head_size / 2). kept: of a cache, (rows, layers, 2 x key heads,
    context, head_size). places: of each row's token. matrices: weights and scales of all layers (model/dots.py): for
    queries, keys and values; out; gate and up; down. norms: weights (layers, width) before attention and before the
    feed-forward layer, and after all, (1, width). least, head_norm: of FusedNorm and, for all layers, FusedHeadNorm.
    """
    queries_keys_values, out, gate_up, down = matrices
    heads_of = len(x), head_norm[0].shape[1], head_norm[0].shape[2]
    added = np.zeros_like(x)
    for layer in range(kept.shape[1]):
        normed = add_and_norm(x, added, norms[0][layer], least)
        heads = multiply(queries_keys_values[0][layer], queries_keys_values[1][layer], normed).reshape(heads_of)
        gathered = attend(heads, head_norm[0][layer], head_norm[1][layer], turns[0], turns[1], kept, layer, places)
        added = multiply(out[0][layer], out[1][layer], gathered)
        normed = add_and_norm(x, added, norms[1][layer], least)
        added = multiply(down[0][layer], down[1][layer], gated(multiply(gate_up[0][layer], gate_up[1][layer], normed)))
    return add_and_norm(x, added, norms[2][0], least)


@compiled
def add_and_norm(x: Floats, added: Floats, weight: Floats, least: Floats) -> Floats:
    """Add to x, in place, and return its norm by way of the length, as FusedNorm has it. x, added: (rows, width)."""
    normed = np.empty_like(x)
    for row in range(len(x)):
        squares = least[()] * least[()]
        for i in range(x.shape[1]):
            x[row, i] += added[row, i]
            squares += x[row, i] * x[row, i]
        scale = np.float32(1) / np.sqrt(squares)
        for i in range(x.shape[1]):
            normed[row, i] = x[row, i] * scale * weight[i]
    return normed


@instruction
def power_of_two(context: Any, exponent: Any) -> Any:
    """2 to a whole number from -126 to 127, given as int32: a float32 that is all exponent; 0 for -127."""

    def build(context: Any, build: Any, signature: Any, args: Any) -> Any:
        biased = build.add(args[0], ir.IntType(32)(127))
        return build.bitcast(build.shl(biased, ir.IntType(32)(23)), ir.FloatType())

    return numba.float32(numba.int32), build


@compiled
def exponential(x: np.float32) -> np.float32:
    """e to the x, a float32, to 4e-7 of it; 0 where it is below 2^-126, and never above 2^127.

    Numbers between 0 and 2^-126 would slow down all that is computed with them.

    As a polynomial, many of which are taken at once; the library's, one by one, would take longer than the products.
    e^x = 2^whole x e^rest, |rest| <= ln 2 / 2; the coefficients are Taylor's, and ln 2 comes in two parts.
    """
    x = np.float32(-88.0) if x < np.float32(-87.33) else np.float32(min(x, np.float32(88.0)))
    whole = np.floor(x * np.float32(1.442695040888963) + np.float32(0.5))
    rest = (x - whole * np.float32(0.693359375)) + whole * np.float32(2.12194440054690583e-4)
    series = rest * np.float32(1 / 5040) + np.float32(1 / 720)
    series = series * rest + np.float32(1 / 120)
    series = series * rest + np.float32(1 / 24)
    series = series * rest + np.float32(1 / 6)
    series = series * rest + np.float32(1 / 2)
    series = (series * rest + np.float32(1)) * rest + np.float32(1)
    return np.float32(series * power_of_two(np.int32(whole)))


@compiled
def gated(gate_up: Floats) -> Floats:
    """silu of the left half times the right half: (rows, 2 x hidden) -> (rows, hidden)."""
    rows, hidden = len(gate_up), gate_up.shape[1] // 2
    product = np.empty((rows, hidden), dtype=np.float32)
    for i in prange(rows * hidden):
        row, channel = i // hidden, i % hidden
        gate = gate_up[row, channel]
        product[row, channel] = gate / (np.float32(1) + exponential(-gate)) * gate_up[row, hidden + channel]
    return product


@compiled
def turn(head: Floats, weight: Floats, least: float, cos: Floats, sin: Floats) -> None:
    """Norm a head, (head_size,), by way of its length, and rotate it by its place's angles; in place."""
    half = len(cos)
    squares = least * least
    for i in range(len(head)):
        squares += head[i] * head[i]
    scale = np.float32(1) / np.sqrt(squares)
    for i in range(half):
        left, right = head[i] * scale * weight[i], head[half + i] * scale * weight[half + i]
        head[i], head[half + i] = left * cos[i] - right * sin[i], right * cos[i] + left * sin[i]


@compiled
def gather(query: Floats, keys: Floats, values: Floats, places: int, gathered: Floats) -> None:
    """Attention of a query, (head_size,), to the first places of keys and values, (context, head_size).

    gathered: like query, zeros.
    """
    scores = np.empty(places, dtype=np.float32)
    scale = np.float32(1) / np.sqrt(np.float32(len(query)))
    for place in range(places):
        score = np.float32(0)
        for i in range(len(query)):
            score += query[i] * keys[place, i]
        scores[place] = score * scale
    most = scores.max()
    for place in range(places):
        scores[place] = exponential(scores[place] - most)
    scores /= scores.sum()
    in_fours = places - places % 4
    for place in range(0, in_fours, 4):  # so that what is gathered is taken up and put down a quarter as often
        share0, share1, share2, share3 = scores[place], scores[place + 1], scores[place + 2], scores[place + 3]
        for i in range(len(query)):
            gathered[i] += (
                share0 * values[place, i]
                + share1 * values[place + 1, i]
                + share2 * values[place + 2, i]
                + share3 * values[place + 3, i]
            )
    for place in range(in_fours, places):
        for i in range(len(query)):
            gathered[i] += scores[place] * values[place, i]


@compiled
def attend(
    heads: Floats,
    weight: Floats,
    least: Floats,
    cos: Floats,
    sin: Floats,
    kept: Floats,
    layer: int,
    places: NDArray[np.int64],
) -> Floats:
    """Norm and turn queries and keys, keep keys and values, and gather: (rows, query heads x head_size).

    heads: queries, keys and values, (rows, heads of all three, head_size); used up. weight, least: of FusedHeadNorm.
    cos, sin: of each row's place, (rows, head_size / 2). kept: of a cache, (rows, layers, 2 x key heads,
    context, head_size). places: of each row's token.
    """
    rows, all_heads, size = heads.shape
    kv_heads = kept.shape[2] // 2
    sharing = all_heads // kv_heads - 2  # queries that share a key
    queries = sharing * kv_heads
    gathered = np.zeros((rows, queries, size), dtype=np.float32)
    for i in prange(rows * kv_heads):
        row, kv = i // kv_heads, i % kv_heads
        key, value, place = queries + kv, queries + kv_heads + kv, places[row]
        turn(heads[row, key], weight[key], least[key, 0], cos[row], sin[row])
        keys, values = kept[row, layer, kv], kept[row, layer, kv_heads + kv]
        keys[place], values[place] = heads[row, key], heads[row, value]
        for query in range(sharing * kv, sharing * (kv + 1)):
            turn(heads[row, query], weight[query], least[query, 0], cos[row], sin[row])
            gather(heads[row, query], keys, values, place + 1, gathered[row, query])
    return gathered.reshape(rows, queries * size)

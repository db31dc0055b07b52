"""Attention: how a position gathers from the positions before it.

In: the residual stream after its norm, (batch, time, width).  Out: what attention adds to it, of the same shape.
The parts, in the order a query meets them: RMSNorm, rotary positions, the cache of keys and values, `visible` (who may
see whom) and `attend` (the weighted mean). The tests hold `attend` to a plain definition of attention.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ModelConfig
from model.errors import ModelError

WRITTEN_OUT = 1024  # positions in a window: up to so many, compiled attention on the CPU is faster written out
BLOCK = 128  # queries whose scores are computed together there, and stay in the cache meanwhile


class RMSNorm(nn.Module):
    """Divide by the root of the mean square over the last dimension, then scale each channel.

    Zhang and Sennrich 2019, arXiv:1910.07467. The sums are taken in float32 whatever the dtype of x, which is kept.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def rotary_tables(positions: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """The cosine and sine of every position's angles, each (rows, 1, time, head_size / 2), float32.

    positions: integers, (rows, time). Pair i of channels turns by position x theta ** (-2i / head_size) radians.
    """
    frequencies = theta ** (-torch.arange(0, head_size, 2, dtype=torch.float32, device=positions.device) / head_size)
    angles = positions[:, None, :, None].float() * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of channels by an angle that grows with position, so that scores depend on distance alone (RoPE).

    x: queries or keys, (batch, heads, time, head_size). cos, sin: from `rotary_tables`.
    Returns x's shape and dtype. Channel i pairs with i + head_size / 2, the order of the Hugging Face models; the paper
    pairs neighbours. Su et al. 2021, arXiv:2104.09864, section 3.4.2.
    """
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).to(x.dtype)


class Cache:
    """The keys and values of the tokens a model has already read, so that the next token costs one position.

    Room for `context` tokens a row is taken once. Each row has a length of its own, the tokens it has read. A model's
    forward pass says with `begin` how many more every row is given, gives them layer by layer with `extend`, and counts
    them with `advance`.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        context: int,
        head_size: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        # row by row, so that what is left when one is dropped lies in one piece
        self.kept = torch.zeros(batch, layers, 2 * kv_heads, context, head_size, dtype=dtype, device=device)
        self.kv_heads = kv_heads
        self.lengths = [0] * batch

    @property
    def length(self) -> int:
        """The most tokens that a row has read."""
        return max(self.lengths, default=0)

    @property
    def even(self) -> bool:
        """Whether every row has read as many tokens as the others."""
        return len(set(self.lengths)) <= 1

    @property
    def context(self) -> int:
        """Tokens there is room for in a row."""
        return self.kept.size(3)

    def begin(self, time: int) -> Tensor:
        """Make room for `time` tokens in each row behind what it has read: their places there, (batch, time)."""
        starts = torch.tensor(self.lengths, device=self.kept.device)[:, None]
        self.places = starts + torch.arange(time, device=self.kept.device)
        self.parts: list[tuple[Tensor, ...]] = []
        return self.places

    def extend(self, layer: int, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values, (batch, 2 x kv_heads, time, head_size), where `begin` made room.

        Returns all keys and all values, (batch, kv_heads, keys, head_size), up to the end of the longest row; `visible`
        hides what lies behind the end of a shorter one.
        """
        keys_values = keys_values.detach()  # nothing is learnt through a cache
        if not self.parts:  # made once a pass for all layers: a view costs as much as a small sum
            stop = self.length + self.places.size(1)
            new, heads = self.kept[:, :, :, self.length : stop], self.kept[:, :, :, :stop].chunk(2, dim=2)
            self.parts = [part.unbind(1) for part in (new, *heads)]
        new_places, keys, values = (part[layer] for part in self.parts)
        if self.even:
            new_places.copy_(keys_values)
        else:
            rows = torch.arange(len(self.lengths), device=keys_values.device)[:, None]
            self.kept[:, layer][rows, :, self.places] = keys_values.transpose(1, 2)
        return keys, values

    def advance(self) -> None:
        """Count the tokens that were given since `begin`."""
        self.lengths = [length + self.places.size(1) for length in self.lengths]

    def reset(self) -> None:
        """Forget everything; the room stays."""
        self.lengths = [0] * len(self.lengths)

    def row(self, row: int) -> "Cache":
        """A cache of one row, in this one's room: what is read into it counts here once `lengths` says so."""
        one = copy.copy(self)
        one.kept, one.lengths = self.kept[row : row + 1], [self.lengths[row]]
        return one

    def drop(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = self.lengths.pop()
        if row < len(self.lengths):
            self.lengths[row] = last
            self.kept[row, :, :, :last] = self.kept[-1, :, :, :last]
        self.kept = self.kept[:-1]


def visible(ids: Tensor, segments: Tensor | None, cache: Cache | None) -> Tensor | None:
    """Who may see whom: boolean, broadcastable to (batch, heads, time, keys); None where `attend` needs no mask.

    A position sees itself and what stands before it in its own segment. ids: (batch, time); segments: integers of that
    shape, or None for one segment. cache: begun. Made once a forward pass and shared by the layers.
    """
    time = ids.size(1)
    if segments is not None:
        if cache is not None:
            raise ValueError("a cache holds one segment; call the model without segments, or without a cache")
        causal = torch.ones(time, time, dtype=torch.bool, device=ids.device).tril()
        return (segments[:, None, :, None] == segments[:, None, None, :]) & causal
    if cache is None or cache.length == 0 or (time == 1 and cache.even):
        return None
    return torch.arange(cache.length + time, device=ids.device) <= cache.places[:, None, :, None]


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float | None = None) -> Tensor:
    """The mean of the values, weighted by softmax(scale x queries . keys) over the keys that a query may see.

    queries: (batch, heads, time, head_size); keys, values: (batch, kv_heads, keys, head_size), where query head h reads
    key and value head h // (heads / kv_heads). mask: from `visible`; None means causal, or that one query sees all.
    scale: head_size ** -0.5 by default. Returns the queries' shape. Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """
    shared_by = queries.size(1) // keys.size(1)
    if queries.size(2) == 1:  # queries that share a key become its rows: nothing is copied
        rows = queries.reshape(queries.size(0), keys.size(1), shared_by, -1)
        return F.scaled_dot_product_attention(rows, keys, values, mask, scale=scale).reshape(queries.shape)
    if shared_by > 1:  # not every device has a kernel that shares keys and takes a mask; a copy costs 3 % of attention
        keys, values = (x.repeat_interleave(shared_by, dim=1) for x in (keys, values))
    if torch.compiler.is_compiling() and queries.device.type == "cpu" and queries.size(2) <= WRITTEN_OUT:
        return attend_in_blocks(queries, keys, values, mask, scale)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=mask is None, scale=scale)


def attend_in_blocks(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float | None = None, block: int = BLOCK
) -> Tensor:
    """`attend_written_out` for a block of queries at a time, without the keys that come after all of them.

    Compiled, this is faster than torch's kernel for the CPU, whose way back does not use the units for matrix products:
    the scores of a block stay in the processor's cache, and of those that nobody may see, which are half of all, most
    are not computed where there are several blocks.
    """
    attended, before = [], keys.size(2) - queries.size(2)  # keys that come before all queries
    for start in range(0, queries.size(2), block):
        stop = min(start + block, queries.size(2))
        seen = None if mask is None else mask[..., start:stop, : before + stop]
        read = queries[:, :, start:stop], keys[:, :, : before + stop], values[:, :, : before + stop]
        attended.append(attend_written_out(*read, seen, scale))
    return torch.cat(attended, dim=2)


def attend_written_out(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float | None = None
) -> Tensor:
    """`attend` as it is defined, for the queries of the last keys and one key and value head for each query head.

    queries: (batch, heads, time, head_size); keys, values: (batch, heads, keys, head_size), at least as many keys as
    queries; mask, scale and what is returned as for `attend`. All scores are in memory at once.
    """
    scores = (scale or queries.size(-1) ** -0.5) * queries @ keys.mT
    if mask is None:
        places = torch.arange(keys.size(2), device=queries.device)
        mask = places[-queries.size(2) :, None] >= places
    weights = scores.float().masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.to(values.dtype) @ values


def split_heads(x: Tensor, head_size: int) -> Tensor:
    """(batch, time, heads x head_size) -> (batch, heads, time, head_size)."""
    return x.view(*x.shape[:2], -1, head_size).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(batch, heads, time, head_size) -> (batch, time, heads x head_size)."""
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Causal attention with grouped queries, rotary positions and an RMS norm on every head's queries and keys.

    The norm keeps the scores bounded, whatever the weights grow to (Henry et al. 2020, arXiv:2010.04245, as in Qwen3).
    No biases. Names of parameters are those of Qwen3ForCausalLM.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_size = config.head_size
        query_width, kv_width = config.heads * config.head_size, config.kv_heads * config.head_size
        self.q_proj = nn.Linear(config.width, query_width, bias=False)
        self.k_proj = nn.Linear(config.width, kv_width, bias=False)
        self.v_proj = nn.Linear(config.width, kv_width, bias=False)
        self.o_proj = nn.Linear(query_width, config.width, bias=False)
        self.q_norm = RMSNorm(config.head_size, config.norm_eps)
        self.k_norm = RMSNorm(config.head_size, config.norm_eps)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None) -> Tensor:
        """x: (batch, time, width), normed; rotary: from `rotary_tables`; mask: from `visible`. Returns x's shape."""
        queries = rotate(self.q_norm(split_heads(self.q_proj(x), self.head_size)), *rotary)
        keys = rotate(self.k_norm(split_heads(self.k_proj(x), self.head_size)), *rotary)
        values = split_heads(self.v_proj(x), self.head_size)
        if cache is not None:
            keys, values = cache.extend(self.layer, torch.cat((keys, values), dim=1))
        summed: Tensor = self.o_proj(join_heads(attend(queries, keys, values, mask)))
        return summed


def positions_of(ids: Tensor, positions: Tensor | None, cache: Cache | None, context: int) -> Tensor:
    """Where each token stands, (batch or 1, time): `positions` where given, else counted on from the cache's lengths.

    Makes room in the cache. Raises ModelError when the tokens, with those in the cache, are more than `context` or the
    cache has room for.
    """
    start = cache.length if cache is not None else 0
    room = context if cache is None else min(context, cache.context)
    if start + ids.size(1) > room:
        raise ModelError(
            f"{start + ids.size(1):,} tokens do not fit in a context of {room:,}; give the last {room:,} only"
        )
    places = torch.arange(ids.size(1), device=ids.device)[None] if cache is None else cache.begin(ids.size(1))
    return places if positions is None else positions

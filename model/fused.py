"""The transformer laid out for writing: the same numbers from fewer calls, each weight read once and in order.

In: a Transformer, and what becomes of a matrix of weights.  Out: a model that says the same, to rounding.

To write a token costs one pass over all weights, so memory sets the speed, as long as little is done besides. Here
queries, keys and values come from one product, and so do a gate and what it gates; the heads of all three go through
norm and rotation together, where values are multiplied by 1; a norm takes four calls instead of ten. What flows
between the products is float32, whatever the weights are.
model/transformer.py is the definition; it is what trains, and the tests hold this to it.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import vector_norm

from model import products
from model.attention import Cache, RMSNorm, attend, join_heads, positions_of, rotary_tables, visible
from model.language_model import LanguageModel
from model.products import MOST_ROWS, Product
from model.transformer import Block, Transformer

ROWS = min(MOST_ROWS.values())  # stories that a loop takes at once through all layers: in every format it is the faster


class Tied(Protocol):
    """What is left of an embedding, (vocab_size, width)."""

    nbytes: int

    def __call__(self, ids: Tensor) -> Tensor:
        """The rows of ids, (..., width), float32."""

    def output(self, x: Tensor) -> Tensor:
        """The product with all of it: (..., width) -> (..., vocab_size), both float32."""


class FusedTransformer(LanguageModel):
    """What a Transformer says.

    linear: lays out matrices, (outputs, inputs), one for each layer; tied: the embedding, (vocab_size, width).
    """

    def __init__(
        self, transformer: Transformer, linear: Callable[[Iterable[Tensor]], Product], tied: Callable[[Tensor], Tied]
    ) -> None:
        super().__init__(transformer.config)
        self.stage = transformer.stage
        config, decoder = transformer.config, transformer.model
        layers = [cast(Block, layer) for layer in decoder.layers]
        with torch.no_grad():
            self.products: list[Product] = [linear(map(part, layers)) for part in PARTS]
            self.blocks: list[FusedBlock] = [
                FusedBlock(block, *(product[layer] for product in self.products)) for layer, block in enumerate(layers)
            ]
            self.embedding: Tied = tied(decoder.embed_tokens.weight)
            self.norm: FusedNorm = FusedNorm(decoder.norm)
        places = torch.arange(config.context, device=transformer.device)
        cos, sin = (table[0, 0, :, None] for table in rotary_tables(places[None], config.head_size, config.rope_theta))
        self.cos, self.sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)  # (context, 1, head_size)
        self.turned = self.blocks[0].head_norm.normed  # queries and keys are turned, values are not
        self.one_token = None
        on_cpu = transformer.device.type == "cpu"
        if products.HAS_LOOPS and on_cpu and all(hasattr(product, "matrix") for product in self.products):
            from model.one_token import OneToken

            self.one_token = OneToken(self)
        self.eval()

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        places = positions_of(ids, positions, cache, self.config.context)
        by_default = positions is None and segments is None and ids.size(1) == 1 and len(ids) <= ROWS
        if self.one_token is not None and cache is not None and by_default:
            hidden = self.one_token.hidden(ids, places, cache)
            cache.advance()
            return hidden
        cos, sin = torch.where(self.turned > 0, self.cos[places], 1.0), self.sin[places] * self.turned
        mask = visible(ids, segments, cache)
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, cos, sin, mask, cache)
        if cache is not None:
            cache.advance()
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.embedding.output(hidden)

    @property
    def num_parameters(self) -> int:
        """Weights that were trained; they are kept in other forms here."""
        return self.config.num_parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes of matrices that are read for every token."""
        return sum(product.nbytes for product in self.products) + self.embedding.nbytes

    def _norm_weight(self) -> Tensor:
        weight: Tensor = self.norm.weight
        return weight


def queries_keys_values(block: Block) -> Tensor:
    """The three matrices as one."""
    attention = block.self_attn
    return torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])


def out(block: Block) -> Tensor:
    """What attention ends with."""
    return block.self_attn.o_proj.weight


def gate_up(block: Block) -> Tensor:
    """A gate and what it gates, as one."""
    return torch.cat((block.mlp.gate_proj.weight, block.mlp.up_proj.weight))


def down(block: Block) -> Tensor:
    """What the feed-forward layer ends with."""
    return block.mlp.down_proj.weight


PARTS = queries_keys_values, out, gate_up, down


class FusedBlock:
    """A Block of model/transformer.py."""

    def __init__(
        self, block: Block, queries_keys_values: Product, out: Product, gate_up: Product, down: Product
    ) -> None:
        attention = block.self_attn
        self.layer, self.head_size = attention.layer, attention.head_size
        self.heads, self.kv_heads = (p.out_features // self.head_size for p in (attention.q_proj, attention.k_proj))
        self.queries_keys_values, self.out, self.gate_up, self.down = queries_keys_values, out, gate_up, down
        self.input_norm = FusedNorm(block.input_layernorm)
        self.feed_forward_norm = FusedNorm(block.post_attention_layernorm)
        self.head_norm = FusedHeadNorm(attention.q_norm, self.heads, attention.k_norm, self.kv_heads)

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        """x: (batch, time, width), returned in that shape. cos, sin: (batch, time, heads of all three, head_size)."""
        heads = self.queries_keys_values(self.input_norm(x))
        heads = heads.view(*x.shape[:2], -1, self.head_size)
        heads = rotate(self.head_norm(heads), cos, sin).transpose(1, 2)
        queries, keys_values = heads[:, : self.heads], heads[:, self.heads :]
        if cache is not None:
            keys, values = cache.extend(self.layer, keys_values)
        else:
            keys, values = keys_values.chunk(2, dim=1)
        x = x + self.out(join_heads(attend(queries, keys, values, mask)))
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate).mul_(up))


class FusedNorm:
    """RMSNorm by way of the length: x / sqrt(|x|^2 / size + eps) is x sqrt(size) / hypot(|x|, sqrt(size eps))."""

    def __init__(self, norm: RMSNorm) -> None:
        size = norm.weight.numel()
        self.weight = norm.weight.float() * size**0.5
        self.least = torch.tensor((size * norm.eps) ** 0.5, device=norm.weight.device)

    def __call__(self, x: Tensor) -> Tensor:
        return (x / torch.hypot(vector_norm(x, dim=-1, keepdim=True), self.least)).mul_(self.weight)


class FusedHeadNorm:
    """The norms of queries and of keys, of each head by itself; behind them values, which stay as they are."""

    def __init__(self, queries: RMSNorm, heads: int, keys: RMSNorm, kv_heads: int) -> None:
        norms = [FusedNorm(queries)] * heads + [FusedNorm(keys)] * kv_heads
        least = torch.stack([norm.least for norm in norms])
        self.weight = F.pad(torch.stack([norm.weight for norm in norms]), (0, 0, 0, kv_heads), value=1.0)
        self.least = F.pad(least, (0, kv_heads), value=1.0)[:, None]  # divides by hypot(0, 1)
        self.normed = F.pad(torch.ones_like(least), (0, kv_heads))[:, None]

    def __call__(self, heads: Tensor) -> Tensor:
        length = vector_norm(heads, dim=-1, keepdim=True).mul_(self.normed)
        return (heads / torch.hypot(length, self.least)).mul_(self.weight)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """model.attention.rotate, with tables as wide as a head, the left half of the sine negated."""
    return torch.addcmul(x * cos, x.roll(x.size(-1) // 2, dims=-1), sin)

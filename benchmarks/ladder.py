"""The models between the seed's design (model/classic.py) and ours (model/transformer.py), one change after another.

In: a shape, and the changes made so far.  Out: a model whose every part is the old one or the new one. Without changes
it computes what Classic computes, with all of them what Transformer does; the tests hold it to both. It stands here so
that the models people read have no options. It can be trained and scored, and writes no stories.
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import (
    Cache,
    RMSNorm,
    attend,
    join_heads,
    positions_of,
    rotary_tables,
    rotate,
    split_heads,
    visible,
)
from model.classic import STD
from model.config import ModelConfig
from model.language_model import LanguageModel
from model.transformer import EMBEDDING_STD, FeedForward

Changes = frozenset[str]
IN_MODEL = ("scale", "positions", "norms", "activation", "initialisation", "tying")  # in the order of docs/evolution.md
INTO_STREAM = ("attention.output", "feed_forward.2", "down_proj")  # layers whose output is added to the residual stream


def shape_after(changes: Changes, shape: ModelConfig) -> ModelConfig:
    """`shape`, which is that of our design, with a feed-forward network of as many weights before it was gated."""
    return shape if "activation" in changes else replace(shape, hidden=shape.hidden * 3 // 2)


def norm(config: ModelConfig, changes: Changes) -> nn.Module:
    """What stands before each network."""
    return (RMSNorm if "norms" in changes else nn.LayerNorm)(config.width, eps=config.norm_eps)


class LadderAttention(nn.Module):
    """ClassicAttention, or Attention, or what is between."""

    def __init__(self, config: ModelConfig, changes: Changes) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.scale = (config.head_size if "scale" in changes else config.width) ** -0.5
        self.query, self.key, self.value = (nn.Linear(config.width, config.width, bias=False) for _ in range(3))
        self.output = nn.Linear(config.width, config.width, bias="norms" not in changes)
        heads_are_normed = "norms" in changes
        self.head_norms = nn.ModuleList(RMSNorm(config.head_size, config.norm_eps) for _ in range(2 * heads_are_normed))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        """x: (batch, time, width), normed. Returns x's shape."""
        queries, keys, values = (split_heads(layer(x), self.head_size) for layer in (self.query, self.key, self.value))
        if self.head_norms:
            queries, keys = (each(heads) for each, heads in zip(self.head_norms, (queries, keys), strict=True))
        if rotary is not None:
            queries, keys = rotate(queries, *rotary), rotate(keys, *rotary)
        summed: Tensor = self.output(join_heads(attend(queries, keys, values, mask, self.scale)))
        return summed


class LadderBlock(nn.Module):
    """ClassicBlock, or Block, or what is between."""

    def __init__(self, config: ModelConfig, changes: Changes, dropout: float) -> None:
        super().__init__()
        self.attention_norm = norm(config, changes)
        self.attention = LadderAttention(config, changes)
        self.feed_forward_norm = norm(config, changes)
        bias = "norms" not in changes
        self.feed_forward: nn.Module = (
            FeedForward(config)
            if "activation" in changes
            else nn.Sequential(
                nn.Linear(config.width, config.hidden, bias=bias),
                nn.ReLU(),
                nn.Linear(config.hidden, config.width, bias=bias),
            )
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotary, mask))
        fed: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return x + fed


class Ladder(LanguageModel):
    """Classic, with these changes towards Transformer; of `shape_after`'s shape."""

    def __init__(self, config: ModelConfig, changes: Changes, dropout: float = 0.0) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = None if "positions" in changes else nn.Embedding(config.context, config.width)
        self.layers = nn.ModuleList(LadderBlock(config, changes, dropout) for _ in range(config.layers))
        self.norm = norm(config, changes)
        tied = "tying" in changes
        self.head = None if tied else nn.Linear(config.width, config.vocab_size, bias="norms" not in changes)
        self._initialise("initialisation" in changes)

    def _initialise(self, by_inputs: bool) -> None:
        """Every matrix normal with std 0.02; or as Transformer says, with std by its inputs, and 0 into the stream."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=EMBEDDING_STD)
            elif isinstance(module, nn.Linear):
                std = (0.0 if name.endswith(INTO_STREAM) else module.in_features**-0.5) if by_inputs else STD
                nn.init.normal_(module.weight, std=EMBEDDING_STD if name == "head" else std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        if cache is not None:
            raise NotImplementedError("it cannot write stories")
        positions = positions_of(ids, positions, None, self.config.context)
        mask = visible(ids, segments, None)
        x = self.tokens(ids)
        rotary = None
        if self.positions is None:
            rotary = rotary_tables(positions, self.config.head_size, self.config.rope_theta)
        else:
            x = x + self.positions(positions)
        for block in self.layers:
            x = block(x, rotary, mask)
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        if self.head is None:
            return F.linear(hidden, self.tokens.weight).float()
        scores: Tensor = self.head(hidden)
        return scores.float()

    def _norm_weight(self) -> Tensor:
        weight: Tensor = self.norm.weight  # type: ignore[assignment]
        return weight

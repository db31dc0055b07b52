"""The design of 2017-2019, kept as the baseline that this project's claims are measured against.

In: ids of tokens, (batch, time).  Out: the logits of the next token at every position.
What differs from model/transformer.py: LayerNorm for RMSNorm, learned positions for rotary ones, ReLU for SwiGLU,
biases everywhere but on queries, keys and values, an output layer of its own, and scores divided by the square root of
the width, where Vaswani et al. 2017 divide by that of a head's size. The norms stand before each network, as in GPT-2
(Radford et al. 2019); after it, as in 2017, such a model needs warm-up to train at all (Xiong et al. 2020,
arXiv:2002.04745).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import Cache, attend, join_heads, positions_of, split_heads, visible
from model.config import ModelConfig
from model.language_model import LanguageModel

STD = 0.02  # of every matrix, as in GPT-2


class ClassicAttention(nn.Module):
    """Causal attention, every head with keys and values of its own."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_size = config.head_size
        self.scale = config.width**-0.5
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=False)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        """x: (batch, time, width), normed; mask: from `visible`. Returns x's shape."""
        queries, keys, values = (split_heads(layer(x), self.head_size) for layer in (self.query, self.key, self.value))
        if cache is not None:
            keys, values = cache.extend(self.layer, torch.cat((keys, values), dim=1))
        summed: Tensor = self.output(join_heads(attend(queries, keys, values, mask, self.scale)))
        return summed


class ClassicBlock(nn.Module):
    """Attention, then two layers with a ReLU between; each reads the normed stream and adds to the stream itself."""

    def __init__(self, config: ModelConfig, layer: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = ClassicAttention(config, layer)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, cache))
        fed: Tensor = self.dropout(self.down(F.relu(self.up(self.feed_forward_norm(x)))))
        return x + fed


class Classic(LanguageModel):
    """The model of the preset `classic`. Matrices start normal with std 0.02, biases at zero, as in GPT-2.

    dropout: share of what each attention and feed-forward network adds that is dropped in training.
    """

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(ClassicBlock(config, layer, dropout) for layer in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, config.vocab_size)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=STD)
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
        positions = positions_of(ids, positions, cache, self.config.context)
        mask = visible(ids, segments, cache)
        x = self.tokens(ids) + self.positions(positions)
        for block in self.blocks:
            x = block(x, mask, cache)
        if cache is not None:
            cache.advance()
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.head(hidden)
        return scores.float()

    def _norm_weight(self) -> Tensor:
        return self.norm.weight

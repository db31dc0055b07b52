"""The transformer: the architecture of Qwen3ForCausalLM, whole, in plain torch.

In: ids of tokens, (batch, time).  Out: the logits of the next token at every position.
The names of the parameters are those of that model, so what is trained here loads in whatever loads it, and the tests
hold the logits to transformers' own. Letters in shapes: batch, time, width as in ModelConfig.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import Attention, Cache, RMSNorm, positions_of, rotary_tables, visible
from model.config import ModelConfig
from model.language_model import LanguageModel

EMBEDDING_STD = 0.02


class FeedForward(nn.Module):
    """Two layers, the first gated: down(silu(gate(x)) * up(x)). SwiGLU, Shazeer 2020, arXiv:2002.05202."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        fed: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return fed


class Block(nn.Module):
    """Attention, then the feed-forward network; each reads the normed stream and adds to the stream itself."""

    def __init__(self, config: ModelConfig, layer: int, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.mlp = FeedForward(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), rotary, mask, cache))
        fed: Tensor = self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return x + fed


class Decoder(nn.Module):
    """Everything below the logits; a module of its own because the names of the parameters have it."""

    def __init__(self, config: ModelConfig, dropout: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Block(config, layer, dropout) for layer in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)


class Transformer(LanguageModel):
    """The model of every preset but `classic`. The embedding is the output layer too (tied).

    dropout: share of what each attention and feed-forward network adds that is dropped in training.
    A new model predicts every token nearly alike: the projections onto the residual stream start at zero, so the stream
    is the embedding (normal, std 0.02: small enough that tied logits are, too); the other matrices are normal with
    std 1 / sqrt(inputs), which keeps the scale of what they read.
    """

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__(config)
        self.model = Decoder(config, dropout)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.model.embed_tokens.weight, std=EMBEDDING_STD)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                into_stream = name.endswith(("o_proj", "down_proj"))
                nn.init.normal_(module.weight, std=0.0 if into_stream else module.in_features**-0.5)

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        positions = positions_of(ids, positions, cache, self.config.context)
        rotary = rotary_tables(positions, self.config.head_size, self.config.rope_theta)
        mask = visible(ids, segments, cache)
        x = self.model.embed_tokens(ids)
        for block in self.model.layers:
            x = block(x, rotary, mask, cache)
        if cache is not None:
            cache.advance()
        normed: Tensor = self.model.norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.embed_tokens.weight).float()

    def _norm_weight(self) -> Tensor:
        return self.model.norm.weight

"""What every model here can do, whichever its design.

In: ids of tokens, (batch, time).  Out: for every position, a score (logit) for each token that might come next.
Training takes `hidden` and `logits` apart, so that it can compute the loss piece by piece: the logits of a whole batch
would be the largest tensor of the step.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from model.attention import Cache
from model.config import ModelConfig
from model.settings import Stage


class LanguageModel(nn.Module, ABC):
    """A decoder-only model of the shape `config`; its parameters decide its device and dtype."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.stage: Stage | None = None  # whose layout of text it knows; `model.load` says, a new model knows none

    @abstractmethod
    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The residual stream after the last norm, (batch, time, width).

        ids: integers below vocab_size, (batch, time). positions: where each token stands, of ids' shape; by default
        0, 1, ... or on from the cache's length. segments: integers of ids' shape, attention never crosses from one
        value to another; by default one segment. cache: from `new_cache`; the ids are taken to follow those it has
        read, and are added to it. Raises ModelError when the context, or the cache, has no room for so many tokens.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, float32, (..., vocab_size), from `hidden`'s (..., width)."""

    @abstractmethod
    def _norm_weight(self) -> Tensor:
        """The last norm's weight, which is on the device and of the dtype the model computes in."""

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Logits, float32, (batch, time, vocab_size). The arguments are those of `hidden`."""
        return self.logits(self.hidden(ids, positions=positions, segments=segments, cache=cache))

    def new_cache(self, batch: int, context: int | None = None) -> Cache:
        """An empty cache for `batch` rows of at most `context` tokens (by default the model's context)."""
        config, like = self.config, self._norm_weight()
        return Cache(
            config.layers,
            batch,
            config.kv_heads,
            config.context if context is None else context,
            config.head_size,
            like.dtype,
            like.device,
        )

    @property
    def num_parameters(self) -> int:
        """Weights that are trained, a tied tensor counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the model computes, and its inputs have to be."""
        return self._norm_weight().device

"""Two attention heads that copy, set by hand: a pretraining with exercises (data/copying.py) begins with them.

In: a new Transformer.  Out: the same; in each of its first two layers one head has its task from the start.

    layer 0   looks one token back, whatever the tokens are, and writes what it saw where nothing else reads
    layer 1   looks where the token before was the token here, and predicts what stands there

Together they are an induction head (Elhage et al. 2021, "A mathematical framework for transformer circuits"; Olsson et
al. 2022, arXiv:2209.11895): whatever was said before can be said again, names above all. Training may change both, and
does. From random weights the exercises alone did not find such heads in 400 steps, from these in 75 (LOG.md).
"""

import torch
from torch import Tensor

from model.attention import Attention
from model.config import ModelConfig
from model.transformer import EMBEDDING_STD, Block, Transformer

EXERCISES, EXERCISED_FROM = 100, 1000  # steps of exercises in copying, of trainings of so many steps or more
LAYERS = 2
CONSTANT = 4 * EMBEDDING_STD  # channel 0 of every embedding: what a query can be made of that asks for no token
SHARPNESS = 1.5  # scale of normed queries and keys: enough that one place gets nearly all of the attention
WRITTEN = 0.1  # scale of what layer 0 writes
# shares of a head's pairs of channels: those that turn fastest tell neighbours apart, those that turn slowest tell
# tokens apart and hardly mind how far away they are
FAST, SLOW = 5 / 32, 10 / 32


def can_copy(config: ModelConfig) -> bool:
    """Whether a model of this shape has room for the two heads."""
    return config.kind == "qwen3" and config.layers >= LAYERS and config.width >= 2 * config.head_size


def is_exercised(shape: ModelConfig, tokens: float, tokens_per_step: int) -> bool:
    """Whether a pretraining that reads so many tokens begins with exercises. tokens: 0 where that is not known."""
    return can_copy(shape) and (not tokens or tokens >= EXERCISED_FROM * tokens_per_step)


@torch.no_grad()
def lay_out_copying(model: Transformer) -> None:
    """Lay the two heads out; random numbers are drawn by torch's generator. The shape is one that `can_copy`."""
    config = model.config
    first, second, *_ = (block.self_attn for block in model.model.layers if isinstance(block, Block))
    for attention in first, second:
        attention.q_norm.weight.fill_(SHARPNESS)
        attention.k_norm.weight.fill_(SHARPNESS)
    model.model.embed_tokens.weight[:, 0] = CONSTANT
    seen, written = _look_back(first, config)
    _look_for_what_followed(second, config, seen, written)


def _look_back(attention: Attention, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Head 0 sees the token before: its keys stand as if they were turned by one position more.

    Returns what it sees of a token, (head_size, width), and where it writes that, (width, head_size): orthogonal to
    what it sees, so that nobody takes the token before for the token here.
    """
    size, half = config.head_size, config.head_size // 2
    fast = _pairs(FAST, config)
    angles = config.rope_theta ** (-torch.arange(fast) / half)
    query, key = _head(attention.q_proj.weight, config), _head(attention.k_proj.weight, config)
    query.zero_()
    key.zero_()
    query[:fast, 0] = 1.0
    key[:fast, 0], key[half : half + fast, 0] = angles.cos(), angles.sin()
    seen = _head(attention.v_proj.weight, config)
    orthogonal, _ = torch.linalg.qr(torch.cat((seen.T, torch.randn(config.width, size)), dim=1))
    written = orthogonal[:, size : 2 * size]
    attention.o_proj.weight[:, :size] = WRITTEN * written
    return seen, written


def _look_for_what_followed(attention: Attention, config: ModelConfig, seen: Tensor, written: Tensor) -> None:
    """Head 0 compares what layer 0 would see of the token here with what it wrote there, and predicts what it finds."""
    size, half = config.head_size, config.head_size // 2
    slow = _pairs(SLOW, config)
    channels = torch.cat((torch.arange(half - slow, half), torch.arange(size - slow, size)))
    mixed = torch.randn(2 * slow, size) * size**-0.5
    query, key = _head(attention.q_proj.weight, config), _head(attention.k_proj.weight, config)
    query.zero_()
    key.zero_()
    query[channels] = mixed @ seen
    key[channels] = mixed @ written.T
    attention.o_proj.weight[:, :size] = _head(attention.v_proj.weight, config).T


def _pairs(share: float, config: ModelConfig) -> int:
    return max(1, round(share * config.head_size / 2))


def _head(weight: Tensor, config: ModelConfig) -> Tensor:
    """The rows of head 0 in a projection."""
    rows: Tensor = weight[: config.head_size]
    return rows

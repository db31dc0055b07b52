"""Weights in 8 or 4 bits: half or a third of bfloat16's memory, and as much less to read for every token.

In: a model.  Out: the model with its matrices rounded to few levels; what flows between them keeps the model's dtype.

    int8   levels -127..127, weight = level x scale; one scale for an output channel
    int4   levels 0..15, weight = (level - 8) x scale + zero; a scale and a zero for GROUP inputs of an output channel

`to_int8`, `from_int8`, `to_int4` and `from_int4` are the definition. On the CPU the products run in kernels that torch
carries and never make the weights whole again; elsewhere `from_...` makes them before each product.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import Cache
from model.errors import ConfigError
from model.language_model import LanguageModel
from model.transformer import Transformer

Quantization = Literal["int8", "int4"]
GROUP = 64  # divides every preset's widths; 32 would round finer but cost 0.35 of bfloat16's memory for 0.31
INT4_OUTPUTS = 16  # torch's int4 kernel takes output channels in multiples of this


def quantize(model: LanguageModel, kind: str) -> LanguageModel:
    """The model with every linear layer in `kind` ("int8" or "int4"); the one given is used up.

    A tied embedding becomes int8 in both: a row must be readable by itself, and as the output layer it decides between
    tokens directly. So do layers whose sizes int4 does not fit. Do this on the device and in the dtype to run in.
    Raises ConfigError for another kind.
    """
    if kind not in get_args(Quantization):
        raise ConfigError(f"there is no quantization {kind!r}; there are {' and '.join(get_args(Quantization))}")
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.Linear):
                fits = layer.in_features % GROUP == 0 and layer.out_features % INT4_OUTPUTS == 0
                few_bits = Int4Linear if kind == "int4" and fits else Int8Linear
                bias = None if layer.bias is None else layer.bias.detach()
                setattr(module, name, few_bits(layer.weight.detach(), bias))
    return Int8Tied(model) if isinstance(model, Transformer) else model


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) -> levels of that shape, int8, and scales (outputs,) of the weight's dtype."""
    scales = _not_zero((weight.float().abs().amax(1) / 127).to(weight.dtype))
    levels = (weight.float() / scales.float()[:, None]).round().clamp(-127, 127)
    return levels.to(torch.int8), scales


def from_int8(levels: Tensor, scales: Tensor) -> Tensor:
    """The weights, (outputs, inputs), of the scales' dtype."""
    return levels.to(scales.dtype) * scales[:, None]


def to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) -> levels of that shape, uint8, and scales with zeros, (inputs / GROUP, outputs, 2)."""
    groups = weight.float().reshape(len(weight), -1, GROUP)
    least, most = groups.aminmax(dim=-1)
    scales = _not_zero(((most - least) / 15).to(weight.dtype))
    zeros = (least + 8 * scales.float()).to(weight.dtype)
    levels = ((groups - zeros.float()[..., None]) / scales.float()[..., None] + 8).round().clamp(0, 15)
    return levels.flatten(1).to(torch.uint8), torch.stack((scales.T, zeros.T), dim=-1).contiguous()


def from_int4(levels: Tensor, scales_and_zeros: Tensor) -> Tensor:
    """The weights, (outputs, inputs), of the scales' dtype."""
    scales, zeros = scales_and_zeros.transpose(0, 1).unbind(-1)
    groups = levels.reshape(len(levels), -1, GROUP).to(scales.dtype) - 8
    return (groups * scales[..., None] + zeros[..., None]).flatten(1)


def has_kernels(device: torch.device) -> bool:
    """Whether torch carries products with int8 and int4 weights for this device."""
    return device.type == "cpu"


class Int8Linear(nn.Module):
    """x (..., inputs) -> (..., outputs), in x's dtype, which must be that of the weight it was made from."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        levels, scales = to_int8(weight)
        self.levels = nn.Buffer(levels)
        self.scales = nn.Buffer(scales)
        self.bias = None if bias is None else nn.Buffer(bias)
        self.kernel = has_kernels(weight.device)

    def forward(self, x: Tensor) -> Tensor:
        if not self.kernel:
            return F.linear(x, from_int8(self.levels, self.scales), self.bias)
        rows = x.reshape(-1, x.shape[-1])
        return _with_bias(torch._weight_int8pack_mm(rows, self.levels, self.scales), x, self.bias)


class Int4Linear(nn.Module):
    """x (..., inputs) -> (..., outputs), in x's dtype, which must be that of the weight it was made from.

    Two levels share a byte: in the kernel's own order where there is one, else the even inputs' in the lower half.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.kernel = has_kernels(weight.device)
        levels, scales_and_zeros = to_int4(weight)
        if self.kernel:
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.int(), 1)
        else:
            packed = levels[:, ::2] | levels[:, 1::2] << 4
        self.packed = nn.Buffer(packed)
        self.scales_and_zeros = nn.Buffer(scales_and_zeros)
        self.bias = None if bias is None else nn.Buffer(bias)

    def forward(self, x: Tensor) -> Tensor:
        if not self.kernel:
            levels = torch.stack((self.packed & 15, self.packed >> 4), dim=-1).flatten(1)
            return F.linear(x, from_int4(levels, self.scales_and_zeros), self.bias)
        rows = x.reshape(-1, x.shape[-1])
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, GROUP, self.scales_and_zeros)
        return _with_bias(product, x, self.bias)


class Int8Embedding(nn.Module):
    """Rows of an int8 matrix by their number: ids (...) -> (..., width), of the scales' dtype."""

    def __init__(self, matrix: Int8Linear) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, ids: Tensor) -> Tensor:
        return self.matrix.levels[ids].to(self.matrix.scales.dtype) * self.matrix.scales[ids][..., None]


class Int8Tied(LanguageModel):
    """A Transformer whose embedding, which is its output layer too, is one int8 matrix."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__(transformer.config)
        self.output = Int8Linear(transformer.model.embed_tokens.weight.detach())
        self.transformer = transformer
        transformer.model.embed_tokens = Int8Embedding(self.output)  # type: ignore[assignment]

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        return self.transformer.hidden(ids, positions=positions, segments=segments, cache=cache)

    def logits(self, hidden: Tensor) -> Tensor:
        scores: Tensor = self.output(hidden)
        return scores.float()

    def _norm_weight(self) -> Tensor:
        return self.transformer._norm_weight()


def _with_bias(rows: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    product = rows.view(*x.shape[:-1], rows.shape[-1])
    return product if bias is None else product + bias


def _not_zero(scales: Tensor) -> Tensor:
    """Where all weights are equal any small scale will do, but 0 cannot be divided by."""
    return scales.where(scales > 0, torch.full_like(scales, 2**-14))

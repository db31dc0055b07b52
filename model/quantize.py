"""Weights in 8 or 4 bits: half or a third of bfloat16's memory, and as much less to read for every token.

In: a model.  Out: the model with its matrices rounded to few levels; what flows between them keeps the model's dtype,
which for a Transformer, laid out for writing (model/fused.py), is float32.

    int8   levels -127..127, weight = level x scale; one scale for an output channel
    int4   levels 0..15, weight = (level - 8) x scale + zero; a scale and a zero for GROUP inputs of an output channel

`to_int8`, `from_int8`, `to_int4` and `from_int4` are the definition; scales and zeros are bfloat16. On the CPU few rows
are multiplied with the levels as they are, by a loop of ours (model/loops.py) or, in 4 bits, by a kernel that torch
carries; elsewhere, and for many rows in 8 bits, the levels become numbers before each product.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.errors import ConfigError
from model.fused import FusedTransformer
from model.hardware import pick_dtype
from model.language_model import LanguageModel
from model.products import Floats, by_torch, few_rows
from model.transformer import Transformer

Quantization = Literal["int8", "int4"]
GROUP = 64  # divides every preset's widths; 32 would round finer but cost 0.35 of bfloat16's memory for 0.31
INT4_OUTPUTS = 16  # torch's int4 kernel takes output channels in multiples of this


def quantize(model: LanguageModel, kind: str) -> LanguageModel:
    """The model with every linear layer in `kind` ("int8" or "int4"); the one given is used up.

    A tied embedding becomes int8 in both: a row must be readable by itself, and as the output layer it decides between
    tokens directly. So do layers whose sizes int4 does not fit. Do this on the device to run on.
    Raises ConfigError for another kind.
    """
    if kind not in get_args(Quantization):
        raise ConfigError(f"there is no quantization {kind!r}; there are {' and '.join(get_args(Quantization))}")
    few_bits = int4_where_it_fits if kind == "int4" else Int8Linear
    if isinstance(model, Transformer):
        return FusedTransformer(model, few_bits, Int8Tied)
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.Linear):
                bias = None if layer.bias is None else layer.bias.detach()
                setattr(module, name, few_bits(layer.weight.detach(), bias))
    return model


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) -> levels of that shape, int8, and scales (outputs,), bfloat16."""
    scales = _not_zero((weight.float().abs().amax(1) / 127).bfloat16())
    levels = (weight.float() / scales.float()[:, None]).round().clamp(-127, 127)
    return levels.to(torch.int8), scales


def from_int8(levels: Tensor, scales: Tensor) -> Tensor:
    """The weights, (outputs, inputs), float32."""
    return levels.float() * scales.float()[:, None]


def to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) -> levels of that shape, uint8; scales with zeros, (inputs / GROUP, outputs, 2), bfloat16."""
    groups = weight.float().reshape(len(weight), -1, GROUP)
    least, most = groups.aminmax(dim=-1)
    scales = _not_zero(((most - least) / 15).bfloat16())
    zeros = (least + 8 * scales.float()).bfloat16()
    levels = ((groups - zeros.float()[..., None]) / scales.float()[..., None] + 8).round().clamp(0, 15)
    return levels.flatten(1).to(torch.uint8), torch.stack((scales.T, zeros.T), dim=-1).contiguous()


def from_int4(levels: Tensor, scales_and_zeros: Tensor) -> Tensor:
    """The weights, (outputs, inputs), float32."""
    scales, zeros = scales_and_zeros.float().transpose(0, 1).unbind(-1)
    groups = levels.reshape(len(levels), -1, GROUP).float() - 8
    return (groups * scales[..., None] + zeros[..., None]).flatten(1)


def has_kernel(device: torch.device) -> bool:
    """Whether torch carries products with int4 weights for this device."""
    return device.type == "cpu"


class Int8Linear(nn.Module):
    """x (..., inputs) -> (..., outputs), in x's dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Buffer(bias)
        levels, scales = to_int8(weight)
        self.levels, self.scales = nn.Buffer(levels), nn.Buffer(scales)
        self.nbytes = levels.nbytes + scales.nbytes

    def forward(self, x: Tensor) -> Tensor:
        product = int8_product(x, self.levels, self.scales)
        return product if self.bias is None else product + self.bias

    def of_rows(self, x: Floats) -> Floats:
        """The same for few rows, (rows, inputs) -> (rows, outputs)."""
        product = int8_product_of_rows(x, self.levels, self.scales)
        return product if self.bias is None else product + self.bias.float().numpy()


class Int4Linear(nn.Module):
    """x (..., inputs) -> (..., outputs), in x's dtype.

    Two levels share a byte: in the kernel's own order where there is one, else the even inputs' in the lower half. The
    kernel multiplies bfloat16, and is a hundred times slower for anything else.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Buffer(bias)
        self.kernel = has_kernel(weight.device)
        levels, scales_and_zeros = to_int4(weight)
        if self.kernel:
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.int(), 1)
        else:
            packed = levels[:, ::2] | levels[:, 1::2] << 4
        self.packed = nn.Buffer(packed)
        self.scales_and_zeros = nn.Buffer(scales_and_zeros)
        self.nbytes = packed.nbytes + scales_and_zeros.nbytes

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor
        if self.kernel:
            rows = x.reshape(-1, x.shape[-1]).bfloat16()
            product = torch.ops.aten._weight_int4pack_mm_for_cpu.default(
                rows, self.packed, GROUP, self.scales_and_zeros
            )
            product = product.to(x.dtype).view(*x.shape[:-1], -1)
        else:
            levels = torch.stack((self.packed & 15, self.packed >> 4), dim=-1).flatten(1)
            product = F.linear(x, from_int4(levels, self.scales_and_zeros).to(x.dtype))
        return product if self.bias is None else product + self.bias

    def of_rows(self, x: Floats) -> Floats:
        """The same for few rows, (rows, inputs) -> (rows, outputs)."""
        return by_torch(self, x)


def int4_where_it_fits(weight: Tensor, bias: Tensor | None = None) -> Int4Linear | Int8Linear:
    """An Int4Linear, or an Int8Linear where groups do not divide the inputs or the kernel's blocks the outputs."""
    fits = weight.size(1) % GROUP == 0 and weight.size(0) % INT4_OUTPUTS == 0
    return Int4Linear(weight, bias) if fits else Int8Linear(weight, bias)


class Int8Tied:
    """An embedding, (vocab_size, width): the rows of ids, (..., width), and as `output` the product with all of it."""

    def __init__(self, weight: Tensor) -> None:
        self.levels, self.scales = to_int8(weight)
        self.nbytes = self.levels.nbytes + self.scales.nbytes

    def __call__(self, ids: Tensor) -> Tensor:
        return self.levels[ids].float() * self.scales[ids].float()[..., None]

    def output(self, x: Tensor) -> Tensor:
        """x (..., width) -> (..., vocab_size), in x's dtype."""
        return int8_product(x, self.levels, self.scales)


def int8_product(x: Tensor, levels: Tensor, scales: Tensor) -> Tensor:
    """x (..., inputs) -> (..., outputs), in x's dtype.

    A loop rounds each of few rows to steps of its own (model/loops.py). Of many rows a CPU that multiplies bfloat16
    multiplies them with the levels, which that format holds.
    """
    if few_rows(x):
        rows = x.detach().reshape(-1, x.size(-1)).float().contiguous()
        product = torch.from_numpy(int8_product_of_rows(rows.numpy(), levels, scales))
        return product.to(x.dtype).view(*x.shape[:-1], -1)
    if x.device.type == "cpu" and pick_dtype(None, x.device) == torch.bfloat16:
        return (F.linear(x.bfloat16(), levels.bfloat16()).float() * scales.float()).to(x.dtype)
    return F.linear(x, from_int8(levels, scales).to(x.dtype))


def int8_product_of_rows(x: Floats, levels: Tensor, scales: Tensor) -> Floats:
    """The same for few rows, (rows, inputs) -> (rows, outputs), on the CPU where loops are there."""
    from model.loops import multiply_int8  # numba takes a moment that not everybody has to wait

    return multiply_int8(levels.numpy(), scales.view(torch.int16).numpy(), x)


def _not_zero(scales: Tensor) -> Tensor:
    """Where all weights are equal any small scale will do, but 0 cannot be divided by."""
    return scales.where(scales > 0, torch.full_like(scales, 2**-14))

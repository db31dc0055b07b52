"""Weights in 8 or 4 bits: half or a third of bfloat16's memory, and as much less to read for every token.

In: a model.  Out: the model with its matrices rounded to few levels; what flows between them keeps the model's dtype,
which for a Transformer, laid out for writing (model/fused.py), is float32.

    int8   levels -127..127, weight = level x scale; one scale for an output channel
    int4   levels 0..15, weight = (level - 8) x scale + zero; a scale and a zero for GROUP inputs of an output channel

`to_int8`, `from_int8`, `to_int4` and `from_int4` are the definition; scales and zeros are bfloat16. On the CPU few rows
are multiplied with the levels as they are read, by a loop of ours (model/dots.py); elsewhere, and for many rows, the
levels become numbers before each product.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import chain
from typing import Literal, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import ConfigError
from model.fused import FusedTransformer
from model.hardware import pick_dtype
from model.language_model import LanguageModel
from model.products import GROUP, Matrix, by_loop, few_rows
from model.transformer import Transformer

Quantization = Literal["int8", "int4"]


def quantize(model: LanguageModel, kind: str) -> LanguageModel:
    """The model with every linear layer in `kind` ("int8" or "int4"); the one given is used up.

    A tied embedding becomes int8 in both: a row must be readable by itself, and as the output layer it decides between
    tokens directly. So do layers whose inputs GROUP does not divide. Do this on the device to run on.
    Raises ConfigError for another kind.
    """
    if kind not in get_args(Quantization):
        raise ConfigError(f"there is no quantization {kind!r}; there are {' and '.join(get_args(Quantization))}")
    few_bits = int4_where_it_fits if kind == "int4" else Int8Linear.of
    if isinstance(model, Transformer):
        return FusedTransformer(model, few_bits, Int8Tied)
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.Linear):
                setattr(module, name, Biased(few_bits([layer.weight.detach()])[0], layer.bias))
    return model


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) -> levels of that shape, int8, and scales (outputs, 1), bfloat16."""
    scales = _not_zero((weight.float().abs().amax(1, keepdim=True) / 127).bfloat16())
    return (weight.float() / scales.float()).round().clamp(-127, 127).to(torch.int8), scales


def from_int8(levels: Tensor, scales: Tensor) -> Tensor:
    """The weights, (outputs, inputs), float32."""
    return levels.float() * scales.float()


def to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) -> levels of that shape, uint8; a scale and a zero, (outputs, groups, 2), bfloat16."""
    groups = weight.float().reshape(len(weight), -1, GROUP)
    least, most = groups.aminmax(dim=-1)
    scales = _not_zero(((most - least) / 15).bfloat16())
    zeros = (least + 8 * scales.float()).bfloat16()
    levels = ((groups - zeros.float()[..., None]) / scales.float()[..., None] + 8).round().clamp(0, 15)
    return levels.flatten(1).to(torch.uint8), torch.stack((scales, zeros), dim=-1)


def from_int4(levels: Tensor, scales_and_zeros: Tensor) -> Tensor:
    """The weights, (outputs, inputs), float32."""
    scales, zeros = scales_and_zeros.float()[..., None, :].unbind(-1)
    groups = levels.reshape(len(levels), -1, GROUP).float() - 8
    return (groups * scales + zeros).flatten(1)


def pack(levels: Tensor) -> Tensor:
    """Two levels a byte, (outputs, inputs / 2): the upper half of a group's levels lies in the bytes' upper halves."""
    lower, upper = levels.reshape(len(levels), -1, 2, GROUP // 2).unbind(2)
    return (lower | upper << 4).flatten(1)


def unpack(packed: Tensor) -> Tensor:
    """The levels, (outputs, inputs)."""
    halves = packed.reshape(len(packed), -1, 1, GROUP // 2)
    return torch.cat((halves & 15, halves >> 4), dim=2).flatten(1)


class FewBits(ABC):
    """x (..., inputs) -> (..., outputs), in x's dtype. levels, scales: of a matrix, or of one for each layer."""

    def __init__(self, levels: Tensor, scales: Tensor) -> None:
        self.levels, self.scales = levels, scales
        self.nbytes = levels.nbytes + scales.nbytes

    @classmethod
    def stacked(cls, matrices: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """Matrices of the same shape."""
        levels, scales = zip(*matrices, strict=True)
        return cls(torch.stack(levels), torch.stack(scales))

    def __getitem__(self, layer: int) -> Self:
        return type(self)(self.levels[layer], self.scales[layer])

    def __call__(self, x: Tensor) -> Tensor:
        return by_loop(x, self.matrix).to(x.dtype) if few_rows(x, self.levels.dtype) else self.of_many(x)

    @abstractmethod
    def of_many(self, x: Tensor) -> Tensor:
        """The same, by torch."""

    @property
    def matrix(self) -> Matrix:
        """Its levels and scales, in the same memory."""
        scales: NDArray[np.int16] = self.scales.view(torch.int16).numpy()
        return self.levels.numpy(), scales.reshape(*self.levels.shape[:-1], -1)


class Int8Linear(FewBits):
    """In 8 bits."""

    @classmethod
    def of(cls, weights: Iterable[Tensor]) -> Self:
        """Of matrices, (outputs, inputs), of the same shape."""
        return cls.stacked(to_int8(weight) for weight in weights)

    def of_many(self, x: Tensor) -> Tensor:
        # a CPU that multiplies bfloat16 multiplies them with the levels, which that format holds
        if x.device.type == "cpu" and pick_dtype(None, x.device) == torch.bfloat16:
            product = F.linear(x.bfloat16(), self.levels.bfloat16()).float()
            return (product * self.scales.float().squeeze(-1)).to(x.dtype)
        return F.linear(x, from_int8(self.levels, self.scales).to(x.dtype))


class Int4Linear(FewBits):
    """In 4 bits, two levels a byte."""

    @classmethod
    def of(cls, weights: Iterable[Tensor]) -> Self:
        """Of matrices, (outputs, inputs), of the same shape; GROUP divides their inputs."""
        rounded = (to_int4(weight) for weight in weights)
        return cls.stacked((pack(levels), scales) for levels, scales in rounded)

    def of_many(self, x: Tensor) -> Tensor:
        dtype = pick_dtype(None, x.device) if x.device.type == "cpu" else x.dtype
        weight = from_int4(unpack(self.levels), self.scales).to(dtype)
        return F.linear(x.to(dtype), weight).to(x.dtype)


def int4_where_it_fits(weights: Iterable[Tensor]) -> Int4Linear | Int8Linear:
    """An Int4Linear, or an Int8Linear where groups do not divide the inputs."""
    weights = iter(weights)
    first = next(weights)
    return (Int8Linear if first.size(1) % GROUP else Int4Linear).of(chain([first], weights))


class Biased(nn.Module):
    """A linear layer of a model that is not laid out for writing."""

    def __init__(self, product: Int8Linear | Int4Linear, bias: Tensor | None) -> None:
        super().__init__()
        self.product, self.bias = product, None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        product = self.product(x)
        return product if self.bias is None else product + self.bias


class Int8Tied:
    """An embedding, (vocab_size, width): the rows of ids, (..., width), and as `output` the product with all of it."""

    def __init__(self, weight: Tensor) -> None:
        self.output = Int8Linear.of([weight])[0]
        self.nbytes = self.output.nbytes

    def __call__(self, ids: Tensor) -> Tensor:
        return from_int8(self.output.levels[ids], self.output.scales[ids])


def _not_zero(scales: Tensor) -> Tensor:
    """Where all weights are equal any small scale will do, but 0 cannot be divided by."""
    return scales.where(scales > 0, torch.full_like(scales, 2**-14))

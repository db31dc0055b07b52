"""Products with a matrix of weights, kept in the form in which this machine reads it fastest.

In: a matrix, (outputs, inputs), of float32, bfloat16 or float16.  Out: a function from x, (..., inputs), to the
product, (..., outputs), both float32; the weights stay in the matrix's dtype.

torch's own product of one row with a matrix reads float32 as fast as memory gives it, 16 bits at half of that or less,
and float16 hardly at all for many rows. So a few rows go through a loop of our own where weights have 16 bits
(model/loops.py), and for many rows float16 is widened first.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import ClassVar, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

FEW_ROWS = 8  # for so many a loop of ours takes less time than to widen the weights
HAS_LOOPS = all(find_spec(name) for name in ("numba", "llvmlite"))  # which model/loops.py needs


class Product(Protocol):
    """What is left of a matrix of weights, (outputs, inputs)."""

    nbytes: int  # of weights that a product reads

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), both float32."""

    def of_rows(self, x: Floats) -> Floats:
        """The same for few rows, (rows, inputs) -> (rows, outputs)."""


def fastest(weight: Tensor, dtype: torch.dtype | None = None) -> "PlainLinear | LoopLinear":
    """The matrix, in `dtype` (by default its own), as this machine multiplies with it fastest."""
    weight = weight.to(dtype or weight.dtype)
    for_loops = HAS_LOOPS and weight.device.type == "cpu" and weight.dtype in LoopLinear.BITS
    return LoopLinear(weight) if for_loops else PlainLinear(weight)


def by_torch(product: Callable[[Tensor], Tensor], x: Floats) -> Floats:
    """A product of tensors, of arrays: (rows, inputs) -> (rows, outputs)."""
    return cast(Floats, product(torch.from_numpy(x)).numpy())


def few_rows(x: Tensor) -> bool:
    """Whether x, (..., inputs), is for loops: few rows, on the CPU, and loops there."""
    return HAS_LOOPS and x.device.type == "cpu" and x.numel() <= FEW_ROWS * x.size(-1)


class PlainLinear:
    """The definition."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach()
        self.nbytes = weight.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight).float()

    def of_rows(self, x: Floats) -> Floats:
        return by_torch(self, x)


class LoopLinear:
    """On the CPU, by a loop for few rows."""

    BITS: ClassVar = {torch.float16: torch.uint16, torch.bfloat16: torch.int16}

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach().contiguous()
        self.nbytes = weight.nbytes
        self.bits = self.weight.view(self.BITS[weight.dtype]).numpy()

    def __call__(self, x: Tensor) -> Tensor:
        if few_rows(x):
            rows = x.reshape(-1, x.size(-1)).contiguous()
            return torch.from_numpy(self.of_rows(rows.numpy())).view(*x.shape[:-1], -1)
        dtype = torch.bfloat16 if self.weight.dtype == torch.bfloat16 else torch.float32
        return F.linear(x.to(dtype), self.weight.to(dtype)).float()

    def of_rows(self, x: Floats) -> Floats:
        from model.loops import multiply  # numba takes a moment that not everybody has to wait

        return multiply(self.bits, x)


class FastestTied:
    """An embedding, (vocab_size, width): the rows of ids, (..., width), and as `output` the product with all of it."""

    def __init__(self, weight: Tensor, dtype: torch.dtype | None = None) -> None:
        self.weight = weight.detach().to(dtype or weight.dtype)
        self.output = fastest(self.weight)
        self.nbytes = self.output.nbytes

    def __call__(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()

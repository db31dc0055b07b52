"""Products with a matrix of weights, kept in the form in which this machine reads it fastest.

In: a matrix for each layer, (outputs, inputs), of float32, bfloat16 or float16.  Out: a function from x, (..., inputs),
to the product, (..., outputs), both float32; the weights stay in the matrix's dtype.

torch's own product of one row with a matrix reads 16 bits at half the speed that memory has, and for many rows float16
hardly moves at all. So a few rows go through a loop of our own (model/dots.py), and for many rows float16 is widened
first. The matrices of all layers lie in one array, through which a loop can go (model/one_token.py).
"""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Matrix = tuple[NDArray[Any], NDArray[np.int16]]  # weights and their scales, as loops take them (model/dots.py)

# inputs that a loop takes at a time, and that share a scale in 4 bits; it divides every preset's widths. 32 would round
# finer but cost 0.35 of bfloat16's memory for 0.31
GROUP = 64
# rows of x up to which a loop takes less time than torch, by what the loop reads; measured with the `story` preset
MOST_ROWS = {torch.float32: 24, torch.float16: 64, torch.bfloat16: 12, torch.int8: 24, torch.uint8: 96}
HAS_LOOPS = all(find_spec(name) for name in ("numba", "llvmlite"))  # which model/loops.py needs


class Product(Protocol):
    """What is left of a matrix of weights, (outputs, inputs), or of one for each layer."""

    nbytes: int  # of weights that a product reads

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs), both float32."""

    def __getitem__(self, layer: int) -> Self:
        """That of one layer."""


class LoopProduct(Product, Protocol):
    """One that loops can take."""

    @property
    def matrix(self) -> Matrix:
        """Its weights, in the same memory."""


def fastest(weights: Iterable[Tensor], dtype: torch.dtype | None = None) -> "PlainLinear | LoopLinear":
    """The matrices, in `dtype` (by default their own), as this machine multiplies with them fastest."""
    stack = torch.stack([weight.detach().to(dtype or weight.dtype) for weight in weights])
    for_loops = HAS_LOOPS and stack.device.type == "cpu" and stack.dtype in LoopLinear.BITS
    return LoopLinear(stack) if for_loops else PlainLinear(stack)


def few_rows(x: Tensor, weights: torch.dtype) -> bool:
    """Whether x, (..., inputs), is for loops over such weights: few rows, on the CPU, and loops there."""
    return HAS_LOOPS and x.device.type == "cpu" and x.numel() <= MOST_ROWS[weights] * x.size(-1)


def by_loop(x: Tensor, matrix: Matrix) -> Tensor:
    """The product, (..., outputs), of few rows, (..., inputs); both float32."""
    from model.dots import multiply  # numba takes a moment that not everybody has to wait
    from model.loops import take_threads

    take_threads(torch.get_num_threads())
    rows = x.detach().reshape(-1, x.size(-1)).float().contiguous()
    return torch.from_numpy(multiply(*matrix, rows.numpy())).view(*x.shape[:-1], len(matrix[0]))


class PlainLinear:
    """The definition."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.nbytes = weight, weight.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight).float()

    def __getitem__(self, layer: int) -> Self:
        return type(self)(self.weight[layer])


class LoopLinear(PlainLinear):
    """On the CPU, by a loop for few rows."""

    BITS: ClassVar = {torch.float32: torch.float32, torch.float16: torch.uint16, torch.bfloat16: torch.int16}

    def __call__(self, x: Tensor) -> Tensor:
        if few_rows(x, self.weight.dtype):
            return by_loop(x, self.matrix)
        dtype = torch.bfloat16 if self.weight.dtype == torch.bfloat16 else torch.float32
        return F.linear(x.to(dtype), self.weight.to(dtype)).float()

    @property
    def matrix(self) -> Matrix:
        """Its weights, in the same memory; they have no scales."""
        bits = self.weight.view(self.BITS[self.weight.dtype]).numpy()
        return bits, np.empty((*bits.shape[:-1], 0), dtype=np.int16)


class FastestTied:
    """An embedding, (vocab_size, width): the rows of ids, (..., width), and as `output` the product with all of it."""

    def __init__(self, weight: Tensor, dtype: torch.dtype | None = None) -> None:
        self.output = fastest([weight], dtype)[0]
        self.weight, self.nbytes = self.output.weight, self.output.nbytes

    def __call__(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()

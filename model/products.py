"""Products with a matrix of weights, laid out once in the order in which its kernel reads them fastest.

In: a matrix, (outputs, inputs), of float32, bfloat16 or float16.  Out: a function from x, (..., inputs), to the
product, (..., outputs), both float32; the weights stay in the matrix's dtype.

torch's own product of one row with a matrix reads float32 as fast as memory gives it, 16 bits at half of that or less,
and float16 hardly at all for many rows. Of the kernels it carries besides, FBGEMM's multiplies float32 with float16 and
comes near to the memory's speed; oneDNN's takes bfloat16 in blocks of an order of its own, and is the fastest for many
rows where the processor multiplies bfloat16. A machine without them multiplies as anywhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FEWEST_ROWS = 4  # oneDNN takes less time for these than for one


def fastest(weight: Tensor, dtype: torch.dtype | None = None) -> "PlainLinear | PackedLinear | Float16Linear":
    """The matrix, in `dtype` (by default its own), as this machine multiplies with it fastest."""
    dtype = dtype or weight.dtype
    if weight.device.type == "cpu":
        if dtype == torch.float16 and has_fbgemm():
            return Float16Linear(weight)
        if dtype == torch.bfloat16 and has_onednn():
            return PackedLinear(weight)
    return PlainLinear(weight.to(dtype))


def has_fbgemm() -> bool:
    """Whether torch carries FBGEMM here, which is for x86 processors."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def has_onednn() -> bool:
    """Whether torch carries oneDNN for bfloat16 here; nobody tried it on other than x86 processors."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PlainLinear:
    """The definition."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach()
        self.nbytes = weight.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight).float()


class PackedLinear:
    """bfloat16, by oneDNN."""

    def __init__(self, weight: Tensor) -> None:
        self.nbytes = 2 * weight.numel()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().bfloat16(), FEWEST_ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.size(-1)).bfloat16()
        few = rows.expand(FEWEST_ROWS, -1) if len(rows) == 1 else rows
        product: Tensor = torch.ops.mkldnn._linear_pointwise.default(few, self.packed, None, "none", [], "")
        return product[: len(rows)].float().view(*x.shape[:-1], -1)


class Float16Linear:
    """float16, by FBGEMM."""

    def __init__(self, weight: Tensor) -> None:
        self.nbytes = 2 * weight.numel()
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().float(), None)  # rounds it

    def __call__(self, x: Tensor) -> Tensor:
        if x.dim() == 1:  # which the kernel does not take
            return self(x[None])[0]
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16.default(x, self.packed)
        return product


class FastestTied:
    """An embedding, (vocab_size, width): the rows of ids, (..., width), and as `output` the product with all of it."""

    def __init__(self, weight: Tensor, dtype: torch.dtype | None = None) -> None:
        self.weight = weight.detach().to(dtype or weight.dtype)
        self.output = fastest(self.weight)
        self.nbytes = self.output.nbytes

    def __call__(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float()

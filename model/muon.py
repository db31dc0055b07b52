"""Muon: momentum whose every direction is learned at the same speed.

In: matrices with gradients.  Out: moved matrices.

The momentum of a matrix is dominated by few directions; the rare ones matter too. So each matrix moves by the nearest
orthogonal matrix to its momentum, which has the same length in all directions. Newton and Schulz's iteration comes
close to it with matrix products alone (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").
torch.optim.Muon is the definition, one matrix after another; here all matrices of one shape go through together, since
a small model's matrices are too small to be worth a call each.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # chosen by Jordan et al. for the steepest rise of small singular values
ITERATIONS = 5
TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, with decoupled weight decay.

    dtype: of the iteration's matrix products. A step is as long as `lr` times the root of the number of a matrix's
    outputs over its inputs, where that is more than 1.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is called
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for matrices in alike.values():
                self._move(matrices, group["lr"], group["momentum"], group["weight_decay"])

    def _move(self, matrices: list[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        """Move matrices of one shape."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        buffers: list[Tensor] = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, buffers, momentum)
        outputs, inputs = matrices[0].shape
        moves = orthogonal(torch.stack(ahead), self.dtype)
        torch._foreach_mul_(list[Tensor](matrices), 1 - lr * weight_decay)
        for matrix, move in zip(matrices, moves, strict=True):
            matrix.add_(move, alpha=-lr * max(1.0, outputs / inputs) ** 0.5)


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Nearly the nearest orthogonal matrices to `matrices`, (count, outputs, inputs): singular values of 0.5 to 1.5.

    dtype: of the products, and of what is returned.
    """
    wide = matrices if matrices.size(1) <= matrices.size(2) else matrices.mT
    x = (wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=TINY)).to(dtype)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        squares = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(squares, squares, squares, beta=b, alpha=c), x, beta=a)
    nearest: Tensor = x if wide is matrices else x.mT
    return nearest

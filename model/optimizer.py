"""How weights move: Muon for the matrices inside the blocks, AdamW for everything else.

In: a model with gradients, a learning-rate multiplier.  Out: changed weights.

Embeddings, the output head, norms and biases are not maps between hidden spaces, which is what Muon (model/muon.py) is
for; they keep AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
"""

from typing import Any

import torch
from torch import nn

from model.muon import Muon
from model.settings import TrainConfig

ADAMW_SHARE = 0.4  # AdamW's peak learning rate as a share of Muon's


class Optimizer:
    """The two optimizers behind one step; their states are saved and loaded as one.

    dtype: of Muon's matrix products.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, dtype: torch.dtype = torch.float32) -> None:
        matrices, decayed, plain = parameter_groups(model)
        other = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        rate = config.learning_rate * ADAMW_SHARE
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(other, lr=rate, betas=(0.9, 0.95), eps=1e-10)]
        if matrices:
            self.parts.append(Muon(matrices, lr=config.learning_rate, weight_decay=config.weight_decay, dtype=dtype))
        self.peaks = [part.param_groups[0]["lr"] for part in self.parts]

    def step(self, multiplier: float, scaler: torch.amp.GradScaler) -> None:
        """Move the weights at `multiplier` times the peak learning rates. scaler: has unscaled the gradients."""
        for part, peak in zip(self.parts, self.peaks, strict=True):
            for group in part.param_groups:
                group["lr"] = peak * multiplier
            scaler.step(part)

    def forget_gradients(self) -> None:
        """Make room for the next step's gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    @property
    def state_bytes(self) -> int:
        """What the state takes once a step was taken: of every weight two numbers for AdamW, one for Muon."""
        numbers = {torch.optim.AdamW: 2, Muon: 1}
        weights = [(numbers[type(part)], group["params"]) for part in self.parts for group in part.param_groups]
        return sum(count * weight.nbytes for count, group in weights for weight in group)

    def state_dict(self) -> list[dict[str, Any]]:
        """What `load_state_dict` needs to go on with the same bits."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take over a saved state of an optimizer for the same model."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """The parameters by how they are trained: (Muon's matrices, AdamW's with weight decay, AdamW's without).

    A matrix between hidden layers lives inside a block, that is, below a numbered layer. Tied weights appear once.
    """
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        in_block = any(part.isdigit() for part in name.split("."))
        if parameter.ndim < 2:
            plain.append(parameter)
        elif in_block:
            matrices.append(parameter)
        else:
            decayed.append(parameter)
    return matrices, decayed, plain


def learning_rate_multiplier(step: int, progress: float, config: TrainConfig) -> float:
    """The trapezoid: a linear rise over `warmup_steps`, a plateau, a linear fall to zero over the last `decay_share`.

    Where exercises come before the text, it rises for both.
    progress: how much of the training is done, from 0 to 1; by steps or by the clock, whatever limits this run.
    Hägele et al. 2024, arXiv:2405.18392.
    """
    risen = step + 1 - (config.exercises if step >= config.exercises else 0)
    rise = min(1.0, risen / config.warmup_steps) if config.warmup_steps else 1.0
    fall = min(1.0, (1.0 - progress) / config.decay_share)
    return max(0.0, min(rise, fall))

"""The mean of a training's weights over its last part, which often predicts better than the latest of them.

In: a model's weights, step by step.  Out: averaged weights, and the model with them in place for a while.

The mean reaches back over the same share of the training at every step, so it needs no end to be known beforehand: the
clock, the number of steps or held-out text may decide that. Weights taken at time i of n count with
(i ** POWER - (i - 1) ** POWER) / n ** POWER, which one running mean can keep: a moving average whose memory grows with
the training (Karras et al. 2024, arXiv:2312.02696, section 3.1, "power function"). Averaging changes nothing in the
training itself.
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

POWER = 8.0  # what the mean holds is on average 1 / (POWER + 1) of the training old: about 11 %
EVERY = 8  # optimizer steps between two weights that go into the mean, so that it costs next to nothing


class Average:
    """The running mean of a model's weights, on their device, in their dtype."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def include(self, model: nn.Module, step: int) -> None:
        """Take the weights after optimizer step `step`, counted from 1, into the mean, if it is their turn."""
        taken, not_its_turn = divmod(step - 1, EVERY)
        if not not_its_turn:
            share = 1.0 - (taken / (taken + 1)) ** POWER
            torch._foreach_lerp_(list(self.weights.values()), list(model.state_dict().values()), share)

    @contextlib.contextmanager
    def in_place_of_latest(self, model: nn.Module) -> Iterator[None]:
        """Let the model have the averaged weights within the block, and its own, bit by bit, after it."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        """By value: what holds on to the model's tensors (an optimizer, compiled code) keeps them."""
        for name, tensor in model.state_dict().items():
            latest = tensor.clone()
            tensor.copy_(self.weights[name])
            self.weights[name].copy_(latest)

    def load_state_dict(self, weights: Mapping[str, Tensor]) -> None:
        """Take over a saved mean of the same model's weights."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

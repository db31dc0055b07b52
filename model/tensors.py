"""Batches as torch tensors on a device, in portions that fit its memory.

In: a Batch of numpy arrays.  Out: a few rows at a time as tensors, and of their logits, which are the largest thing in
memory, a few positions at a time as a loss.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from data.batches import Batch
from model.language_model import LanguageModel

MICRO_BATCH_TOKENS = {"cpu": 4096, "mps": 8192, "cuda": 32_768}  # positions that go through the model at one time
LOSS_CHUNK = 2048  # positions whose logits exist at one moment; more would only cost memory

HeadLoss = Callable[[LanguageModel, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """data.batches.Batch on a device; every tensor has the shape (rows, context)."""

    inputs: Tensor  # int64
    targets: Tensor  # int64
    scored: Tensor  # bool
    positions: Tensor  # int64
    segments: Tensor | None  # int32


def micro_batches(batch: Batch, device: torch.device, tokens: int | None = None) -> Iterator[TensorBatch]:
    """Cut a batch by rows into portions of at most `tokens` positions, one row at least; those with nothing scored drop
    out. tokens: by default as many as suit the kind of device.
    """
    rows, context = batch.inputs.shape
    rows_each = max(1, (tokens or MICRO_BATCH_TOKENS[device.type]) // context)

    def portion(array: npt.NDArray[np.generic], start: int) -> Tensor:
        return torch.from_numpy(array[start : start + rows_each]).to(device, non_blocking=True)

    for start in range(0, rows, rows_each):
        if batch.scored[start : start + rows_each].any():
            yield TensorBatch(
                portion(batch.inputs, start),
                portion(batch.targets, start),
                portion(batch.scored, start),
                portion(batch.positions, start),
                None if batch.segments is None else portion(batch.segments, start),
            )


def head_loss(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """The summed cross-entropy of some positions in nats, a float32 scalar.

    hidden: (positions, width), from `model.hidden`; targets: int64, (positions,), the token that follows each.
    """
    return F.cross_entropy(model.logits(hidden), targets, reduction="sum")


def chunked_losses(
    model: LanguageModel, hidden: Tensor, targets: Tensor, loss: HeadLoss = head_loss
) -> Iterator[Tensor]:
    """The summed loss of LOSS_CHUNK positions after another; the arguments are those of `head_loss`."""
    for states, following in zip(torch.split(hidden, LOSS_CHUNK), torch.split(targets, LOSS_CHUNK), strict=True):
        yield loss(model, states, following)

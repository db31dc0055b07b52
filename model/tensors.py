"""Batches as torch tensors on a device, in portions that fit its memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.batches import Batch

MICRO_BATCH_TOKENS = {"cpu": 4096, "mps": 8192, "cuda": 32_768}  # positions that go through the model at one time


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """data.batches.Batch on a device; every tensor has the shape (rows, context)."""

    inputs: Tensor  # int64
    targets: Tensor  # int64
    scored: Tensor  # bool
    positions: Tensor  # int64
    segments: Tensor | None  # int32


def micro_batches(batch: Batch, device: torch.device) -> Iterator[TensorBatch]:
    """Cut a batch by rows into portions of at most MICRO_BATCH_TOKENS positions; those with nothing scored drop out."""
    rows, context = batch.inputs.shape
    rows_each = max(1, MICRO_BATCH_TOKENS[device.type] // context)

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

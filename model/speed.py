"""How fast this machine trains a model: measured, on a few real steps.

In: a shape, settings, a device.  Out: tokens per second.
"""

import math
import time
from dataclasses import replace

import numpy as np
import torch

from bpe.freed_memory import keep_freed_memory
from data.batches import Batch
from model.build import build
from model.config import ModelConfig
from model.memory import fit
from model.optimizer import Optimizer
from model.parallel import world_size
from model.settings import TrainConfig
from model.train import Run, accumulate_gradients, take_step

FIRST_STEPS = 1  # that are not counted: they compile, take memory and choose kernels
MEASURED_STEPS = 2


def tokens_per_second(
    shape: ModelConfig,
    config: TrainConfig,
    device: torch.device,
    dtype: torch.dtype,
    compiled: bool = False,
    most_seconds: float = math.inf,
    *,
    packed: bool = False,
) -> float:
    """Training positions per second of a model of this shape, on random tokens.

    compiled: in compiled code, which a training of the same shape, as packed, in this process then uses too.
    most_seconds: above 0; what takes longer than that is measured in fewer steps; compiling is not counted.
    packed: as where several short texts stand in a row and must not see each other.
    Of a group of processes the others are taken to be as fast as this one.
    """
    keep_freed_memory()
    config = replace(config, batch_tokens=max(config.batch_tokens, shape.context))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model = build(shape, dropout=config.dropout).to(device)
        run = Run(model, Optimizer(model, config, dtype), dtype, device)
        fit(run, config.rows(shape.context) * shape.context)
        if compiled:
            run.compile()
        batch = random_batch(config.rows(shape.context), shape, packed=packed)
        seconds: list[float] = []
        not_counted = FIRST_STEPS if compiled else 0
        while len(seconds) < FIRST_STEPS + MEASURED_STEPS and sum(seconds[not_counted:]) < most_seconds:
            start = time.perf_counter()
            take_step(run, config, 0.0, accumulate_gradients(run, batch, batch.inputs.size))
            seconds.append(time.perf_counter() - start)
    return world_size() * batch.inputs.size / min(seconds[FIRST_STEPS:] or seconds)


def random_batch(rows: int, shape: ModelConfig, *, packed: bool = False) -> Batch:
    """A batch of random tokens, all scored; packed: two texts in a row."""
    half = np.arange(shape.context, dtype=np.int32) * 2 // shape.context
    ids = np.random.default_rng(0).integers(0, shape.vocab_size, (rows, shape.context + 1))
    return Batch(
        inputs=ids[:, :-1],
        targets=ids[:, 1:],
        scored=np.ones((rows, shape.context), dtype=bool),
        positions=np.tile(np.arange(shape.context), (rows, 1)),
        segments=np.tile(half, (rows, 1)) if packed else None,
    )

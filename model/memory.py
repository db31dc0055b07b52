"""How much memory a training will take, said before it starts.

In: a run.  Out: bytes, by what they are for. Weights, gradients and the optimizer's state are counted. What a
micro-batch leaves for the way back, mostly the largest part, is tried out on a few tokens with the model as it is
written: so it is right for every design, number format and device. (Compiled, attention on a CPU keeps more and the
rest less.) Python, torch and what the allocator wastes come on top.
"""

import os
from dataclasses import asdict, dataclass
from itertools import chain

import torch
from torch import Tensor

from model.hardware import free_memory, matrix_products_in
from model.parallel import world_size
from model.tensors import LOSS_CHUNK
from model.train import Run

TRIED = 128  # tokens in a row that is tried out
FREE_SHARE = 0.9  # of the free memory, at most, is counted on: the estimate is one
MB = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on the device at the fullest moment of a step."""

    weights: int  # float32: latest and averaged ones; on the CPU the best ones, too
    gradients: int  # float32
    optimizer: int
    activations: int  # of a micro-batch: what each layer keeps for the way back, and one block's gradients on that way
    logits: int  # of a chunk of the loss

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())

    @property
    def line(self) -> str:
        """In words, for people."""
        parts = ", ".join(f"{name} {size / MB:,.0f}" for name, size in asdict(self).items())
        return f"memory: about {self.total / MB:,.0f} MB ({parts})"


def fit(run: Run, batch_tokens: int) -> Memory:
    """Halve the run's micro-batch until what training will take besides is free, or a row is left; return the estimate.

    A system that ends programs where memory runs out, as Linux does, leaves nothing to be halved afterwards. Processes
    on one machine's CPU share what is free there; torchrun says how many they are.
    """
    free = free_memory(run.device)
    if free is not None and run.device.type == "cpu":
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    there = held(run)
    while True:
        memory = estimate(run, batch_tokens)
        if free is None or memory.total - there < FREE_SHARE * free or run.micro_tokens <= run.model.config.context:
            return memory
        run.micro_tokens = min(run.micro_tokens, batch_tokens) // 2


def estimate(run: Run, batch_tokens: int) -> Memory:
    """What training `run` with so many tokens in a step will take of this process's device."""
    config = run.model.config
    parameters = 4 * run.model.num_parameters
    copies = 3 if run.device.type == "cpu" else 2
    own_tokens = -(-batch_tokens // world_size())
    tokens = max(config.context, min(own_tokens, run.micro_tokens))
    one_row, two_rows = (saved_for_backward(run, rows) for rows in (1, 2))
    row_tokens = min(TRIED, config.context)
    left_by_all = tokens * (two_rows - one_row) // row_tokens
    half = run.dtype != torch.float32
    # float32: logits, their log-softmax and its gradient; in 16 bits the product itself and its gradient
    bytes_per_logit = 4 * 3 + (2 * 2 if half else 0)
    return Memory(
        weights=copies * parameters,
        gradients=parameters,
        optimizer=run.optimizer.state_bytes,
        activations=2 * one_row - two_rows + left_by_all + left_by_all // config.layers,
        logits=bytes_per_logit * min(tokens, LOSS_CHUNK) * config.vocab_size,
    )


def held(run: Run) -> int:
    """Bytes of what the run has on its device already, new or as it was saved: weights and the optimizer's state."""
    states = (state.values() for part in run.optimizer.parts for state in part.state.values())
    best = run.best.weights.values() if run.best else ()
    tensors = chain(run.model.parameters(), run.average.weights.values(), best, *states)
    return sum(
        tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor) and tensor.device.type == run.device.type
    )


def saved_for_backward(run: Run, rows: int) -> int:
    """Bytes that the model keeps of `rows` rows of some tokens until their gradient is computed, weights left out."""
    shape = rows, min(TRIED, run.model.config.context)
    ids, segments = (torch.zeros(shape, dtype=dtype, device=run.device) for dtype in (torch.int64, torch.int32))
    weights = {parameter.untyped_storage().data_ptr() for parameter in run.model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    run.model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
        matrix_products_in(run.dtype, run.device),
    ):
        run.model.hidden(ids, segments=segments)
    return sum(kept.values())

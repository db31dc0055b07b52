"""How well a model predicts text it was not trained on, in bits per byte.

In: a model and held-out text laid out in windows.  Out: one number that compares across vocabularies.

Bits per byte: the total negative log2-likelihood of the scored tokens over the UTF-8 bytes they stand for. Every
document starts anew, windows of the model's context move by half of it, every token is scored once (data/layout.py). Of
a pair the story and its end are scored, given the prompt, over the story's bytes plus one.

`python -m model.evaluate` is the command for it; what it does stands in model/scoring.py.
"""

import math
import sys
from dataclasses import dataclass
from itertools import islice

import torch

from bpe.freed_memory import keep_freed_memory
from bpe.progress import progress_bar
from data.batches import HeldOut
from model.build import LanguageModel
from model.hardware import matrix_products_in
from model.parallel import rank, sum_of, world_size
from model.tensors import TensorBatch, chunked_losses, micro_batches


@dataclass(frozen=True, slots=True)
class Score:
    """What a model needs to encode some text."""

    bits: float  # total negative log2-likelihood of the scored tokens
    num_bytes: int  # UTF-8 bytes those tokens stand for
    num_tokens: int

    @property
    def bits_per_byte(self) -> float:
        """The figure of merit; lower is better."""
        return self.bits / self.num_bytes

    @property
    def nats_per_token(self) -> float:
        """The training loss's unit; it compares between models of one vocabulary only."""
        return self.bits * math.log(2) / self.num_tokens


@torch.no_grad()
def evaluate(
    model: LanguageModel,
    held_out: HeldOut,
    dtype: torch.dtype,
    *,
    micro_tokens: int | None = None,
    progress: bool = False,
) -> Score:
    """Score `held_out` with matrix products in `dtype`; the model is left in the mode it was found in.

    micro_tokens: positions that go through the model at one time; by default as many as suit the device.

    Each process of a group (model/parallel.py) scores its share of the batches, and all get the whole score.
    """
    keep_freed_memory()
    device = model.device
    was_training = model.training
    model.eval()
    nats, num_tokens = 0.0, 0
    hidden_bar = None if progress else True  # None: shown on a terminal
    with progress_bar(total=held_out.num_tokens, description="scoring", unit="tok", disable=hidden_bar) as bar:
        for batch in islice(held_out.batches(), rank(), None, world_size()):
            for part in micro_batches(batch, device, micro_tokens):
                with matrix_products_in(dtype, device):
                    nats += summed_loss(model, part)
                scored = int(part.scored.sum())
                num_tokens += scored
                bar.update(scored)
    model.train(was_training)
    return Score(sum_of(nats) / math.log(2), held_out.num_bytes, int(sum_of(num_tokens)))


def summed_loss(model: LanguageModel, batch: TensorBatch) -> float:
    """The total cross-entropy of the batch's scored tokens, in nats."""
    hidden = model.hidden(batch.inputs, positions=batch.positions, segments=batch.segments)[batch.scored]
    return sum(loss.item() for loss in chunked_losses(model, hidden, batch.targets[batch.scored]))


if __name__ == "__main__":
    from model.scoring import main

    sys.exit(main())

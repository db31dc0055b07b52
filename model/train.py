"""The training loop, one for both stages.

In: a run (model, optimizer, position), batches, settings.  Out: the same run, further on. Printing, saving and plotting
are the report's; which data and which tokens count is the batches'. A stage is these few lines with other numbers.
"""

import contextlib
import logging
import math
import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bpe.freed_memory import keep_freed_memory
from data.batches import Batch, HeldOut
from model.averaging import Average
from model.build import LanguageModel
from model.compiling import as_written, compile_blocks, compiled_head_loss
from model.errors import ModelError
from model.evaluate import evaluate
from model.hardware import is_want_of_memory, matrix_products_in
from model.optimizer import Optimizer, learning_rate_multiplier
from model.parallel import any_of, of_first, rank, share_of, sum_gradients, sum_of
from model.settings import Limit, TrainConfig
from model.tensors import MICRO_BATCH_TOKENS, HeadLoss, TensorBatch, chunked_losses, head_loss, micro_batches

_log = logging.getLogger("model")


@dataclass(frozen=True, slots=True)
class Scores:
    """Held-out bits per byte of the two sets of weights that a training has."""

    latest: float
    averaged: float | None  # before the first step there is nothing to average

    @property
    def best(self) -> float:
        """Of the better set, which is the one to keep."""
        return self.latest if self.averaged is None else min(self.latest, self.averaged)


@dataclass
class Best:
    """The weights that did best on held-out text so far."""

    step: int
    bits_per_byte: float
    weights: dict[str, Tensor]  # on the CPU


@dataclass
class Run:
    """Everything a training is made of while it runs; model/checkpoint.py says what of it is saved."""

    model: LanguageModel
    optimizer: Optimizer
    dtype: torch.dtype  # of matrix products
    device: torch.device
    step: int = 0  # optimizer steps taken
    best: Best | None = None
    evaluated: int = -1  # step of the last held-out evaluation
    plateau: int | None = None  # step at which improvement was seen to have ended
    stale: int = 0  # evaluations since the best one
    earlier_seconds: float = 0.0  # spent on this stage before this process took it over
    scaler: torch.amp.GradScaler = field(init=False)  # keeps float16's small gradients above zero, else idle
    average: Average = field(init=False)  # of the weights, over the last part of the training
    micro_tokens: int = field(init=False)  # positions that go through the model at one time; fewer where room is short
    compiled: bool = field(init=False, default=False)  # whether steps are taken in compiled code
    head_loss: HeadLoss = field(init=False)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.scaler.scale(torch.zeros((), device=self.device))  # it begins when used, by a process without rows never
        self.average = Average(self.model)
        self.micro_tokens = MICRO_BATCH_TOKENS[self.device.type]
        self.head_loss = head_loss

    def compile(self) -> None:
        """Take all further steps in compiled code (model/compiling.py). Evaluations and samples run as written."""
        compile_blocks(self.model)
        self.head_loss = compiled_head_loss()
        self.compiled = True

    @property
    def seconds(self) -> float:
        """Wall-clock seconds spent on this stage so far, in earlier processes too."""
        return self.earlier_seconds + time.monotonic() - self.started

    def progress(self, limit: Limit, config: TrainConfig) -> float:
        """How much of this stage is done, from 0 to 1."""
        return limit.progress(
            step=self.step, seconds=self.seconds, plateau=self.plateau, decay_share=config.decay_share
        )


class Diverged(ModelError):
    """The loss, its gradient or the held-out score of a run is no number, by what is seen as `sign`."""

    def __init__(self, run: Run, sign: str) -> None:
        if run.best is None:
            again = "no weights are worth keeping; run again with a lower --lr and --restart"
        else:
            again = f"the weights of step {run.best.step} are kept, until a lower --lr with --restart begins anew"
        super().__init__(f"step {run.step} diverged: {sign}; {again}")


class Report(Protocol):
    """Who watches a training: prints, saves, plots, and passes on the wish to stop."""

    def wants_stop(self) -> bool:
        """Whether the person has asked to stop; looked at before every step."""

    def stepped(self, run: Run, loss: float, grad_norm: float, multiplier: float) -> None:
        """A step was taken. loss: nats per scored token, mean over the step."""

    def evaluated(self, run: Run, scores: Scores) -> None:
        """Held-out text was scored; `run.best` is up to date, and the model has its better weights, for this call."""

    def checkpoint(self, run: Run) -> None:
        """The run is at a step to which a stopped training may return."""


class Batches(Protocol):
    """What a training reads: the batch of every step."""

    def of_step(self, step: int) -> Batch:
        """That of optimizer step `step`, counted from 0."""


def train(run: Run, batches: Batches, held_out: HeldOut, config: TrainConfig, limit: Limit, report: Report) -> bool:
    """Advance `run` to its limit, or until the report of any process wants to stop; return whether it got there.

    Raises Diverged when the loss, its gradient or a held-out score is no longer a number.
    """
    keep_freed_memory()
    first, began = (0, 0.0) if limit.seconds is None else (run.step, of_first(run.progress(limit, config)))
    while (progress := of_first(run.progress(limit, config))) < 1.0 and not any_of(report.wants_stop()):
        if run.step % config.eval_every == 0 and run.evaluated < run.step and run.step >= config.exercises:
            left = steps_left(run.step - first, progress - began, progress) if limit.is_given else math.inf
            if left >= min(config.eval_every / 2, run.step / 10):  # the end has an evaluation of its own
                judge(run, held_out, config, report)
        if run.step % config.save_every == 0:
            report.checkpoint(run)
        multiplier = learning_rate_multiplier(run.step, progress, config)
        seed_dropout(config.seed, run.step)
        loss = gradient_of_all(run, batches.of_step(run.step))
        grad_norm = take_step(run, config, multiplier, loss)
        run.step += 1
        run.average.include(run.model, run.step)
        report.stepped(run, loss, grad_norm, multiplier)
    if progress >= 1.0 and run.evaluated < run.step:
        judge(run, held_out, config, report)
    report.checkpoint(run)
    return progress >= 1.0


def steps_left(taken: int, done: float, progress: float) -> float:
    """Steps that are left at `progress`, at the pace of the `taken` ones that brought `done` of it.

    Infinite before the first of them.
    """
    return round(taken * (1.0 - progress) / done) if taken and done > 0.0 else math.inf


def seed_dropout(seed: int, step: int) -> None:
    """Make what is dropped a pure function of (seed, step), as the batch is, so that going on needs no random state.

    Every process drops something else: their rows would share what is dropped, otherwise.
    """
    torch.manual_seed(int(np.random.default_rng((seed, step, rank())).integers(2**63)))


def gradient_of_all(run: Run, step: Batch) -> float:
    """The gradient of the step's mean loss, from the shares of all processes; return that loss in nats per token."""
    loss = accumulate_gradients(run, share_of(step), int(step.scored.sum()))
    sum_gradients(run.model)
    return sum_of(loss)


def accumulate_gradients(run: Run, rows: Batch, scored: int) -> float:
    """Add up the gradient of (summed loss of the rows / scored) over their micro-batches; return that loss.

    scored: tokens of the whole step that count. The mean is over them: micro-batches hold different numbers of them
    once only stories are scored, and a mean of means would weigh the tokens of short stories more.
    Where the device has no room for a micro-batch, half of it is tried, and what was added up so far is dropped.
    Raises what the device raises when a single row is too much.
    """
    while True:
        try:
            run.model.train()
            total = 0.0
            for batch in micro_batches(rows, run.device, run.micro_tokens):
                with matrix_products_in(run.dtype, run.device):
                    total += backward(run, batch, scored)
            return total / scored
        except (MemoryError, RuntimeError) as error:
            if run.micro_tokens <= run.model.config.context or not is_want_of_memory(error):
                raise
        run.optimizer.forget_gradients()  # outside of the handler, where the error would still hold the tensors
        run.micro_tokens = min(run.micro_tokens, rows.inputs.size) // 2
        _log.warning("%s has no room: micro-batches of %d tokens from here on", run.device, run.micro_tokens)


def backward(run: Run, batch: TensorBatch, scored: int) -> float:
    """Add the gradient of (summed loss / scored) to the model's; return the summed loss in nats.

    The head's logits, vocabulary-wide for every position, would be the largest thing in memory. So the gradient runs
    backward through the head a chunk at a time, gathers at the hidden states, and goes on from there once.
    """
    hidden = run.model.hidden(batch.inputs, positions=batch.positions, segments=batch.segments).flatten(0, 1)
    places = batch.scored.flatten().nonzero()[:, 0]
    hidden = hidden.index_select(0, places)  # whose way back takes a tenth of the time of hidden[batch.scored]
    leaf = hidden.detach().requires_grad_()
    total = torch.zeros((), device=leaf.device)
    for loss in chunked_losses(run.model, leaf, batch.targets.flatten()[places], run.head_loss):
        run.scaler.scale(loss / scored).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    hidden.backward(leaf.grad)  # type: ignore[no-untyped-call]
    return total.item()


def take_step(run: Run, config: TrainConfig, multiplier: float, loss: float) -> float:
    """Clip the gradient, check it, move the weights; return the gradient's norm before clipping.

    A gradient that overflowed float16 moves nothing, not even the weights whose own part of it is finite; the scale is
    lowered for the next step. Raises Diverged when the loss is no number, or the gradient is none in another format.
    """
    for part in run.optimizer.parts:
        run.scaler.unscale_(part)
    grad_norm = float(nn.utils.clip_grad_norm_(run.model.parameters(), config.clip))
    overflowed = run.scaler.is_enabled() and not math.isfinite(grad_norm)
    if not (math.isfinite(loss) and (math.isfinite(grad_norm) or overflowed)):
        raise Diverged(run, f"loss {loss:.3f}, gradient norm {grad_norm:.3g}")
    if not overflowed:
        run.optimizer.step(multiplier, run.scaler)
    run.optimizer.forget_gradients()
    run.scaler.update()
    return grad_norm


def judge(run: Run, held_out: HeldOut, config: TrainConfig, report: Report) -> None:
    """Score the held-out text with the latest and the averaged weights; keep the better ones if they are the best.

    The score before the first step is for comparison alone: weights that have not met their text are no result, even
    where, finetuned on the very words it was pretrained on, a model would never score better again.
    Raises Diverged when a score is not a number.
    """
    with as_written() if run.compiled else contextlib.nullcontext():
        scores = Scores(score(run, held_out), averaged=None)
        if run.step > 0:
            with run.average.in_place_of_latest(run.model):
                scores = Scores(scores.latest, score(run, held_out))
        run.evaluated = run.step
        better = scores.averaged is not None and scores.averaged < scores.latest
        with run.average.in_place_of_latest(run.model) if better else contextlib.nullcontext():
            keep_the_best(run, scores.best, config)
            report.evaluated(run, scores)


def score(run: Run, held_out: HeldOut) -> float:
    """Bits per byte of the model as it is. Raises Diverged when that is not a number."""
    bits_per_byte = evaluate(run.model, held_out, run.dtype, micro_tokens=run.micro_tokens).bits_per_byte
    if not math.isfinite(bits_per_byte):
        raise Diverged(run, f"held-out text takes {bits_per_byte} bits per byte")
    return bits_per_byte


def keep_the_best(run: Run, bits_per_byte: float, config: TrainConfig) -> None:
    """Keep the model's weights, which have that score, if they are the best; note when improvement has ended."""
    if run.step > 0 and (run.best is None or bits_per_byte < run.best.bits_per_byte):
        weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in run.model.state_dict().items()}
        run.best = Best(run.step, bits_per_byte, weights)
        run.stale = 0
    elif run.best is not None:
        run.stale += 1
        if run.plateau is None and run.stale >= config.patience:
            run.plateau = run.step

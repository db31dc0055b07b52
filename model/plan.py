"""What to train, for how long, and why: said before it begins.

In: a request, a device.  Out: a Plan. With --minutes the machine is measured for some seconds, and the preset is chosen
that is expected to predict best after that time. What depends on the text is settled when its size is known. All times
are in seconds. Read `make_plan` first, then `Plan.for_text`.
"""

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import torch

from model.choosing import choose_preset
from model.compiling import pays_to_compile
from model.config import PRESETS, ModelConfig
from model.copying import EXERCISES, is_exercised
from model.expectation import expected_bits_per_byte
from model.hardware import dtype_name, pick_dtype
from model.minutes import (
    LEAST_INTERVAL,
    MEASURING_SHARE,
    MOST_EPOCHS,
    closing_seconds,
    evaluation_interval,
    save_interval,
    scored_tokens,
    training_seconds,
)
from model.request import DEFAULT_PRESET, Request, Settings, asked_shape, train_config
from model.settings import PLATEAU_DECAY, STAGES, Limit, Stage, TrainConfig
from model.speed import tokens_per_second

# without a limit, on a machine without a GPU
DEFAULT_SECONDS: dict[Stage, float] = {"pretrain": 1200.0, "finetune": 600.0}
BYTES_PER_TOKEN = 3.7  # of English prose, with the vocabulary of the smaller presets
GPU_BATCH_TOKENS = 65_536
STEPS_PER_EPOCH = 16  # at least, where a step is so large
# times through a text in which weight decay takes what a matrix of a block was down to 1 / e (the embedding, which has
# another learning rate, takes longer): what the text says once fades before it is read again, what it says often stays
# (Wang and Aitchison 2024, arXiv:2405.13698; tried in LOG.md)
FORGETTING_EPOCHS = 0.6
FORGETTING_EPOCHS_OF_COPIERS = 1.0  # heads that copy must not be forgotten where a stretch of text has no use for them
LEAST_FORGETTING_STEPS = 10  # optimizer steps, where fewer go through a text
REPEATED = 8  # times through the pairs from which on finetuning has dropout; decay would undo the pretraining
REPEATED_DROPOUT = 0.2
JUDGED_EPOCHS = 2  # times through a text after which held-out text is scored at the latest: what helps may soon harm


@dataclass(frozen=True)
class Plan:
    """A stage's settings and what ends it."""

    settings: Settings
    limit: Limit  # as asked, or as the stage's default
    _: KW_ONLY
    closing_seconds: float = 0.0  # of a timed training, kept free for the last evaluation and the last save
    tokens_per_second: float = 0.0  # measured, unless steps or tokens end the training
    preparing_seconds: float = 0.0  # of a timed training, gone before its first step
    compiled: bool = False  # whether steps are taken in compiled code (model/compiling.py)
    most_steps: int | None = None  # of a timed training on a small text, which ends before its time
    notes: tuple[str, ...] = field(default=())  # what was measured and chosen, for people

    @property
    def training_limit(self) -> Limit:
        """What the loop itself has: the limit less the closing, and no more steps than a small text is worth."""
        if self.limit.seconds is None:
            return self.limit
        seconds = max(1.0, self.limit.seconds - self.closing_seconds)
        return Limit(steps=self.most_steps, seconds=seconds, after=self.preparing_seconds)

    def with_vocabulary(self, vocab_size: int) -> "Plan":
        """This plan for a tokenizer of that many tokens."""
        settings = replace(self.settings, shape=replace(self.settings.shape, vocab_size=vocab_size))
        return replace(self, settings=settings)

    def for_text(
        self, stage: Stage, request: Request, tokens_per_epoch: int, held_out_tokens: int, preparing_seconds: float
    ) -> "Plan":
        """This plan for a text of that many tokens, and so many held out, when it is known how long preparing took.

        A step takes in a small part of the text, and held-out text is scored before the text has been read often,
        unless the request says otherwise. What is read again and again must not be learned by heart: the smaller a
        text, the faster weights decay; finetuning, which keeps what it began with, has dropout. And where the clock
        would let a text be read more than MOST_EPOCHS times, that is the end. A longer pretraining begins with
        exercises (data/copying.py).
        """
        config = self.settings.config
        if request.batch_tokens is None:
            least = max(self.settings.shape.context, STAGES["pretrain"].batch_tokens)
            batch_tokens = min(config.batch_tokens, max(least, tokens_per_epoch // STEPS_PER_EPOCH))
            config = replace(config, batch_tokens=batch_tokens)
        settings = replace(self.settings, config=config)
        limit = request.limit(settings.tokens_per_step) or self.limit
        plan = replace(self, settings=settings, limit=limit, preparing_seconds=preparing_seconds)
        if plan.limit.seconds is not None and plan.tokens > MOST_EPOCHS * tokens_per_epoch:
            note = f"the text is small: {MOST_EPOCHS} times through it is enough"
            steps = math.ceil(MOST_EPOCHS * tokens_per_epoch / plan.settings.tokens_per_step)
            plan = replace(plan, most_steps=steps, notes=(*plan.notes, note))
        if stage == "pretrain":
            if is_exercised(settings.shape, plan.tokens, settings.tokens_per_step):
                config = replace(config, exercises=EXERCISES)
            config = replace(config, weight_decay=weight_decay(config, tokens_per_epoch / settings.tokens_per_step))
        elif plan.tokens > REPEATED * tokens_per_epoch:
            config = replace(config, dropout=REPEATED_DROPOUT)
        if request.eval_every is None:
            scored = min(config.eval_tokens, held_out_tokens)
            interval = evaluation_interval(config, settings.shape, scored, self.limit, self.tokens_per_second)
            soon = math.ceil(JUDGED_EPOCHS * tokens_per_epoch / config.batch_tokens)
            config = replace(config, eval_every=min(interval, max(LEAST_INTERVAL, soon)))
        return replace(plan, settings=replace(settings, config=config))

    @property
    def tokens(self) -> float:
        """How many tokens will be read, about, the same ones again counted again; 0 where no limit tells."""
        limit = self.training_limit
        if limit.steps is not None:
            return limit.steps * self.settings.tokens_per_step
        return training_seconds(limit.seconds or 0.0, self.preparing_seconds) * self.tokens_per_second

    def to_record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "settings": self.settings.to_record(),
            "limit": self.limit.to_record(),
            "preparing_seconds": self.preparing_seconds,
            "closing_seconds": self.closing_seconds,
            "most_steps": self.most_steps,
            "compiled": self.compiled,
        }

    def lines(self, num_parameters: int, tokens_per_epoch: int, device: torch.device) -> list[str]:
        """The plan in words."""
        shape, config = self.settings.shape, self.settings.config
        until_step = self.training_limit.steps
        if until_step is not None:
            of_text = max(0, until_step - config.exercises)
            epochs = of_text * self.settings.tokens_per_step / tokens_per_epoch
            until = f"for {until_step:,} steps ({epochs:.1f} times through the data)"
            until += f", {self.limit.seconds / 60:.3g} minutes at most" if self.limit.seconds is not None else ""
        elif self.limit.seconds is not None:
            until = f"for {self.limit.seconds / 60:.3g} minutes"
            until += f", about {self.tokens:,.0f} tokens" if self.tokens else ""  # a resumed stage is not measured
        else:
            until = f"until {config.patience} evaluations bring no improvement, then {PLATEAU_DECAY:.0%} longer"
        exercises = [f"the first {config.exercises} steps are exercises in copying, before the text"]
        return [
            *self.notes,
            f"model {self.settings.preset}: {shape.layers} layers x {shape.width}, vocabulary {shape.vocab_size:,}, "
            f"context {shape.context:,}, {num_parameters:,} parameters, {self.settings.dtype} on {device}",
            f"training {until}, {self.settings.tokens_per_step:,} tokens a step, "
            f"{tokens_per_epoch:,} once through the data",
            *(exercises if config.exercises else []),
        ]

    def expectation(self, num_parameters: int, tokens_per_epoch: int) -> list[str]:
        """What a new model will come to, in words; none where only held-out text will end its training.

        What was fitted is our design (model/expectation.py), and tells nothing of the classic one.
        """
        if not self.tokens or self.settings.shape.kind == "classic":
            return []
        exercised = self.settings.config.exercises > 0
        expected = expected_bits_per_byte(num_parameters, self.tokens, tokens_per_epoch, exercised=exercised)
        return [f"expected of held-out text, if it is English prose: about {expected:.2f} bits per byte"]


def make_plan(
    stage: Stage,
    request: Request,
    device: torch.device,
    pretrained: tuple[str, ModelConfig] | None = None,
    text_bytes: float = math.inf,
) -> Plan:
    """The plan for a stage that begins.

    pretrained: the model to finetune, its preset's name and its shape. text_bytes: of the text, about.
    Raises ConfigError for sizes that do not go together, and what the device raises where the smallest model does not
    fit.
    """
    dtype = pick_dtype(request.dtype, device)
    derived: dict[str, Any] = {} if device.type == "cpu" else {"batch_tokens": GPU_BATCH_TOKENS}
    config = train_config(stage, request, **derived)
    limit = request.limit(config.batch_tokens)
    if limit is None:
        limit = Limit(seconds=DEFAULT_SECONDS[stage]) if device.type == "cpu" else Limit()
    notes: list[str] = []
    if pretrained is not None:
        name, shape = pretrained
    else:
        name = request.preset or DEFAULT_PRESET
        if request.preset is None and limit.seconds is not None:
            to_compile = pays_to_compile(PRESETS[name], limit, config.batch_tokens, device)
            tokens_per_epoch = text_bytes / BYTES_PER_TOKEN
            choice = choose_preset(request, limit.seconds, config, device, dtype, tokens_per_epoch, compiled=to_compile)
            name = choice.name
            expected = ", ".join(f"{preset} {bits:.2f}" for preset, bits in choice.expected.items())
            notes.append(
                f"in {limit.seconds / 60:.3g} minutes this machine trains {name} best: {expected} bits per byte "
                "are expected (--preset NAME insists on another)"
            )
        shape = asked_shape(name, request)
    if config.batch_tokens < shape.context and request.batch_tokens is None:
        derived["batch_tokens"] = shape.context
        config = train_config(stage, request, **derived)
    compiled = pays_to_compile(shape, limit, config.batch_tokens, device)
    closing = speed = 0.0
    if limit.steps is None:
        seconds = math.inf if limit.seconds is None else limit.seconds
        most = MEASURING_SHARE * seconds
        speed = tokens_per_second(shape, config, device, dtype, compiled, most, packed=stage == "finetune")
        derived["eval_tokens"] = scored_tokens(config, shape, seconds, speed)
        derived["save_every"] = save_interval(config, shape, speed)
        config = train_config(stage, request, **derived)
        closing = 0.0 if limit.seconds is None else closing_seconds(config, shape, speed)
        notes.append(f"measured {speed:,.0f} tokens/s")
    settings = Settings(shape=shape, config=config, dtype=dtype_name(dtype), preset=name)
    if limit.steps is not None:
        limit = request.limit(settings.tokens_per_step) or limit  # --tokens: now it is known how many a step takes
    return Plan(
        settings, limit, closing_seconds=closing, tokens_per_second=speed, compiled=compiled, notes=tuple(notes)
    )


def weight_decay(config: TrainConfig, steps_per_epoch: float) -> float:
    """What takes weights down to 1 / e, at the peak learning rate, in FORGETTING_EPOCHS (_OF_COPIERS) times through a
    text.

    But not less than the config has, nor so much that it takes fewer than LEAST_FORGETTING_STEPS.
    """
    epochs = FORGETTING_EPOCHS_OF_COPIERS if config.exercises else FORGETTING_EPOCHS
    steps = max(LEAST_FORGETTING_STEPS, epochs * steps_per_epoch)
    return max(config.weight_decay, 1 / (config.learning_rate * steps))

"""How a model is trained: the numbers of both stages, and what ends a training.

In: a stage's name.  Out: frozen values, checked when made. The stages differ in these numbers, in their data, in the
weights they begin with, and in what model/plan.py derives from the text; the loop is the same.
"""

import math
from dataclasses import dataclass
from typing import Literal

from model.errors import ConfigError

Stage = Literal["pretrain", "finetune"]
MOST_SEED = 2**63 - 1  # torch's generators take seeds up to here without a sign
PLATEAU_DECAY = (
    0.25  # a training without a limit decays, when improvement has ended, for this share of the steps so far
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One stage's training; every field can be printed, saved and compared."""

    learning_rate: float  # Muon's peak; AdamW's is a fixed share of it (model/optimizer.py)
    batch_tokens: int  # positions in one optimizer step, rounded down to a whole number of rows
    warmup_steps: int  # optimizer steps of linear rise
    decay_share: float  # share of the training, at its end, in which the learning rate falls linearly to zero
    weight_decay: float = 0.1  # decoupled; a step takes (the matrix's own rate) * weight_decay off every matrix
    exercises: int = 0  # optimizer steps of exercises in copying, before the text (data/copying.py)
    dropout: float = 0.0  # on what each block adds to the residual stream; training only
    clip: float = 1.0  # largest gradient norm
    seed: int = 0
    save_every: int = 200  # optimizer steps between saves of resume.pt
    eval_every: int = 200  # optimizer steps between held-out evaluations
    eval_tokens: int = 100_000  # held-out tokens scored in each evaluation
    patience: int = 5  # evaluations without improvement that end a training without a limit

    def __post_init__(self) -> None:
        for name in ("learning_rate", "decay_share", "clip"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}; it must be a finite number above 0")
        for name in ("batch_tokens", "save_every", "eval_every", "eval_tokens", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("warmup_steps", "weight_decay", "exercises", "seed"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.seed > MOST_SEED:
            raise ConfigError(f"seed is {self.seed}; it must be at most {MOST_SEED}")
        if self.decay_share > 1:
            raise ConfigError(f"decay_share is {self.decay_share}; it must be at most 1, the whole training")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; it must be at least 0 and under 1")

    def rows(self, context: int) -> int:
        """Rows of `context` tokens in one step. Raises ConfigError when not even one fits."""
        if self.batch_tokens < context:
            raise ConfigError(
                f"batch_tokens {self.batch_tokens} is less than one row of {context} tokens; "
                f"pass --batch-tokens {context} or more"
            )
        return self.batch_tokens // context


STAGES: dict[Stage, TrainConfig] = {
    "pretrain": TrainConfig(learning_rate=0.012, batch_tokens=4096, warmup_steps=50, decay_share=0.6),
    "finetune": TrainConfig(learning_rate=0.006, batch_tokens=4096, warmup_steps=20, decay_share=0.9),
}


@dataclass(frozen=True, slots=True)
class Limit:
    """What ends a training: so many optimizer steps, so many seconds, what comes first; of neither, no improvement."""

    steps: int | None = None  # optimizer steps
    seconds: float | None = None  # wall-clock seconds from the stage's first start, its stops not counted
    after: float = 0.0  # of those, how many were over before the first step: they are no part of the training

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"{self.steps} steps train nothing; pass 1 or more")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ConfigError(f"{self.seconds / 60} minutes train nothing; pass a number above 0")

    @property
    def is_given(self) -> bool:
        """Whether there is one; else held-out text ends the training."""
        return self.steps is not None or self.seconds is not None

    def progress(self, *, step: int, seconds: float, plateau: int | None, decay_share: float) -> float:
        """How much of the training is done, from 0 to 1.

        step: optimizer steps taken. seconds: spent so far. plateau: the step at which improvement was seen to have
        ended, if it has; a training without a limit then decays for PLATEAU_DECAY of the steps it took until then.
        """
        if self.is_given:
            left = math.inf if self.seconds is None else self.seconds - self.after
            by_time = (seconds - self.after) / left if left > 0 else 1.0
            return min(1.0, max(0.0, step / (self.steps or math.inf), by_time))
        if plateau is None:
            return 0.0
        decayed = min(1.0, (step - plateau) / max(1.0, PLATEAU_DECAY * plateau))
        return 1.0 - decay_share * (1.0 - decayed)

    def last_step(self, plateau: int | None) -> int | None:
        """The step that ends the training at the latest, where that is known."""
        if self.is_given or plateau is None:
            return self.steps
        return plateau + max(1, math.ceil(PLATEAU_DECAY * plateau))

    def to_record(self) -> dict[str, float | None]:
        """What was asked for as JSON values; `Limit(**record)` undoes it."""
        return {"steps": self.steps, "seconds": self.seconds}

"""Where the minutes of a timed training go, besides into its steps.

In: settings, and how many tokens per second the machine trains on.  Out: how often to evaluate, on how much text, and
what to keep free for the end. All times are in seconds.
"""

import math

from model.config import ModelConfig
from model.settings import Limit, TrainConfig

MOST_EPOCHS = 12  # times through a text; the last of them bring little (LOG.md)
MEASURING_SHARE = 0.05  # of the time: a model whose first steps take longer than this is measured by those alone
LEAST_TRAINING = 0.1  # of the time, where preparing would leave less
BETWEEN_SAVES = 300.0  # at most, that a kill can cost
SAVING_SHARE = 0.02  # of the time, at most, where a kill then costs no more than that
EVALUATION_SHARE = 0.03  # of the time, at most (more of a small text's, which is scored after every JUDGED_EPOCHS)
ONE_EVALUATION_SHARE = 0.005  # of the time, at most; so there are as many as go into EVALUATION_SHARE, or more
LEAST_INTERVAL = 20  # steps between two evaluations
TINY = 1e-6  # a share that makes an interval longer than any training
# of a training step for as many tokens: a forward pass alone, windows that overlap by half, latest and averaged weights
SCORING_COST = 2 * 2 / 3
SAVING_SECONDS = 3.0  # the last save and the plot, but for what grows with the model:
SAVED_BYTES, SAVED_PER_SECOND = 24, 3e8  # of each weight, in resume.pt and the folder; bytes written and hashed
SHOWN_BYTES, SHOWN_PER_LAYER = 4, 0.04  # an evaluation keeps the folder alone, and writes a sample as the model stands


def training_seconds(seconds: float, preparing: float) -> float:
    """What of a timed training is left for its steps, about, when preparing and evaluation have had their part."""
    return (1 - EVALUATION_SHARE) * max(LEAST_TRAINING * seconds, seconds - preparing)


def scored_tokens(config: TrainConfig, shape: ModelConfig, seconds: float, speed: float) -> int:
    """Held-out tokens of one evaluation of a training of so many seconds, at so many tokens a second."""
    return int(max(shape.context, min(config.eval_tokens, ONE_EVALUATION_SHARE * seconds * speed / SCORING_COST)))


def showing_seconds(shape: ModelConfig) -> float:
    """What an evaluation takes besides scoring, about: the best weights are written, and a sample."""
    return SHOWN_BYTES * shape.num_parameters / SAVED_PER_SECOND + SHOWN_PER_LAYER * shape.layers


def evaluation_interval(config: TrainConfig, shape: ModelConfig, scored: int, limit: Limit, speed: float) -> int:
    """Steps between two evaluations of so many tokens, so that all of them have their share of the time.

    speed: tokens per second, where it was measured. A timed training is evaluated at its beginning and its end too.
    """
    cost = SCORING_COST * scored + speed * showing_seconds(shape)  # in tokens of training
    ends = 2 * cost / speed / limit.seconds if limit.seconds is not None and speed else 0.0
    return max(LEAST_INTERVAL, math.ceil(cost / config.batch_tokens / max(EVALUATION_SHARE - ends, TINY)))


def save_interval(config: TrainConfig, shape: ModelConfig, speed: float) -> int:
    """Steps between two saves: as many as usual, or more where those would take more than their share of the time.

    But as few as it takes for a kill to cost no more than BETWEEN_SAVES.
    """
    steps_per_second = speed / config.batch_tokens
    rare = SAVED_BYTES * shape.num_parameters / SAVED_PER_SECOND / SAVING_SHARE * steps_per_second
    return max(1, int(min(BETWEEN_SAVES * steps_per_second, max(config.save_every, rare))))


def closing_seconds(config: TrainConfig, shape: ModelConfig, speed: float) -> float:
    """What to keep free for the last evaluation and the last save."""
    saving = SAVING_SECONDS + SAVED_BYTES * shape.num_parameters / SAVED_PER_SECOND
    step = config.batch_tokens / speed  # may begin at the last moment; in the mean one does so half a step before
    return saving + config.eval_tokens * SCORING_COST / speed + step / 2

"""Which preset to train in the minutes there are: the one that is expected to predict best after them.

In: a request, seconds, a text's size.  Out: a preset's name and what else was in question, found by measuring this
machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from model.compiling import COMPILING_SECONDS, compiled_gain
from model.copying import is_exercised
from model.expectation import expected_bits_per_byte
from model.hardware import is_want_of_memory
from model.minutes import MEASURING_SHARE, MOST_EPOCHS, training_seconds
from model.request import Request, asked_shape
from model.settings import TrainConfig
from model.speed import tokens_per_second

CANDIDATES = ("nano", "tiny", "mini", "medium", "story", "large")  # from small to large
MOST_PARAMETERS_PER_TOKEN = 8  # of the text: with 6 the larger of two presets was better, with 66 worse
# before the first step, about: measuring, the tokenizer, the token files; starting and downloads are over by then
PREPARING_SECONDS = 12.0


@dataclass(frozen=True)
class Choice:
    """The preset to train, and the bits per byte of held-out text to expect of each that was measured, in order."""

    name: str
    expected: Mapping[str, float]


def choose_preset(
    request: Request,
    seconds: float,
    config: TrainConfig,
    device: torch.device,
    dtype: torch.dtype,
    tokens_per_epoch: float,
    *,
    compiled: bool,
) -> Choice:
    """The preset of which the lowest held-out loss is to be expected after that time, of a text of so many tokens.

    request: sizes that were asked for take the place of each preset's.
    Measured from the smallest up to the first that does worse, so that a slow machine spends its first seconds on small
    models only, and without compiling each: what compiling will take and bring is reckoned with. What is expected was
    fitted where a text has enough to say for such a model; beyond MOST_PARAMETERS_PER_TOKEN nothing is expected.
    Raises ConfigError for sizes that no model can have, and what the device raises where the smallest does not fit.
    """
    preparing = PREPARING_SECONDS + (COMPILING_SECONDS if compiled else 0.0)
    training = training_seconds(seconds, preparing)
    chosen = CANDIDATES[0]
    expected: dict[str, float] = {}
    for name in CANDIDATES:
        shape = asked_shape(name, request)
        if name != chosen and shape.num_parameters > MOST_PARAMETERS_PER_TOKEN * tokens_per_epoch:
            break
        try:
            speed = tokens_per_second(shape, config, device, dtype, False, MEASURING_SHARE * seconds)
        except (MemoryError, RuntimeError) as error:
            if name == chosen or not is_want_of_memory(error):
                raise
            break
        gain = compiled_gain(shape) if compiled else 1.0
        tokens = min(training * gain * speed, MOST_EPOCHS * tokens_per_epoch)
        exercised = is_exercised(shape, tokens, config.batch_tokens)
        expected[name] = expected_bits_per_byte(shape.num_parameters, tokens, tokens_per_epoch, exercised=exercised)
        if name != chosen and expected[name] >= expected[chosen]:
            break
        chosen = name
    return Choice(chosen, expected)

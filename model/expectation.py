"""What held-out loss a training will come to, told before it begins.

In: a model's size, how much it will read, and how much of that is new.  Out: bits per byte.

The loss falls with size and with reading, each by a power law, towards what no model could foresee (Hoffmann et al.
2022, arXiv:2203.15556, section 3.3, whose exponents stand here). Text that was read before teaches less each time
(Muennighoff et al. 2023, arXiv:2305.16264, whose number stands in the second fit). The other numbers are fitted to
trainings of ours (LOG.md), nine and five, of 1.4 to 9.8 million parameters for two to fifteen minutes on English
prose: for other text, and far from these sizes, they tell plans apart, not the loss itself.
"""

import math
from typing import NamedTuple

SIZE_EXPONENT, READING_EXPONENT = 0.34, 0.28


class Fit(NamedTuple):
    """Of trainings that are alike: the loss of any model, in bits per byte, and what size and reading take off."""

    unforeseen: float
    by_size: float  # with parameters in ones
    by_reading: float  # with tokens in ones
    repeats: float  # as many new readings are the most that all further ones are worth


TEXT_ALONE = Fit(unforeseen=1.094, by_size=18.44, by_reading=32.59, repeats=2.0)
AFTER_EXERCISES = Fit(unforeseen=1.153, by_size=24.14, by_reading=23.80, repeats=15.4)


def expected_bits_per_byte(
    parameters: int, tokens: float, tokens_per_epoch: float = math.inf, *, exercised: bool = False
) -> float:
    """Bits per byte of held-out text.

    parameters: weights that are trained. tokens: read in all, of a text that has tokens_per_epoch. exercised: whether
    the training begins with exercises in copying (data/copying.py). Infinite where nothing is read.
    """
    fit = AFTER_EXERCISES if exercised else TEXT_ALONE
    by_size: float = fit.by_size / parameters**SIZE_EXPONENT
    read = worth(tokens, tokens_per_epoch, fit.repeats)
    by_reading: float = fit.by_reading / read**READING_EXPONENT if read > 0 else math.inf
    return fit.unforeseen + by_size + by_reading


def worth(tokens: float, tokens_per_epoch: float, repeats: float) -> float:
    """How many new tokens would teach as much as these, of a text that has so many. repeats: as in a Fit."""
    if tokens <= tokens_per_epoch:
        return tokens
    times_again = tokens / tokens_per_epoch - 1
    return tokens_per_epoch * (1 - repeats * math.expm1(-times_again / repeats))

"""What held-out loss a training will come to, told before it begins.

In: a model's size, how much it will read, and how much of that is new.  Out: bits per byte.

The loss falls with size and with reading, each by a power law, towards what no model could foresee (Hoffmann et al.
2022, arXiv:2203.15556, section 3.3, whose exponents stand here). Text that was read before teaches less each time
(Muennighoff et al. 2023, arXiv:2305.16264). The other numbers are fitted to nine trainings of ours (LOG.md), of 1.4 to
4.7 million parameters for two to fifteen minutes on English prose, by this recipe: for other text, and far from these
sizes, they tell plans apart, not the loss itself.
"""

import math

SIZE_EXPONENT, READING_EXPONENT = 0.34, 0.28
UNFORESEEN, BY_SIZE, BY_READING = 1.094, 18.44, 32.59  # bits per byte, with parameters and tokens in ones
REPEATS = 2.0  # as many new readings are the most that all further ones are worth; 15 in models of billions
# bits per byte less, where a training begins with exercises in copying: the mean of four, of 0.02 after 1,300 steps to
# 0.07 after 3,800 (LOG.md); the nine had none
LOOKING_BACK = 0.040


def expected_bits_per_byte(
    parameters: int, tokens: float, tokens_per_epoch: float = math.inf, *, exercised: bool = False
) -> float:
    """Bits per byte of held-out text.

    parameters: weights that are trained. tokens: read in all, of a text that has tokens_per_epoch. exercised: whether
    the training begins with exercises in copying (data/copying.py). Infinite where nothing is read.
    """
    by_size: float = BY_SIZE / parameters**SIZE_EXPONENT
    read = worth(tokens, tokens_per_epoch)
    by_reading: float = BY_READING / read**READING_EXPONENT if read > 0 else math.inf
    return UNFORESEEN + by_size + by_reading - exercised * LOOKING_BACK


def worth(tokens: float, tokens_per_epoch: float) -> float:
    """How many new tokens would teach as much as these, of a text that has so many."""
    if tokens <= tokens_per_epoch:
        return tokens
    repeats = tokens / tokens_per_epoch - 1
    return tokens_per_epoch * (1 - REPEATS * math.expm1(-repeats / REPEATS))

"""Laws of what is expected of a training, whatever the fitted numbers are; and these are the least squares."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.expectation import (
    AFTER_EXERCISES,
    READING_EXPONENT,
    SIZE_EXPONENT,
    TEXT_ALONE,
    Fit,
    expected_bits_per_byte,
    worth,
)

parameters = st.integers(10**5, 10**9)
tokens = st.floats(1e5, 1e11)
repeats = st.floats(0.5, 20)

TOKENS_PER_EPOCH, TOKENS_PER_STEP = 2_549_948, 4_096
TRAININGS = (  # parameters, steps, bits per byte of all held-out text: those of LOG.md, 2026-11-26
    (1_377_920, 600, 1.7746),
    (1_377_920, 1_541, 1.6745),
    (2_558_144, 1_060, 1.6732),
    (2_524_672, 1_440, 1.6552),
    (3_262_592, 1_072, 1.6585),
    (4_000_512, 815, 1.6954),
    (4_720_768, 1_013, 1.6525),
    (4_524_160, 1_151, 1.650),
    (4_524_160, 3_788, 1.587),
)
EXERCISED = (  # the same, of trainings that began with exercises: medians of three seeds, then one seed each
    (1_377_920, 1_314, 1.663),
    (1_377_920, 2_437, 1.619),
    (4_000_512, 1_085, 1.613),
    (4_000_512, 3_845, 1.524),
    (9_768_832, 1_682, 1.5528),
)


@given(parameters=parameters, tokens=tokens, epoch=tokens, more=st.floats(1.01, 10), exercised=st.booleans())
def test_larger_models_and_more_reading_are_expected_to_predict_better(
    parameters: int, tokens: float, epoch: float, more: float, exercised: bool
) -> None:
    def expected(parameters: int, tokens: float, epoch: float) -> float:
        return expected_bits_per_byte(parameters, tokens, epoch, exercised=exercised)

    least = expected(parameters, tokens, epoch)
    assert least > (AFTER_EXERCISES if exercised else TEXT_ALONE).unforeseen
    assert expected(int(more * parameters), tokens, epoch) < least
    assert expected(parameters, tokens * more, epoch) <= least
    assert expected(parameters, tokens, epoch * more) <= least


@given(tokens=tokens, epoch=tokens, repeats=repeats)
def test_text_that_is_read_again_is_worth_less_than_new_text(tokens: float, epoch: float, repeats: float) -> None:
    if tokens <= epoch:
        assert worth(tokens, epoch, repeats) == tokens
    else:
        assert epoch < worth(tokens, epoch, repeats) <= min(tokens, epoch * (1 + repeats)) * (1 + 1e-9)


def test_the_second_reading_is_worth_less_than_the_first_and_more_than_the_third() -> None:
    assert worth(2e6, 1e6, 3.0) == pytest.approx(1e6 * (1 + 3 * (1 - math.exp(-1 / 3))))
    assert 1e6 > worth(2e6, 1e6, 3.0) - 1e6 > worth(3e6, 1e6, 3.0) - worth(2e6, 1e6, 3.0) > 0


@pytest.mark.parametrize(("fit", "trainings"), [(TEXT_ALONE, TRAININGS), (AFTER_EXERCISES, EXERCISED)])
def test_the_numbers_are_the_least_squares_of_the_trainings_on_record(
    fit: Fit, trainings: tuple[tuple[int, int, float], ...]
) -> None:
    features = [
        (1.0, size**-SIZE_EXPONENT, worth(steps * TOKENS_PER_STEP, TOKENS_PER_EPOCH, fit.repeats) ** -READING_EXPONENT)
        for size, steps, _ in trainings
    ]
    fitted = np.linalg.lstsq(np.array(features), np.array([bits for *_, bits in trainings]))[0]
    assert pytest.approx(fitted.tolist(), rel=1e-3) == fit[:3]
    for size, steps, bits in trainings:
        tokens, exercised = steps * TOKENS_PER_STEP, fit is AFTER_EXERCISES
        assert abs(expected_bits_per_byte(size, tokens, TOKENS_PER_EPOCH, exercised=exercised) - bits) < 0.01

"""Laws of what is expected of a training, whatever the fitted numbers are."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.expectation import REPEATS, UNFORESEEN, expected_bits_per_byte, worth

parameters = st.integers(10**5, 10**9)
tokens = st.floats(1e5, 1e11)


@given(parameters=parameters, tokens=tokens, epoch=tokens, more=st.floats(1.01, 10))
def test_larger_models_and_more_reading_are_expected_to_predict_better(
    parameters: int, tokens: float, epoch: float, more: float
) -> None:
    expected = expected_bits_per_byte(parameters, tokens, epoch)
    assert expected > UNFORESEEN
    assert expected_bits_per_byte(int(more * parameters), tokens, epoch) < expected
    assert expected_bits_per_byte(parameters, tokens * more, epoch) <= expected
    assert expected_bits_per_byte(parameters, tokens, epoch * more) <= expected


@given(tokens=tokens, epoch=tokens)
def test_text_that_is_read_again_is_worth_less_than_new_text(tokens: float, epoch: float) -> None:
    if tokens <= epoch:
        assert worth(tokens, epoch) == tokens
    else:
        assert epoch < worth(tokens, epoch) <= min(tokens, epoch * (1 + REPEATS)) * (1 + 1e-9)


def test_the_second_reading_is_worth_less_than_the_first_and_more_than_the_third() -> None:
    assert worth(2e6, 1e6) == pytest.approx(1e6 * (1 + REPEATS * (1 - math.exp(-1 / REPEATS))))
    assert 1e6 > worth(2e6, 1e6) - 1e6 > worth(3e6, 1e6) - worth(2e6, 1e6) > 0

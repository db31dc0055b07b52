"""Laws of choosing a preset: the one expected to predict best, and no more of them measured than needed."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import choosing, plan
from model.choosing import CANDIDATES, MOST_PARAMETERS_PER_TOKEN, PREPARING_SECONDS, choose_preset
from model.compiling import COMPILING_SECONDS, compiled_gain
from model.config import PRESETS, ModelConfig, preset
from model.copying import EXERCISED_FROM
from model.expectation import expected_bits_per_byte
from model.minutes import EVALUATION_SHARE, LEAST_TRAINING, MOST_EPOCHS
from model.request import Request
from model.settings import STAGES

CPU = torch.device("cpu")


def made_up_machine(patch: pytest.MonkeyPatch, rate: float, measured: list[ModelConfig] | None = None) -> None:
    """A machine that takes so much longer for a model as it has more parameters, rate: parameters x tokens per second.

    measured: gets every shape whose speed is asked for.
    """

    def speed(shape: ModelConfig, *_: object, packed: bool = False) -> float:
        if measured is not None:
            measured.append(shape)
        return rate / shape.num_parameters

    for module in (choosing, plan):
        patch.setattr(module, "tokens_per_second", speed)


@given(rate=st.floats(1e7, 1e14), seconds=st.floats(10, 1e5), text=st.floats(1e4, 1e10), compiled=st.booleans())
def test_the_preset_is_chosen_that_is_expected_to_predict_best(
    rate: float, seconds: float, text: float, compiled: bool
) -> None:
    measured: list[ModelConfig] = []
    with pytest.MonkeyPatch.context() as patch:
        made_up_machine(patch, rate, measured)
        choice = choose_preset(Request(), seconds, STAGES["pretrain"], CPU, torch.float32, text, compiled=compiled)

    def expected(name: str) -> float:
        parameters = PRESETS[name].num_parameters
        preparing = PREPARING_SECONDS + compiled * COMPILING_SECONDS
        training = (1 - EVALUATION_SHARE) * max(LEAST_TRAINING * seconds, seconds - preparing)
        tokens = training * (compiled_gain(PRESETS[name]) if compiled else 1) * rate / parameters
        tokens = min(tokens, MOST_EPOCHS * text)
        exercised = tokens / STAGES["pretrain"].batch_tokens >= EXERCISED_FROM
        return expected_bits_per_byte(parameters, tokens, text, exercised=exercised)

    place = CANDIDATES.index(choice.name)
    small = [
        name for name in CANDIDATES if PRESETS[name].num_parameters <= MOST_PARAMETERS_PER_TOKEN * text
    ] or CANDIDATES[:1]
    losses = [expected(name) for name in small]
    worse = [later >= earlier for earlier, later in pairwise(losses)]
    assert place == (worse.index(True) if any(worse) else len(worse))  # the first after which it gets no better
    assert set(measured) <= {PRESETS[name] for name in small}
    assert measured[:place] == [PRESETS[name] for name in CANDIDATES[:place]]
    assert len(measured) <= place + 2  # larger ones would only cost time
    assert [PRESETS[name] for name in choice.expected] == measured
    assert list(choice.expected.values()) == pytest.approx(losses[: len(measured)])


def test_candidates_stand_from_small_to_large() -> None:
    sizes = [PRESETS[name].num_parameters for name in CANDIDATES]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("shape", "measured"),
    [
        (preset("nano"), 1.57),
        (preset("micro"), 1.65),
        (preset("tiny"), 1.53),
        (preset("tiny", layers=2, width=384), 1.44),
        (preset("mini"), 1.25),
    ],
)
def test_compiling_brings_about_what_was_measured_and_never_harm(shape: ModelConfig, measured: float) -> None:
    assert compiled_gain(shape) == pytest.approx(measured, rel=0.05)
    assert compiled_gain(replace(shape, width=8192)) == 1


def test_a_preset_that_the_device_has_no_room_for_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = CANDIDATES[:2]

    def speed(shape: ModelConfig, *_: object) -> float:
        if shape not in [PRESETS[name] for name in fits]:
            raise MemoryError
        return 1e9  # so fast that the largest would be chosen

    monkeypatch.setattr(choosing, "tokens_per_second", speed)
    choice = choose_preset(Request(), 600, STAGES["pretrain"], CPU, torch.float32, math.inf, compiled=False)
    assert (choice.name, list(choice.expected)) == (fits[-1], list(fits))
    fits = ()
    with pytest.raises(MemoryError):
        choose_preset(Request(), 600, STAGES["pretrain"], CPU, torch.float32, math.inf, compiled=False)

"""Laws of the numbers of a training: what is impossible is refused by name, and what ends a training."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigError
from model.settings import PLATEAU_DECAY, STAGES, Limit

NOT_NUMBERS = [float("nan"), float("inf")]
IMPOSSIBLE: dict[str, list[float]] = {
    "learning_rate": [0, -1, *NOT_NUMBERS],
    "decay_share": [0, -1, 1.5, *NOT_NUMBERS],
    "clip": [0, -1, *NOT_NUMBERS],
    "batch_tokens": [0, -1],
    "save_every": [0, -1],
    "eval_every": [0, -1],
    "eval_tokens": [0, -1],
    "patience": [0, -1],
    "warmup_steps": [-1],
    "weight_decay": [-0.1, float("nan")],
    "seed": [-1, 2**63],
    "dropout": [-0.1, 1, float("nan")],
}
LIMITS = st.one_of(st.builds(Limit, steps=st.integers(1, 100)), st.builds(Limit, seconds=st.floats(1, 100)))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in IMPOSSIBLE.items() for value in values])
def test_an_impossible_value_is_refused_in_one_line_that_names_it(name: str, value: float) -> None:
    change: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"^{name} is {value}; it must be ") as error:
        replace(STAGES["pretrain"], **change)
    assert "\n" not in str(error.value)


def test_a_step_holds_whole_rows_and_at_least_one() -> None:
    config = replace(STAGES["pretrain"], batch_tokens=100)
    assert [config.rows(context) for context in (1, 30, 100)] == [100, 3, 1]
    with pytest.raises(
        ConfigError, match="batch_tokens 100 is less than one row of 101 tokens; pass --batch-tokens 101"
    ):
        config.rows(101)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"steps": 0}, "0 steps train nothing"),
        ({"seconds": 0.0}, "0.0 minutes train nothing"),
        ({"seconds": float("nan")}, "nan minutes"),
        ({"seconds": float("inf")}, "inf minutes"),
    ],
)
def test_a_limit_that_ends_nothing_is_refused(limit: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Limit(**limit)


@given(limit=LIMITS)
def test_progress_goes_from_zero_to_one(limit: Limit) -> None:
    def at(share: float) -> float:
        step, seconds = round(share * (limit.steps or 0)), share * (limit.seconds or 0)
        return limit.progress(step=step, seconds=seconds, plateau=None, decay_share=0.5)

    assert at(0) == 0
    assert at(1) == at(2) == 1
    assert at(0.25) <= at(0.5) <= at(0.75)


@given(plateau=st.integers(1, 10_000), decay_share=st.floats(0.1, 1))
def test_without_a_limit_the_end_begins_at_the_plateau(plateau: int, decay_share: float) -> None:
    def at(step: float) -> float:
        return Limit().progress(step=int(step), seconds=1e9, plateau=plateau, decay_share=decay_share)

    assert Limit().progress(step=plateau, seconds=1e9, plateau=None, decay_share=decay_share) == 0
    assert at(plateau) == pytest.approx(1 - decay_share)  # where the learning rate begins to fall
    assert at(plateau) <= at(plateau + PLATEAU_DECAY * plateau / 2) <= at(plateau + PLATEAU_DECAY * plateau + 1) == 1


@given(after=st.floats(0, 100), training=st.floats(0.1, 100), share=st.floats(0, 1))
def test_what_was_over_before_the_first_step_is_no_part_of_a_training(
    after: float, training: float, share: float
) -> None:
    def at(seconds: float) -> float:
        limit = Limit(seconds=after + training, after=after)
        return limit.progress(step=0, seconds=seconds, plateau=None, decay_share=0.5)

    assert at(after / 2) == at(after) == 0
    assert at(after + share * training) == pytest.approx(share, abs=1e-9)
    assert at(after + 1.001 * training) == 1


def test_a_training_whose_time_was_over_before_it_began_is_at_its_end() -> None:
    assert Limit(seconds=1, after=1).progress(step=0, seconds=1, plateau=None, decay_share=0.5) == 1


@given(limit=LIMITS)
def test_a_recorded_limit_is_the_limit(limit: Limit) -> None:
    assert Limit(**limit.to_record()) == limit  # type: ignore[arg-type]


@given(step=st.integers(0, 2_000), seconds=st.floats(0, 2_000))
def test_of_two_limits_the_one_that_comes_first_ends_a_training(step: int, seconds: float) -> None:
    def progress(limit: Limit) -> float:
        return limit.progress(step=step, seconds=seconds, plateau=None, decay_share=0.5)

    both = progress(Limit(steps=1_000, seconds=500.0))
    assert both == max(progress(Limit(steps=1_000)), progress(Limit(seconds=500.0)))


@given(limit=st.one_of(LIMITS, st.just(Limit())), plateau=st.one_of(st.none(), st.integers(0, 10_000)))
def test_the_last_step_is_the_one_that_ends_the_training(limit: Limit, plateau: int | None) -> None:
    last = limit.last_step(plateau)
    assert (last is None) == (limit.seconds is not None or (not limit.is_given and plateau is None))
    if last is not None:
        ends = [limit.progress(step=last + i, seconds=0.0, plateau=plateau, decay_share=0.5) >= 1 for i in (-1, 0)]
        assert ends == [False, True]

"""Laws of the plan: what is chosen follows from the measured speed, and what is left for evaluation from the time."""

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import compiling, plan
from model.choosing import CANDIDATES, Choice
from model.compiling import COMPILED_FROM, LEAST_RATE, pays_to_compile
from model.config import PRESETS, ModelConfig, preset
from model.copying import EXERCISED_FROM, EXERCISES
from model.errors import ConfigError
from model.expectation import expected_bits_per_byte
from model.minutes import (
    BETWEEN_SAVES,
    EVALUATION_SHARE,
    LEAST_INTERVAL,
    LEAST_TRAINING,
    MOST_EPOCHS,
    SAVED_BYTES,
    SAVED_PER_SECOND,
    SAVING_SECONDS,
    SAVING_SHARE,
    SCORING_COST,
    showing_seconds,
)
from model.plan import (
    FORGETTING_EPOCHS,
    FORGETTING_EPOCHS_OF_COPIERS,
    GPU_BATCH_TOKENS,
    JUDGED_EPOCHS,
    LEAST_FORGETTING_STEPS,
    REPEATED,
    STEPS_PER_EPOCH,
    Plan,
    make_plan,
)
from model.request import Request
from model.settings import STAGES, Limit, Stage, TrainConfig
from tests.model.test_choosing import made_up_machine

CPU = torch.device("cpu")
RATE = 1e10  # parameters x tokens per second of the machine that the tests make up


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "can_compile", lambda _: False)


def test_the_model_that_is_measured_is_of_the_sizes_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[ModelConfig] = []
    made_up_machine(monkeypatch, RATE, measured)
    request = Request(minutes=1, vocab_size=999, context=64)
    made = make_plan("pretrain", request, CPU)
    assert {(shape.vocab_size, shape.context) for shape in measured} == {(999, 64)}
    assert measured[-1] == made.settings.shape


@pytest.mark.parametrize("minutes", [1.5, 2.5])
def test_what_compiling_takes_and_brings_is_reckoned_with_where_the_training_is_long_enough_for_it(
    minutes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def choose(*_: object, compiled: bool) -> Choice:
        asked.append(compiled)
        return Choice("nano", {})

    monkeypatch.setattr(compiling, "can_compile", lambda _: True)
    monkeypatch.setattr(plan, "choose_preset", choose)
    timed(minutes, RATE)
    assert asked == [60 * minutes >= COMPILED_FROM]


def test_a_larger_preset_is_chosen_for_a_text_that_would_be_read_often(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_machine(monkeypatch, 3e11)
    request = Request(minutes=15, dtype="float32")
    much, little = (make_plan("pretrain", request, CPU, text_bytes=size) for size in (math.inf, 10**7))
    assert CANDIDATES.index(much.settings.preset) < CANDIDATES.index(little.settings.preset)


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_the_smallest_preset_is_chosen_for_a_text_that_says_little(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_machine(monkeypatch, 1e14)
    made = make_plan("pretrain", Request(minutes=60, dtype="float32"), CPU, text_bytes=size)
    assert made.settings.preset == CANDIDATES[0]


def timed(minutes: float, rate: float, **options: object) -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        made_up_machine(patch, rate)
        return make_plan("pretrain", Request(minutes=minutes, dtype="float32", **options), CPU)  # type: ignore[arg-type]


@given(minutes=st.floats(0.2, 1000), rate=st.floats(1e9, 1e13), name=st.sampled_from(CANDIDATES))
def test_evaluation_takes_its_share_of_a_timed_training_at_most(minutes: float, rate: float, name: str) -> None:
    made = timed(minutes, rate, preset=name).for_text("pretrain", Request(), 10**12, 10**12, 0)  # is read once at most
    settings, seconds = made.settings, 60 * minutes
    speed = rate / settings.shape.num_parameters
    one = settings.config.eval_tokens * SCORING_COST / speed + showing_seconds(settings.shape)
    steps = seconds * speed / settings.tokens_per_step
    at_steps = 1 + int(steps / settings.config.eval_every)  # at step 0, and then every so many
    last = steps % settings.config.eval_every > 0
    assert (at_steps + last) * one <= EVALUATION_SHARE * seconds or at_steps <= 2  # the ends alone may be too much


@given(minutes=st.floats(0.2, 1000), rate=st.floats(1e9, 1e13))
def test_a_timed_training_leaves_time_for_its_last_evaluation_and_save(minutes: float, rate: float) -> None:
    made = replace(timed(minutes, rate), preparing_seconds=0.5)
    assert made.limit == Limit(seconds=60 * minutes)
    assert made.training_limit == Limit(seconds=max(1.0, 60 * minutes - made.closing_seconds), after=0.5)
    evaluation = made.settings.config.eval_tokens * SCORING_COST * made.settings.shape.num_parameters / rate
    saving = SAVED_BYTES * made.settings.shape.num_parameters / SAVED_PER_SECOND
    step = made.settings.config.batch_tokens * made.settings.shape.num_parameters / rate
    assert made.closing_seconds == pytest.approx(SAVING_SECONDS + saving + evaluation + step / 2)


@given(minutes=st.floats(0.2, 1000), rate=st.floats(1e9, 1e13), name=st.sampled_from(CANDIDATES))
def test_a_kill_costs_a_timed_training_minutes_at_most(minutes: float, rate: float, name: str) -> None:
    settings = timed(minutes, rate, preset=name).settings
    a_step = settings.config.batch_tokens * settings.shape.num_parameters / rate
    assert settings.config.save_every * a_step <= max(BETWEEN_SAVES, a_step) * 1.001
    a_save = SAVED_BYTES * settings.shape.num_parameters / SAVED_PER_SECOND
    saves = settings.config.save_every
    if saves > STAGES["pretrain"].save_every:  # no more than its share of the time needs
        assert a_save / ((saves - 1) * a_step) >= SAVING_SHARE * 0.999
    elif saves < STAGES["pretrain"].save_every:
        assert (saves + 1) * a_step > BETWEEN_SAVES * 0.999
    else:
        assert a_save / ((saves + 1) * a_step) <= SAVING_SHARE * 1.001
    assert timed(minutes, rate, preset=name, save_every=7).settings.config.save_every == 7


@given(seconds=st.one_of(st.none(), st.floats(1, 1e4)), steps=st.integers(1, 10**6))
def test_a_long_training_is_compiled_where_the_machine_can(seconds: float | None, steps: int) -> None:
    shape, batch_tokens = PRESETS["nano"], 4096
    by_time, by_steps = Limit(seconds=seconds), Limit(steps=steps)
    assert not pays_to_compile(shape, by_time, batch_tokens, CPU)  # this one cannot
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "can_compile", lambda _: True)
        assert pays_to_compile(shape, by_time, batch_tokens, CPU) == (seconds is None or seconds >= COMPILED_FROM)
        operations = steps * batch_tokens * shape.operations_per_token
        assert pays_to_compile(shape, by_steps, batch_tokens, CPU) == (operations >= COMPILED_FROM * LEAST_RATE["cpu"])
        assert timed((seconds or COMPILED_FROM) / 60, RATE).compiled == ((seconds or COMPILED_FROM) >= COMPILED_FROM)


def test_what_was_asked_for_is_not_chosen() -> None:
    made = timed(10, RATE, preset="small", layers=3, eval_every=7, batch_tokens=1024, seed=5)
    assert made.settings.shape == preset("small", layers=3)
    config = made.settings.config
    assert (made.settings.preset, config.eval_every, config.batch_tokens, config.seed) == ("small", 7, 1024, 5)


@given(tokens=st.integers(1, 10**9), batch_tokens=st.integers(256, 10_000))
def test_training_on_tokens_takes_the_fewest_steps_that_hold_them(tokens: int, batch_tokens: int) -> None:
    made = make_plan("pretrain", Request(tokens=tokens, batch_tokens=batch_tokens, preset="nano"), CPU)
    steps, a_step = made.limit.steps, made.settings.tokens_per_step
    assert steps is not None
    assert a_step == batch_tokens // 256 * 256  # whole rows of the context
    assert (steps - 1) * a_step < tokens <= steps * a_step


def test_a_step_holds_at_least_one_row_unless_a_smaller_one_was_asked_for() -> None:
    assert make_plan("pretrain", Request(steps=1, preset="nano", context=9_000), CPU).settings.tokens_per_step == 9_000
    with pytest.raises(ConfigError, match="less than one row of 9000 tokens"):
        make_plan("pretrain", Request(steps=1, preset="nano", context=9_000, batch_tokens=8_192), CPU)


def test_finetuning_plans_for_the_pretrained_model() -> None:
    shape = preset("nano", layers=1, vocab_size=300)
    made = make_plan("finetune", Request(steps=1), CPU, pretrained=("nano", shape))
    assert (made.settings.preset, made.settings.shape) == ("nano", shape)


def test_without_a_limit_a_cpu_trains_for_a_time_and_a_gpu_until_nothing_improves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_up_machine(monkeypatch, RATE)
    assert make_plan("pretrain", Request(dtype="float32"), CPU).limit == Limit(seconds=1200)
    assert make_plan("finetune", Request(dtype="float32"), CPU).limit == Limit(seconds=600)
    gpu = make_plan("pretrain", Request(dtype="float32"), torch.device("cuda"))
    assert (gpu.limit, gpu.settings.preset) == (Limit(), "story")
    assert gpu.training_limit == Limit()
    assert gpu.notes == (f"measured {RATE / PRESETS['story'].num_parameters:,.0f} tokens/s",)
    assert gpu.tokens == 0  # who knows


def test_the_plan_in_words_says_the_true_numbers() -> None:
    made = make_plan("pretrain", Request(steps=10, preset="nano", batch_tokens=1_000, dtype="float32"), CPU)
    said = "\n".join(made.lines(made.settings.shape.num_parameters, 768, CPU))
    assert "for 10 steps (10.0 times through the data), 768 tokens a step, 768 once through the data" in said
    assert "model nano: 4 layers x 128, vocabulary 4,096, context 256, 1,377,920 parameters, float32 on cpu" in said
    config = replace(made.settings.config, exercises=4)
    exercised = replace(made, settings=replace(made.settings, config=config))
    assert "for 10 steps (6.0 times through the data)" in exercised.lines(1, 768, CPU)[1]
    endless = replace(made, limit=Limit())
    assert "until 5 evaluations bring no improvement, then 25% longer, 768 tokens" in endless.lines(1, 768, CPU)[1]
    minutes = timed(2.5, RATE)
    resumed = "\n".join(replace(minutes, tokens_per_second=0.0).lines(1, 1, CPU))  # nothing is measured then
    assert "for 2.5 minutes, 4,096 tokens a step" in resumed
    said = "\n".join(minutes.lines(1, 1, CPU))
    assert f"for 2.5 minutes, about {minutes.tokens:,.0f} tokens, 4,096 tokens a step" in said


def test_the_plan_says_what_to_expect_where_it_knows_how_much_will_be_read() -> None:
    steps = make_plan("pretrain", Request(steps=10, preset="nano", batch_tokens=1_000, dtype="float32"), CPU)
    (line,) = steps.expectation(1_377_920, 768)
    assert f"about {expected_bits_per_byte(1_377_920, 7_680, 768):.2f} bits per byte" in line
    config = replace(steps.settings.config, exercises=1)
    (line,) = replace(steps, settings=replace(steps.settings, config=config)).expectation(1_377_920, 768)
    assert f"about {expected_bits_per_byte(1_377_920, 7_680, 768, exercised=True):.2f} bits per byte" in line
    minutes = timed(2.5, RATE).for_text("pretrain", Request(), 10**9, 10**5, 30)
    (line,) = minutes.expectation(1_377_920, 10**9)
    tokens = (1 - EVALUATION_SHARE) * (150 - 30 - minutes.closing_seconds) * minutes.tokens_per_second
    assert f"about {expected_bits_per_byte(1_377_920, tokens):.2f} bits per byte" in line
    assert replace(minutes, limit=Limit()).expectation(1_377_920, 768) == []
    assert make_plan("pretrain", Request(steps=10, preset="classic"), CPU).expectation(1, 768) == []


def test_a_vocabulary_changes_nothing_else_of_a_plan() -> None:
    made = make_plan("pretrain", Request(steps=10, preset="nano"), CPU)
    changed = asdict(made.with_vocabulary(300))
    assert changed["settings"]["shape"].pop("vocab_size") == 300
    expected = asdict(made)
    del expected["settings"]["shape"]["vocab_size"]
    assert changed == expected


def plan_of(seconds: float, speed: float) -> Plan:
    return replace(make_steps_plan(), limit=Limit(seconds=seconds), tokens_per_second=speed)


def pretraining(
    request: Request, tokens_per_epoch: int, held_out: int = 10**5, device: torch.device = CPU
) -> TrainConfig:
    made = make_plan("pretrain", request, device)
    return made.for_text("pretrain", request, tokens_per_epoch, held_out, 0).settings.config


def make_steps_plan(steps: int = 100) -> Plan:
    return make_plan("pretrain", Request(preset="nano", steps=steps, device="cpu", dtype="float32"), CPU)


@given(
    seconds=st.floats(10, 1e4),
    preparing=st.floats(0, 20),
    speed=st.floats(1e2, 1e6),
    tokens_per_epoch=st.integers(5_000, 10**8),
)
def test_a_timed_training_goes_through_its_text_only_so_often(
    seconds: float, preparing: float, speed: float, tokens_per_epoch: int
) -> None:
    made = plan_of(seconds, speed).for_text("pretrain", Request(), tokens_per_epoch, 10**5, preparing)
    epochs = (1 - EVALUATION_SHARE) * max(LEAST_TRAINING * seconds, seconds - preparing) * speed / tokens_per_epoch
    if epochs > MOST_EPOCHS:
        steps = made.training_limit.steps or 0
        assert (steps - 1) * made.settings.tokens_per_step < MOST_EPOCHS * tokens_per_epoch
        assert steps * made.settings.tokens_per_step >= MOST_EPOCHS * tokens_per_epoch
    assert (made.training_limit.steps is not None) == (epochs > MOST_EPOCHS)
    assert made.training_limit.seconds is not None  # whatever the speed comes to, it ends in time
    assert made.limit == Limit(seconds=seconds)  # what was asked for stays on record


@given(steps=st.integers(1, 10_000), tokens_per_epoch=st.integers(5_000, 10**8))
def test_steps_that_were_asked_for_are_all_taken_with_dropout_where_pairs_repeat(
    steps: int, tokens_per_epoch: int
) -> None:
    request = Request(steps=steps)
    pretraining, finetuning = (
        make_steps_plan(steps).for_text(stage, request, tokens_per_epoch, 10**5, 20) for stage in get_args(Stage)
    )
    assert pretraining.training_limit == finetuning.training_limit == Limit(steps=steps)
    epochs = steps * finetuning.settings.tokens_per_step / tokens_per_epoch
    assert (finetuning.settings.config.dropout > 0) == (epochs > REPEATED)
    assert pretraining.settings.config.dropout == 0


@given(tokens_per_epoch=st.integers(1, 10**9), batch_tokens=st.integers(256, 10**6), steps=st.sampled_from([10, 10**6]))
def test_weights_forget_within_a_time_through_a_small_text(
    tokens_per_epoch: int, batch_tokens: int, steps: int
) -> None:
    request = Request(steps=steps, preset="nano", batch_tokens=batch_tokens, dtype="float32")
    config = pretraining(request, tokens_per_epoch)
    in_a_step = config.learning_rate * config.weight_decay  # taken off a weight
    epochs = FORGETTING_EPOCHS_OF_COPIERS if steps >= EXERCISED_FROM else FORGETTING_EPOCHS
    steps = max(LEAST_FORGETTING_STEPS, epochs * tokens_per_epoch / (config.rows(256) * 256))
    usual = STAGES["pretrain"].weight_decay
    assert config.weight_decay == usual or math.exp(-in_a_step * steps) == pytest.approx(1 / math.e)
    assert config.weight_decay == pytest.approx(max(usual, 1 / (config.learning_rate * steps)))
    finetuning = make_plan("finetune", request, CPU).for_text("finetune", request, tokens_per_epoch, 10**5, 0)
    assert finetuning.settings.config.weight_decay == STAGES["finetune"].weight_decay


@given(steps=st.integers(1, 10 * EXERCISED_FROM), tokens_per_epoch=st.integers(1, 10**9), layers=st.integers(1, 3))
def test_a_longer_pretraining_begins_with_exercises(steps: int, tokens_per_epoch: int, layers: int) -> None:
    request = Request(steps=steps, preset="nano", layers=layers, device="cpu", dtype="float32")
    made = make_plan("pretrain", request, CPU).for_text("pretrain", request, tokens_per_epoch, 10**5, 0)
    exercised = steps >= EXERCISED_FROM and layers > 1
    assert made.settings.config.exercises == (EXERCISES if exercised else 0)
    assert any("exercises in copying" in line for line in made.lines(1, tokens_per_epoch, CPU)) == exercised
    finetuning = make_plan("finetune", request, CPU).for_text("finetune", request, tokens_per_epoch, 10**5, 0)
    assert finetuning.settings.config.exercises == 0


def test_a_training_of_unknown_length_begins_with_exercises_and_one_that_a_small_text_ends_soon_does_not() -> None:
    long, request = plan_of(3600, 40_000), Request()
    assert long.for_text("pretrain", request, 10**7, 10**5, 0).settings.config.exercises == EXERCISES
    assert long.for_text("pretrain", request, 10**5, 10**5, 0).settings.config.exercises == 0  # twelve times through
    endless = replace(long, limit=Limit(), tokens_per_second=0.0)
    assert endless.for_text("pretrain", request, 10**5, 10**5, 0).settings.config.exercises == EXERCISES


@given(
    steps=st.one_of(st.none(), st.integers(1, 10_000)),
    tokens_per_epoch=st.integers(500, 10**8),
    held_out=st.integers(1, 10**6),
)
def test_held_out_text_is_scored_before_a_text_was_read_often_whatever_ends_the_training(
    steps: int | None, tokens_per_epoch: int, held_out: int
) -> None:
    request = Request(steps=steps, dtype="float32")
    for device in (CPU, torch.device("cuda")):
        if steps is None and device == CPU:
            continue
        with pytest.MonkeyPatch.context() as patch:
            made_up_machine(patch, RATE)
            config = pretraining(request, tokens_per_epoch, held_out, device)
        epochs = config.eval_every * config.batch_tokens / tokens_per_epoch
        assert epochs < JUDGED_EPOCHS + config.batch_tokens / tokens_per_epoch or config.eval_every == LEAST_INTERVAL
        shape = PRESETS["story"]
        cost = SCORING_COST * min(held_out, config.eval_tokens)
        if steps is None:
            cost += RATE / shape.num_parameters * showing_seconds(shape)
        most = cost / config.batch_tokens / EVALUATION_SHARE
        assert config.eval_every <= max(LEAST_INTERVAL, most + 1)  # a short held-out text costs little
    asked = Request(steps=steps or 5, eval_every=7)
    assert pretraining(asked, tokens_per_epoch, held_out).eval_every == 7


@given(tokens_per_epoch=st.integers(500, 10**8), tokens=st.integers(1, 10**9))
def test_a_step_takes_in_a_small_part_of_a_text_also_on_a_gpu(tokens_per_epoch: int, tokens: int) -> None:
    request, gpu = Request(tokens=tokens, dtype="float32"), torch.device("cuda")
    made = make_plan("pretrain", request, gpu).for_text("pretrain", request, tokens_per_epoch, 10**5, 0)
    batch_tokens, a_step = made.settings.config.batch_tokens, made.settings.tokens_per_step
    assert STAGES["pretrain"].batch_tokens <= batch_tokens <= GPU_BATCH_TOKENS
    assert STEPS_PER_EPOCH * batch_tokens <= tokens_per_epoch or batch_tokens == STAGES["pretrain"].batch_tokens
    assert 2 * STEPS_PER_EPOCH * batch_tokens > tokens_per_epoch or batch_tokens == GPU_BATCH_TOKENS
    assert ((made.limit.steps or 0) - 1) * a_step < tokens <= (made.limit.steps or 0) * a_step
    asked = Request(tokens=tokens, batch_tokens=9_000, dtype="float32")
    assert pretraining(asked, tokens_per_epoch, 9, gpu).batch_tokens == 9_000

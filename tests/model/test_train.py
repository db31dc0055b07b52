"""Laws of the training loop, on a model small enough to train in a blink."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from data.batches import Batch
from model.build import build
from model.checkpoint import load_checkpoint, save_checkpoint
from model.config import ModelConfig
from model.errors import ModelError
from model.optimizer import Optimizer, learning_rate_multiplier, parameter_groups
from model.settings import STAGES, Limit, TrainConfig
from model.train import Diverged, Run, Scores, gradient_of_all, judge, score, seed_dropout, take_step, train

CPU = torch.device("cpu")
SHAPE = ModelConfig(vocab_size=50, context=8, width=16, layers=2, heads=2, kv_heads=1, hidden=24, head_size=8)
CONFIG = TrainConfig(
    learning_rate=0.02, batch_tokens=32, warmup_steps=2, decay_share=0.5, save_every=3, eval_every=4, eval_tokens=64
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def new_run(config: TrainConfig = CONFIG, shape: ModelConfig = SHAPE) -> Run:
    torch.manual_seed(config.seed)
    model = build(shape, dropout=config.dropout)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # zero projections would hide half of the gradient
    return Run(model, Optimizer(model, config), torch.float32, CPU)


def random_step(seed: int, rows: int = 4, scored_share: float = 0.7) -> Batch:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, SHAPE.vocab_size, (rows, SHAPE.context + 1))
    scored = rng.random((rows, SHAPE.context)) < scored_share
    scored[0, 0] = True
    segments = np.sort(rng.integers(0, 2, (rows, SHAPE.context)), axis=1).astype(np.int32)
    positions = np.tile(np.arange(SHAPE.context), (rows, 1))
    return Batch(ids[:, :-1], ids[:, 1:], scored, positions, segments)


class Batches:
    """Batches of random tokens that a model can learn: a token follows another by a fixed rule."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def of_step(self, step: int) -> Batch:
        rng = np.random.default_rng((self.config.seed, step))
        first = rng.integers(0, SHAPE.vocab_size, (self.config.rows(SHAPE.context), 1))
        ids = (first + 7 * np.arange(SHAPE.context + 1)) % SHAPE.vocab_size
        positions = np.tile(np.arange(SHAPE.context), (len(ids), 1))
        return Batch(ids[:, :-1], ids[:, 1:], np.ones_like(positions, dtype=bool), positions, None)


class HeldOut:
    """Held-out batches of the same rule."""

    num_tokens = num_bytes = 64

    def batches(self) -> Iterator[Batch]:
        yield Batches(replace(CONFIG, seed=99)).of_step(0)
        yield Batches(replace(CONFIG, seed=99)).of_step(1)


class Watcher:
    """A report that remembers, saves where it is told to, and may ask for a stop."""

    def __init__(self, path: Path | None = None, stop_at: int | None = None) -> None:
        self.path, self.stop_at = path, stop_at
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.evaluations: list[tuple[int, Scores]] = []
        self.judged: list[dict[str, torch.Tensor]] = []  # the weights that the model had then

    def wants_stop(self) -> bool:
        return self.stop_at is not None and len(self.steps) >= self.stop_at

    def stepped(self, run: Run, loss: float, grad_norm: float, multiplier: float) -> None:
        self.steps.append(run.step)
        self.losses.append(loss)

    def evaluated(self, run: Run, scores: Scores) -> None:
        self.evaluations.append((run.step, scores))
        self.judged.append({name: tensor.clone() for name, tensor in run.model.state_dict().items()})

    def checkpoint(self, run: Run) -> None:
        if self.path is not None:
            save_checkpoint(self.path, run)


def advance(run: Run, steps: int, watcher: Watcher, config: TrainConfig = CONFIG) -> Watcher:
    train(run, Batches(config), HeldOut(), config, Limit(steps=steps), watcher)  # type: ignore[arg-type]
    return watcher


def gradients(run: Run) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in run.model.parameters() if parameter.grad is not None]


def assert_same_state(left: Run, right: Run) -> None:
    for (name, one), (_, other) in zip(left.model.state_dict().items(), right.model.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    for name, tensor in left.average.weights.items():
        assert torch.equal(tensor, right.average.weights[name]), name
    for one, other in zip(left.optimizer.state_dict(), right.optimizer.state_dict(), strict=True):
        assert one["param_groups"] == other["param_groups"]
        for parameter, state in one["state"].items():
            for name, value in state.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(other["state"][parameter][name])), name


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), rows_each=st.sampled_from([1, 2, 3]), share=st.sampled_from([0.1, 0.5, 1.0]))
def test_micro_batch_size_never_changes_the_gradient(seed: int, rows_each: int, share: float) -> None:
    step = random_step(seed, scored_share=share)
    whole, parts = new_run(), new_run()
    loss = gradient_of_all(whole, step)
    parts.micro_tokens = rows_each * SHAPE.context
    assert gradient_of_all(parts, step) == pytest.approx(loss, rel=1e-5)
    for one, other in zip(gradients(whole), gradients(parts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


@pytest.mark.parametrize("place", ["hidden", "logits", "backward"])
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "cublas", "python"])
@pytest.mark.parametrize("call", [1, 2])
def test_out_of_memory_halves_the_micro_batch_and_the_step_stays_the_same(
    monkeypatch: pytest.MonkeyPatch, place: str, error: Exception, call: int
) -> None:
    step = random_step(0, rows=8)
    free, short = new_run(), new_run()
    loss = gradient_of_all(free, step)
    short.micro_tokens = 4 * SHAPE.context  # two micro-batches: the second one finds a gradient that is there already
    calls = 0

    def once_no_room(work: Callable[..., Any]) -> Callable[..., Any]:
        def run_it(*given: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            done = work(*given, **options) if place == "backward" else None
            if calls == call:
                raise error
            return done if place == "backward" else work(*given, **options)

        return run_it

    if place == "backward":
        monkeypatch.setattr(torch.Tensor, "backward", once_no_room(torch.Tensor.backward))
    else:
        monkeypatch.setattr(short.model, place, once_no_room(getattr(short.model, place)))
    assert gradient_of_all(short, step) == pytest.approx(loss, rel=1e-5)
    assert calls > call
    assert short.micro_tokens == 2 * SHAPE.context
    for one, other in zip(gradients(free), gradients(short), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_row_that_does_not_fit_and_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (*OUT_OF_MEMORY, RuntimeError("shapes differ")):
        run = new_run()

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(run.model, "hidden", fail)
        before = run.micro_tokens
        with pytest.raises(type(error)) as raised:
            gradient_of_all(run, random_step(0))
        assert raised.value is error
        assert run.micro_tokens == (SHAPE.context if error in OUT_OF_MEMORY else before)


def test_a_micro_batch_that_was_halved_stays_so_after_a_stop(tmp_path: Path) -> None:
    run = new_run()
    run.micro_tokens = 2 * SHAPE.context
    save_checkpoint(tmp_path / "resume.pt", run)
    resumed = new_run()
    load_checkpoint(tmp_path / "resume.pt", resumed)
    assert resumed.micro_tokens == run.micro_tokens


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), chunk=st.integers(1, 40))
def test_the_loss_in_chunks_is_the_mean_cross_entropy_of_what_is_scored(seed: int, chunk: int) -> None:
    step = random_step(seed)
    fast, slow = new_run(), new_run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.tensors.LOSS_CHUNK", chunk)
        loss = gradient_of_all(fast, step)
    logits = slow.model(torch.from_numpy(step.inputs), segments=torch.from_numpy(step.segments))
    scored = torch.from_numpy(step.scored)
    definition = cross_entropy(logits[scored], torch.from_numpy(step.targets)[scored])
    definition.backward()
    assert loss == pytest.approx(definition.item(), rel=1e-5)
    for one, other in zip(gradients(fast), gradients(slow), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_training_learns_the_rule_and_keeps_the_best_weights() -> None:
    run = new_run()
    watcher = advance(run, 150, Watcher())
    assert watcher.losses[-1] < 0.5 * watcher.losses[0]
    assert run.best is not None
    scores = [(step, scores.best) for step, scores in watcher.evaluations]
    assert (run.best.step, run.best.bits_per_byte) == min(scores, key=lambda entry: entry[1])


def test_latest_and_averaged_weights_are_scored_and_the_better_ones_kept() -> None:
    run = new_run()
    config = replace(CONFIG, eval_every=1, learning_rate=0.05)
    watcher = advance(run, 20, Watcher(), config)
    first, *later = (scores for _, scores in watcher.evaluations)
    assert first.averaged is None
    assert {scores.best for scores in later} & {scores.averaged for scores in later}
    assert {scores.best for scores in later} & {scores.latest for scores in later}
    for scores, weights in zip(later, watcher.judged[1:], strict=True):
        judged = new_run()
        judged.model.load_state_dict(weights)
        assert score(judged, HeldOut()) == scores.best == min(scores.latest, scores.averaged)  # type: ignore
    assert run.best is not None
    best = watcher.judged[run.best.step]
    assert all(torch.equal(tensor, best[name]) for name, tensor in run.best.weights.items())


@pytest.mark.parametrize(
    ("steps", "evaluated"),
    [
        (19, [0, 19]),
        (20, [0, 20]),
        (21, [0, 21]),
        (22, [0, 20, 22]),  # a tenth of the training is left
        (40, [0, 20, 40]),
        (43, [0, 20, 43]),
        (44, [0, 20, 40, 44]),
        (100, [0, 20, 40, 60, 80, 100]),
        (109, [0, 20, 40, 60, 80, 109]),
        (110, [0, 20, 40, 60, 80, 100, 110]),  # half of what lies between two evaluations is left
    ],
)
def test_no_evaluation_comes_shortly_before_the_last(steps: int, evaluated: list[int]) -> None:
    config = replace(CONFIG, eval_every=20)
    assert [step for step, _ in advance(new_run(), steps, Watcher(), config).evaluations] == evaluated


@pytest.mark.parametrize("stop", [19, 20])
def test_a_resumed_training_is_evaluated_where_one_without_a_stop_is(tmp_path: Path, stop: int) -> None:
    config = replace(CONFIG, eval_every=20)
    advance(new_run(), 21, Watcher(tmp_path / "resume.pt", stop_at=stop), config)
    run = new_run()
    load_checkpoint(tmp_path / "resume.pt", run)
    assert [step for step, _ in advance(run, 21, Watcher(), config).evaluations] == [21]


def test_a_timed_training_leaves_out_an_evaluation_before_its_end_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run()
    monkeypatch.setattr(Run, "seconds", property(lambda run: 60 + run.step))  # a minute went into preparing
    watcher = Watcher()
    train(run, Batches(CONFIG), HeldOut(), CONFIG, Limit(seconds=77), watcher)  # type: ignore[arg-type]
    assert [step for step, _ in watcher.evaluations] == [0, 4, 8, 12, 17]  # not 16


def test_improvement_that_has_ended_changes_nothing_where_a_limit_ends_the_training() -> None:
    run = new_run()
    run.plateau = 1
    config = replace(CONFIG, eval_every=20)
    assert [step for step, _ in advance(run, 43, Watcher(), config).evaluations] == [0, 20, 43]


def test_a_training_that_ends_by_itself_leaves_out_no_evaluation() -> None:
    config = replace(CONFIG, learning_rate=1e-9, eval_every=2, patience=2)
    watcher = Watcher(stop_at=500)
    train(new_run(config), Batches(config), HeldOut(), config, Limit(), watcher)  # type: ignore[arg-type]
    evaluated = [step for step, _ in watcher.evaluations]
    assert evaluated[:-1] == [*range(0, evaluated[-1], 2)]


def test_an_evaluation_changes_neither_latest_nor_averaged_weights() -> None:
    run, untouched = new_run(), new_run()
    for one in (run, untouched):
        advance(one, 9, Watcher(), replace(CONFIG, learning_rate=0.05))
    judge(run, HeldOut(), CONFIG, Watcher())  # type: ignore[arg-type]
    assert_same_state(run, untouched)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("stop", [1, 3, 7, 10])
def test_a_stopped_and_resumed_training_ends_with_the_same_bits(tmp_path: Path, stop: int, dropout: float) -> None:
    config = replace(CONFIG, dropout=dropout)
    straight = new_run(config)
    expected = advance(straight, 12, Watcher(), config)
    first = new_run(config)
    before = advance(first, 12, Watcher(tmp_path / "resume.pt", stop_at=stop), config)
    torch.manual_seed(12345)  # another process would not be where this one's generator is
    resumed = new_run(config)
    load_checkpoint(tmp_path / "resume.pt", resumed)
    after = advance(resumed, 12, Watcher(), config)
    assert_same_state(straight, resumed)
    assert before.losses + after.losses == expected.losses
    assert before.evaluations + after.evaluations == expected.evaluations
    assert straight.best is not None and resumed.best is not None and straight.best.step == resumed.best.step


def test_a_timed_training_that_is_stopped_goes_on_with_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def monotonic() -> float:
        nonlocal now
        now += 0.25
        return now

    monkeypatch.setattr("time.monotonic", monotonic)
    limit, multipliers = Limit(seconds=30.0), []

    class Clocked(Watcher):
        def stepped(self, run: Run, loss: float, grad_norm: float, multiplier: float) -> None:
            super().stepped(run, loss, grad_norm, multiplier)
            multipliers.append(multiplier)

    first = new_run()
    first.started = now
    stopped = Clocked(tmp_path / "resume.pt", stop_at=40)
    assert not train(first, Batches(CONFIG), HeldOut(), CONFIG, limit, stopped)  # type: ignore[arg-type]
    now += 1000.0  # nobody trains
    resumed = new_run()
    load_checkpoint(tmp_path / "resume.pt", resumed)
    assert train(resumed, Batches(CONFIG), HeldOut(), CONFIG, limit, Clocked())  # type: ignore[arg-type]
    assert 30.0 <= resumed.seconds < 32.0
    assert 30.0 <= now - 1000.0 < 34.0  # all time that was left was used, and no more
    steady, falling = multipliers[CONFIG.warmup_steps : 40], multipliers[60:]
    assert steady == sorted(steady, reverse=True) and falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.1


def test_every_step_drops_something_else_and_another_seed_other_things() -> None:
    drawn = set()
    for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        seed_dropout(seed, step)
        drawn.add(tuple(torch.rand(4).tolist()))
    assert len(drawn) == 4


def test_a_finished_training_given_more_steps_goes_on_from_its_weights(tmp_path: Path) -> None:
    run = new_run()
    advance(run, 5, Watcher(tmp_path / "resume.pt"))
    longer = new_run()
    load_checkpoint(tmp_path / "resume.pt", longer)
    watcher = advance(longer, 9, Watcher())
    assert watcher.steps == [6, 7, 8, 9]


def test_a_diverging_step_is_refused_and_changes_no_weight() -> None:
    run = new_run()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    gradient_of_all(run, random_step(0))
    next(run.model.parameters()).grad.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(Diverged, match="step 0 diverged"):
        take_step(run, CONFIG, 1.0, 3.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


@pytest.mark.parametrize("part", range(2))
def test_a_gradient_that_overflows_float16_moves_no_weight_and_the_next_step_is_smaller(part: int) -> None:
    run = new_run()
    run.dtype = torch.float16
    run.scaler = torch.amp.GradScaler("cpu")
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    gradient_of_all(run, random_step(0))
    scale = run.scaler.get_scale()
    run.optimizer.parts[part].param_groups[0]["params"][0].grad.fill_(torch.nan)  # what inf - inf leaves behind
    assert not np.isfinite(take_step(run, CONFIG, 1.0, 3.0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
    assert run.scaler.get_scale() < scale
    assert np.isfinite(take_step(run, CONFIG, 1.0, gradient_of_all(run, random_step(1))))
    assert not all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


def test_held_out_text_that_takes_no_number_of_bits_is_a_divergence(tmp_path: Path) -> None:
    run, config = new_run(), replace(CONFIG, eval_every=3, save_every=3)
    advance(run, 3, Watcher(tmp_path / "resume.pt"), config)
    saved = (tmp_path / "resume.pt").read_bytes()
    run.evaluated = 0  # as where this step ended no training: now a score and a save are due
    run.model.get_parameter("model.norm.weight").data.fill_(torch.nan)
    with pytest.raises(Diverged, match="step 3 diverged: held-out text takes nan bits per byte"):
        advance(run, 9, Watcher(tmp_path / "resume.pt"), config)
    assert (tmp_path / "resume.pt").read_bytes() == saved


def test_a_training_without_a_limit_ends_when_held_out_text_no_longer_improves() -> None:
    config = replace(CONFIG, learning_rate=1e-9, eval_every=2, patience=2)  # it cannot improve
    run = new_run(config)
    watcher = Watcher(stop_at=500)
    train(run, Batches(config), HeldOut(), config, Limit(), watcher)  # type: ignore[arg-type]
    assert run.plateau is not None
    assert len(watcher.steps) < 500


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other shape", "empty"])
def test_a_checkpoint_that_cannot_be_used_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "resume.pt"
    save_checkpoint(path, new_run())
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "foreign":
        torch.save({"weights": 1}, path)
    elif damage == "empty":
        path.write_bytes(b"")
    shape = replace(SHAPE, width=32) if damage == "other shape" else SHAPE
    with pytest.raises(ModelError, match=r"resume\.pt cannot be used.*--restart") as error:
        load_checkpoint(path, new_run(shape=shape))
    assert "\n" not in str(error.value)


def test_a_checkpoint_is_never_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("raise SystemExit('executed')",)

    torch.save(Trap(), tmp_path / "resume.pt")
    with pytest.raises(ModelError, match="cannot be used"):
        load_checkpoint(tmp_path / "resume.pt", new_run())


def test_every_parameter_is_trained_by_exactly_one_optimizer() -> None:
    model = build(SHAPE)
    groups = parameter_groups(model)
    assert sorted(map(id, (parameter for group in groups for parameter in group))) == sorted(
        map(id, model.parameters())
    )
    matrices, decayed, plain = groups
    assert len(matrices) == 7 * SHAPE.layers
    assert [tuple(parameter.shape) for parameter in decayed] == [(SHAPE.vocab_size, SHAPE.width)]
    assert all(parameter.ndim == 1 for parameter in plain)


@given(
    step=st.integers(0, 10_000),
    progress=st.floats(0, 1),
    stage=st.sampled_from(["pretrain", "finetune"]),
    exercises=st.integers(0, 200),
)
def test_the_learning_rate_rises_stays_and_falls_to_zero(
    step: int, progress: float, stage: str, exercises: int
) -> None:
    config = replace(STAGES[stage], exercises=exercises)  # type: ignore[index]
    multiplier = learning_rate_multiplier(step, progress, config)
    assert 0 <= multiplier <= 1
    assert learning_rate_multiplier(step, 1.0, config) == 0
    if step >= exercises + config.warmup_steps and progress <= 1 - config.decay_share:
        assert multiplier == 1
    for beginning in 0, exercises:
        assert learning_rate_multiplier(beginning, 0.0, config) == 1 / config.warmup_steps


def test_nothing_is_scored_before_the_exercises_are_over() -> None:
    config = replace(CONFIG, exercises=6, patience=1)
    watcher = advance(new_run(config), 13, Watcher(), config)
    assert [step for step, _ in watcher.evaluations] == [8, 13]


def test_the_weights_before_the_first_step_are_no_result() -> None:
    run = new_run(replace(CONFIG, learning_rate=1e-9))  # as good as no training: no later score is better
    watcher = advance(run, 8, Watcher(), replace(CONFIG, learning_rate=1e-9))
    assert watcher.evaluations[0][0] == 0
    assert run.best is not None and run.best.step > 0

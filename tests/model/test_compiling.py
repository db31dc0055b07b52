"""Laws of compiled training: the same step, faster; evaluations and samples run as they are written."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._inductor import config, cpu_vec_isa

from data.batches import Batch
from model.attention import BLOCK
from model.build import build
from model.checkpoint import load_checkpoint, save_checkpoint
from model.compiling import as_written, can_compile
from model.config import ModelConfig, preset
from model.optimizer import Optimizer
from model.settings import STAGES
from model.train import Run, accumulate_gradients, gradient_of_all, seed_dropout, take_step

CPU = torch.device("cpu")
SHAPE = ModelConfig(vocab_size=50, context=16, width=32, layers=2, heads=2, kv_heads=1, hidden=48, head_size=16)
BLOCKS = replace(SHAPE, context=BLOCK + 2)  # of queries: more than one
CLASSIC = preset("classic", layers=2, width=32, heads=2, hidden=48, context=16, vocab_size=50)

pytestmark = [
    pytest.mark.slow,  # compiling takes its time
    pytest.mark.filterwarnings("ignore"),  # torch's compiler warns of what is torch's own
]
needs_compiler = pytest.mark.usefixtures("compiler")


@pytest.fixture
def compiler() -> None:
    """Found only when a test is about to run: it takes seconds."""
    if not can_compile(CPU):
        pytest.skip("torch.compile needs a C++ compiler here")


@pytest.fixture(autouse=True)
def nothing_compiled_stays() -> Iterator[None]:
    yield
    torch.compiler.reset()


def run_of(shape: ModelConfig, dtype: torch.dtype, dropout: float = 0.0) -> Run:
    torch.manual_seed(0)
    model = build(shape, dropout=dropout)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # zero projections would hide half of the gradient
    return Run(model, Optimizer(model, STAGES["pretrain"]), dtype, CPU)


def random_step(shape: ModelConfig, segments: bool, scored_share: float = 0.7, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, shape.vocab_size, (3, shape.context + 1))
    scored = rng.random((3, shape.context)) < scored_share
    several = np.sort(rng.integers(0, 2, (3, shape.context)), axis=1).astype(np.int32) if segments else None
    positions = np.tile(np.arange(shape.context), (3, 1))
    return Batch(ids[:, :-1], ids[:, 1:], scored, positions, several)


def gradients_of(run: Run, step: Batch) -> tuple[float, list[Tensor]]:
    torch.manual_seed(1)  # what is dropped
    loss = accumulate_gradients(run, step, int(step.scored.sum()))
    return loss, [parameter.grad for parameter in run.model.parameters() if parameter.grad is not None]


@needs_compiler
@pytest.mark.parametrize("shape", [SHAPE, BLOCKS, CLASSIC], ids=["qwen3", "in blocks", "classic"])
@pytest.mark.parametrize("segments", [False, True])
def test_compiled_code_gives_the_loss_and_the_gradient_of_what_is_written(shape: ModelConfig, segments: bool) -> None:
    written, compiled = run_of(shape, torch.float32), run_of(shape, torch.float32)
    compiled.compile()
    step = random_step(shape, segments)
    (loss, expected), (compiled_loss, found) = gradients_of(written, step), gradients_of(compiled, step)
    assert compiled_loss == pytest.approx(loss, rel=1e-5)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@needs_compiler
def test_what_compiled_code_drops_is_decided_by_the_seed() -> None:
    step = random_step(SHAPE, segments=False)
    losses = []
    for _ in range(2):
        run = run_of(SHAPE, torch.float32, dropout=0.5)
        run.compile()
        losses.append(gradients_of(run, step)[0])
    assert losses[0] == losses[1] != gradients_of(run_of(SHAPE, torch.float32), step)[0]


def advance(run: Run, steps: range) -> None:
    """Through steps of which the first score less and less, as exercises do, and the others all."""
    for step in steps:
        seed_dropout(0, step)
        loss = gradient_of_all(
            run, random_step(SHAPE, step % 2 == 1, max(0.3, 0.9 - 0.2 * step) if step < 3 else 1, step)
        )
        take_step(run, STAGES["pretrain"], 1.0, loss)


@needs_compiler
def test_a_compiled_training_that_was_stopped_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    """The process that goes on compiles for the sizes that it meets first, which are others."""
    straight, stopped, resumed = (run_of(SHAPE, torch.bfloat16, dropout=0.1) for _ in range(3))
    straight.compile()
    advance(straight, range(6))
    torch.compiler.reset()
    stopped.compile()
    advance(stopped, range(4))
    save_checkpoint(tmp_path / "resume.pt", stopped)
    torch.compiler.reset()
    load_checkpoint(tmp_path / "resume.pt", resumed)
    resumed.compile()
    advance(resumed, range(4, 6))
    for one, other in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(next(straight.model.parameters()), next(stopped.model.parameters()))


@needs_compiler
def test_a_compiled_model_keeps_the_names_of_its_weights_and_can_run_as_written() -> None:
    run, ids = run_of(SHAPE, torch.float32), torch.randint(0, 50, (1, 7))
    names, expected = list(run.model.state_dict()), run.model(ids)
    run.compile()
    assert list(run.model.state_dict()) == names
    torch._dynamo.utils.counters.clear()
    with as_written():
        assert torch.equal(run.model(ids), expected)
    assert not torch._dynamo.utils.counters["stats"]  # nothing was compiled for it


def test_where_compiling_fails_it_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fail)
    found_by_trying = can_compile.__wrapped__
    assert not found_by_trying(CPU)
    assert not found_by_trying(torch.device("mps"))


@pytest.fixture
def vectors_unknown(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The C++ compiler knows no vectors."""

    def forget() -> None:
        for found in (cpu_vec_isa.valid_vec_isa_list, cpu_vec_isa.VecISA._VecISA__bool__impl):  # type: ignore[attr-defined]
            found.cache_clear()

    forget()
    with monkeypatch.context() as patch:
        patch.setattr(cpu_vec_isa.VecISA, "check_build", lambda *_: False)
        yield
    forget()
    config.cpp.vec_isa_ok = None


@pytest.mark.usefixtures("vectors_unknown")
def test_where_the_compiler_does_not_know_the_processors_vectors_torch_looks_for_those_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picked = []

    def compile(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        picked.append(cpu_vec_isa.pick_vec_isa())
        if picked[-1] != cpu_vec_isa.invalid_vec_isa:
            raise RuntimeError("unknown instruction")
        return function

    monkeypatch.setattr(torch, "compile", compile)
    assert can_compile.__wrapped__(CPU)
    assert len(picked) == 2  # any processor that torch compiles for has vectors

"""Laws of the memory estimate: near what a training really takes, and nothing larger than what is free is begun."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import memory
from model.build import build
from model.config import ModelConfig, preset
from model.memory import estimate, fit, held
from model.optimizer import Optimizer
from model.settings import STAGES
from model.train import Best, Run

ROOT = Path(__file__).parents[2]
SHAPE = ModelConfig(vocab_size=50, context=32, width=16, layers=2, heads=2, kv_heads=1, hidden=24, head_size=8)
WITHIN = 0.25
MEASURE = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from model.averaging import Average
from model.build import build
from model.config import preset
from model.memory import estimate
from model.optimizer import Optimizer
from model.speed import random_batch
from model.settings import STAGES
from model.train import Best, Run, accumulate_gradients, take_step

def most_resident():  # of this program; getrusage counts the one that started it, too
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

def train(shape, dtype, tokens):
    model = build(shape)
    run = Run(model, Optimizer(model, STAGES["pretrain"]), dtype, torch.device("cpu"))
    run.best = Best(0, 1.0, Average(model).weights)
    batch = random_batch(tokens // shape.context, shape)
    take_step(run, STAGES["pretrain"], 1.0, accumulate_gradients(run, batch, batch.inputs.size))
    return run

name, dtype, tokens = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
train(preset("nano", layers=1, context=16, vocab_size=300), dtype, 16)  # what is loaded once, whatever is trained
before = most_resident()
run = train(preset(name), dtype, tokens)
taken = most_resident() - before
print(1024 * taken, estimate(run, tokens).total)
"""


def new_run(shape: ModelConfig = SHAPE, dtype: torch.dtype = torch.float32) -> Run:
    model = build(shape)
    return Run(model, Optimizer(model, STAGES["pretrain"]), dtype, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count resident memory in other units")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_estimate_is_near_what_a_step_takes(dtype: str) -> None:
    command = [sys.executable, "-c", MEASURE, "small", dtype, "1024"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    measured, estimated = map(int, done.stdout.split())
    print(measured, estimated, estimated / measured)
    assert abs(estimated - measured) < WITHIN * measured


def test_the_optimizers_state_is_as_large_as_said() -> None:
    run = new_run()
    for parameter in run.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    run.optimizer.step(1.0, run.scaler)
    states = (state for part in run.optimizer.parts for state in part.state.values())
    taken = sum(value.nbytes for state in states for value in state.values() if value.ndim)
    assert run.optimizer.state_bytes == taken


@settings(max_examples=20)
@given(rows=st.integers(1, 16), kind=st.sampled_from(["qwen3", "classic"]))
def test_activations_grow_with_the_micro_batch_and_no_further(rows: int, kind: str) -> None:
    run = new_run(replace(SHAPE, kind=kind, kv_heads=2))  # type: ignore[arg-type]
    one = estimate(run, SHAPE.context).activations
    run.micro_tokens = rows * SHAPE.context
    assert estimate(run, 16 * SHAPE.context).activations == pytest.approx(rows * one, rel=0.01)
    assert estimate(run, SHAPE.context).activations == one


@given(free=st.integers(10**5, 10**8), processes=st.integers(1, 4))
def test_a_micro_batch_is_halved_until_it_fits_or_is_a_row(free: int, processes: int) -> None:
    run = new_run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "free_memory", lambda _: free * processes)
        patch.setenv("LOCAL_WORLD_SIZE", str(processes))  # as torchrun does: they share the machine
        needed = fit(run, 4096).total - held(run)
    assert needed == estimate(run, 4096).total - held(run)
    assert run.micro_tokens in {4096 >> halvings for halvings in range(8)}
    assert needed < free or run.micro_tokens == SHAPE.context
    if run.micro_tokens < 4096:
        run.micro_tokens *= 2
        assert estimate(run, 4096).total - held(run) >= memory.FREE_SHARE * free


def test_what_a_run_has_already_is_weights_and_state_and_those_on_its_own_device() -> None:
    run = new_run()
    weights = 4 * run.model.num_parameters
    assert held(run) == 2 * weights
    for parameter in run.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    run.optimizer.step(1.0, run.scaler)
    run.best = Best(0, 1.0, run.average.weights)
    assert held(run) == pytest.approx(3 * weights + run.optimizer.state_bytes, rel=1e-2)  # each AdamW counts its steps
    run.device = torch.device("cuda")
    assert held(run) == 0


def test_where_the_system_does_not_say_what_is_free_nothing_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run()
    monkeypatch.setattr(memory, "free_memory", lambda _: None)
    fit(run, 4096)
    assert run.micro_tokens == 4096


@pytest.mark.slow
def test_story_fits_a_gpu_of_16_gb_and_a_cpu_of_8() -> None:
    run = new_run(preset("story"), torch.float16)
    run.micro_tokens = 16_384
    assert estimate(run, 65_536).total < 14e9
    run.dtype, run.micro_tokens = torch.float32, 4096
    assert estimate(run, 4096).total < 7e9


def test_the_estimate_in_words_says_the_true_numbers() -> None:
    made = memory.Memory(weights=3 * 10**9, gradients=10**9, optimizer=2 * 10**9, activations=10**6, logits=5 * 10**8)
    assert made.line == (
        "memory: about 6,501 MB (weights 3,000, gradients 1,000, optimizer 2,000, activations 1, logits 500)"
    )

"""nanoGPT's recipe, written anew, is what it publishes: GPT-2 without biases, and its schedule."""

import math
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest
import torch

from benchmarks import nano_gpt
from benchmarks.nano_gpt import LEAST, PEAK, SHAPE, STD, WARMUP, NanoGPT, learning_rate, train_nano_gpt
from model.config import ModelConfig

SMALL = ModelConfig(
    kind="classic", vocab_size=50, context=16, width=32, layers=2, heads=4, kv_heads=4, hidden=128, head_size=8
)


@pytest.fixture
def model() -> NanoGPT:
    torch.manual_seed(0)
    model = NanoGPT(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def test_it_computes_what_gpt2_without_biases_does(model: NanoGPT) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=4, activation_function="gelu",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    names = {"tokens": "wte", "positions": "wpe", "blocks": "h", "norm": "ln_f"}
    names |= {"attention_norm": "ln_1", "feed_forward_norm": "ln_2", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    names |= {"attention": "attn.c_attn", "attention_output": "attn.c_proj"}
    other = GPT2LMHeadModel(config).eval()
    theirs = dict(other.transformer.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.items():
            if name.endswith("bias"):
                parameter.zero_()
        for name, parameter in model.named_parameters():
            path = ".".join(names.get(part, part) for part in name.split("."))
            theirs[path].copy_(
                parameter.T if path.endswith(("c_fc.weight", "c_proj.weight", "c_attn.weight")) else parameter
            )
        ids = torch.randint(0, 50, (3, 16))
        torch.testing.assert_close(model(ids), other(ids).logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.loss(ids[:, :-1], ids[:, 1:]), other(ids, labels=ids).loss)


def test_segments_do_not_see_each_other(model: NanoGPT) -> None:
    ids = torch.randint(0, 50, (1, 12))
    segments, positions = torch.arange(12)[None] // 6, torch.arange(12)[None] % 6
    apart = torch.cat([model(ids[:, :6]), model(ids[:, 6:])], dim=1)
    torch.testing.assert_close(model(ids, segments=segments, positions=positions), apart)


def test_it_has_the_size_and_the_spread_that_are_published() -> None:
    torch.manual_seed(0)
    model = NanoGPT(SHAPE)
    assert model.num_parameters == 4_096 * 256 + 256 * 256 + 4 * (12 * 256 * 256 + 2 * 256) + 256
    for name, parameter in model.named_parameters():
        std = STD / math.sqrt(8) if name.endswith(("output.weight", "down.weight")) else STD
        assert parameter.std().item() == pytest.approx(std if parameter.ndim > 1 else 0.0, rel=0.05, abs=1e-9)


def test_the_rate_rises_for_some_steps_and_falls_as_a_cosine_to_a_tenth() -> None:
    rising = [learning_rate(step, 0.0, 0.0) for step in range(WARMUP)]
    assert rising == sorted(rising) and rising[0] > 0 and rising[-1] < PEAK
    falling = [learning_rate(WARMUP + i, 0.2 + 0.08 * i, 0.2) for i in range(11)]
    assert falling == sorted(falling, reverse=True)
    assert (falling[0], falling[5], falling[10]) == pytest.approx((PEAK, (PEAK + LEAST) / 2, LEAST))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch itself uses it in compiling
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_learns_until_the_time_is_over(compiled: bool, model: NanoGPT, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled and not nano_gpt.can_compile(model.device):
        pytest.skip("there is no C++ compiler")
    monkeypatch.setattr(nano_gpt, "can_compile", lambda _: compiled)
    ids = np.arange(500, dtype=np.uint16) % 50
    clock: Callable[[], int] = count().__next__
    before = loss(model, ids)
    assert train_nano_gpt(model, ids, dtype=torch.float32, seed=0, seconds=150, elapsed=clock) == 150
    assert loss(model, ids) < before / 4


def loss(model: NanoGPT, ids: np.ndarray) -> float:
    rows = torch.from_numpy(ids[:17].astype("int64"))[None]
    with torch.no_grad():
        return model.loss(rows[:, :-1], rows[:, 1:]).item()

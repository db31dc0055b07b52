"""Two heads laid out by hand copy what was said before, and nothing else of the model is touched."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from data.copying import exercise
from model.attention import rotate, split_heads
from model.build import build
from model.config import ModelConfig, preset
from model.copying import CONSTANT, can_copy, lay_out_copying
from model.transformer import Transformer


def laid_out(config: ModelConfig, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    model = build(config)
    assert isinstance(model, Transformer)
    lay_out_copying(model)
    return model.eval()


def losses(model: Transformer, seed: int) -> tuple[float, float]:
    """Mean loss of what an exercise scores, and of the rest of it."""
    config = model.config
    batch = exercise(np.random.default_rng(seed), 4, min(config.context, 200), config.vocab_size)
    targets, scored = torch.from_numpy(batch.targets.copy()), torch.from_numpy(batch.scored)
    with torch.no_grad():
        logits = model(torch.from_numpy(batch.inputs.copy()))
    loss = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return loss[scored].mean().item(), loss[~scored].mean().item()


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 99),
    layers=st.integers(2, 3),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2)]),
    width=st.sampled_from([128, 256]),
)
def test_what_was_said_before_is_expected_again(seed: int, layers: int, heads: tuple[int, int], width: int) -> None:
    sizes = {"layers": layers, "heads": heads[0], "kv_heads": heads[1], "width": width}
    config = preset("nano", vocab_size=600, **sizes)
    said_before, new = losses(laid_out(config, seed), seed)
    assert said_before < new - 0.2


def test_attention_goes_where_the_token_before_was_the_token_here() -> None:
    model = laid_out(preset("tiny", vocab_size=2000))
    torch.manual_seed(1)
    half = torch.randperm(2000)[:100]
    seen: list[torch.Tensor] = []

    def note(attention: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        x, (cos, sin), *_ = arguments
        queries, keys = (
            rotate(norm(split_heads(project(x), 64)), cos, sin)[0, 0]
            for norm, project in (
                (attention.q_norm, attention.q_proj),  # type: ignore[operator]
                (attention.k_norm, attention.k_proj),
            )
        )
        scores = (queries @ keys.T / 8).masked_fill(~torch.ones(200, 200, dtype=torch.bool).tril(), -torch.inf)
        seen.append(scores.softmax(-1))

    for block in model.model.layers:
        block.self_attn.register_forward_pre_hook(note)  # type: ignore[union-attr]
    with torch.no_grad():
        model(torch.cat((half, half))[None])
    back, found, *_ = seen
    here = torch.arange(101, 200)
    assert back[here, here - 1].min() > 0.8
    assert found[here, here - 99].mean() > 0.9


def test_only_two_heads_are_laid_out() -> None:
    config = preset("tiny", vocab_size=300, layers=3)
    torch.manual_seed(0)
    before = dict(build(config).state_dict())
    after = laid_out(config).state_dict()
    for name, tensor in after.items():
        changed = tensor != before[name]
        layer = next((part for part in name.split(".") if part.isdigit()), None)
        if name == "model.embed_tokens.weight":
            assert (tensor[:, 0] == CONSTANT).all() and not changed[:, 1:].any()
        elif layer in {"0", "1"} and ("q_norm" in name or "k_norm" in name):
            assert changed.all()
        elif layer in {"0", "1"} and ("q_proj" in name or "k_proj" in name):
            assert changed[:64].any() and not changed[64:].any()
        elif layer in {"0", "1"} and "o_proj" in name:
            assert changed[:, :64].all() and not changed[:, 64:].any()
        else:
            assert not changed.any(), name


@pytest.mark.parametrize(
    ("config", "possible"),
    [
        (preset("nano"), True),
        (preset("story"), True),
        (preset("classic"), False),
        (preset("nano", layers=1), False),
        (preset("nano", width=64), False),
    ],
)
def test_there_is_room_for_the_heads_or_not(config: ModelConfig, possible: bool) -> None:
    assert can_copy(config) == possible

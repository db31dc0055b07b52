"""The classic design is held to a definition of it in sums and loops, written from its description."""

import math

import pytest
import torch
from torch import Tensor

from model.classic import Classic
from model.config import PRESETS, ModelConfig, preset

CONFIG = ModelConfig(
    vocab_size=30, context=8, width=12, layers=2, heads=3, kv_heads=3, hidden=20, head_size=4, kind="classic"
)


def layer_norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    rows = [(row - row.mean()) / math.sqrt(float(((row - row.mean()) ** 2).mean()) + CONFIG.norm_eps) for row in x]
    return torch.stack(rows) * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    heads = []
    for head in range(CONFIG.heads):
        mine = slice(head * CONFIG.head_size, (head + 1) * CONFIG.head_size)
        queries, keys, values = (x @ state[f"{name}.{part}.weight"][mine].T for part in ("query", "key", "value"))
        rows = []
        for t in range(len(x)):
            weights = torch.softmax(keys[: t + 1] @ queries[t] / math.sqrt(CONFIG.width), dim=0)
            rows.append(weights @ values[: t + 1])
        heads.append(torch.stack(rows))
    return torch.cat(heads, dim=1) @ state[f"{name}.output.weight"].T + state[f"{name}.output.bias"]


def classic(ids: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Logits of one row of ids, (time, vocab_size)."""
    x = torch.stack([state["tokens.weight"][id] + state["positions.weight"][t] for t, id in enumerate(ids)])
    for layer in range(CONFIG.layers):
        block = f"blocks.{layer}"
        x = x + attention(layer_norm(x, state, f"{block}.attention_norm"), state, f"{block}.attention")
        fed = (
            layer_norm(x, state, f"{block}.feed_forward_norm") @ state[f"{block}.up.weight"].T
            + state[f"{block}.up.bias"]
        )
        x = x + fed.clamp(min=0) @ state[f"{block}.down.weight"].T + state[f"{block}.down.bias"]
    return layer_norm(x, state, "norm") @ state["head.weight"].T + state["head.bias"]


@pytest.mark.parametrize("seed", range(3))
def test_classic_is_its_definition(seed, perturbed):
    model = perturbed(CONFIG, seed=seed)
    ids = torch.randint(0, 30, (8,))
    torch.testing.assert_close(model(ids[None])[0], classic(ids, model.state_dict()), atol=1e-5, rtol=1e-5)


def test_only_queries_keys_and_values_have_no_bias():
    model = Classic(CONFIG)
    without = {
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module.bias is None
    }
    assert without == {f"blocks.{layer}.attention.{part}" for layer in range(2) for part in ("query", "key", "value")}


def test_the_output_layer_is_not_the_embedding():
    model = Classic(CONFIG)
    assert model.head.weight is not model.tokens.weight
    assert PRESETS["classic"].num_parameters == 76_852_305


def test_matrices_start_small_and_biases_at_zero():
    torch.manual_seed(0)
    for name, parameter in Classic(preset("classic", vocab_size=1_000, layers=2)).named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" not in name:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05)


def test_dropout_acts_in_training_and_only_there():
    model, ids = Classic(CONFIG, dropout=0.5), torch.arange(8)[None]
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))

"""The ladder stands on the models it leads from and to: its ends compute what they compute."""

import pytest
import torch
from torch import nn

from benchmarks.ladder import IN_MODEL, Ladder, shape_after
from model.build import build
from model.config import ModelConfig
from model.optimizer import parameter_groups

OURS = ModelConfig(vocab_size=50, context=16, width=32, layers=2, heads=4, kv_heads=4, hidden=64, head_size=8)
SEEDS = ModelConfig(**{**OURS.__dict__, "kind": "classic", "hidden": 96})
NONE, ALL = frozenset[str](), frozenset(IN_MODEL)


def with_weights_of(model: nn.Module, other: nn.Module) -> nn.Module:
    """The model with the weights of another that has them in the same order; none of them zero or one in either."""
    torch.manual_seed(0)
    with torch.no_grad():
        for own, its in zip(model.parameters(), other.parameters(), strict=True):
            its.add_(torch.randn_like(its) * 0.1)
            own.copy_(its)
    return model


@pytest.mark.parametrize(("changes", "config"), [(NONE, SEEDS), (ALL, OURS)], ids=["the seed's", "ours"])
def test_the_ends_of_the_ladder_are_the_models_it_leads_from_and_to(
    changes: frozenset[str], config: ModelConfig
) -> None:
    end = build(config)
    ladder = with_weights_of(Ladder(shape_after(changes, OURS), changes), end)
    ids = torch.randint(0, OURS.vocab_size, (3, OURS.context))
    segments = torch.arange(OURS.context)[None].expand(3, -1) // 5
    positions = torch.arange(OURS.context)[None].expand(3, -1) % 5
    for given in ({}, {"segments": segments, "positions": positions}):
        torch.testing.assert_close(ladder(ids, **given), end(ids, **given))
    matrices, _, _ = parameter_groups(ladder)
    assert [p.shape for p in matrices] == [p.shape for p in parameter_groups(end)[0]]


@pytest.mark.parametrize(("changes", "config"), [(NONE, SEEDS), (ALL, OURS)], ids=["the seed's", "ours"])
def test_the_ends_begin_with_weights_of_the_same_spread(changes: frozenset[str], config: ModelConfig) -> None:
    wide = {"width": 64, "heads": 8, "kv_heads": 8}
    ladder = Ladder(shape_after(changes, ModelConfig(**{**OURS.__dict__, **wide})), changes)
    end = build(ModelConfig(**{**config.__dict__, **wide}))
    for own, its in zip(ladder.parameters(), end.parameters(), strict=True):
        assert own.std().item() == pytest.approx(its.std().item(), rel=0.1, abs=1e-6)


def test_every_change_changes_the_model() -> None:
    ids = torch.randint(0, OURS.vocab_size, (2, OURS.context))
    seen: list[torch.Tensor] = []
    for count in range(len(IN_MODEL) + 1):
        changes = frozenset(IN_MODEL[:count])
        torch.manual_seed(0)
        logits = Ladder(shape_after(changes, OURS), changes)(ids)
        assert not any(torch.equal(logits, other) for other in seen)
        seen.append(logits)

"""What is true of the transformer alone: its names, how a new one starts, and its dropout."""

import math

import pytest
import torch

from model.config import PRESETS, ModelConfig, preset
from model.transformer import EMBEDDING_STD, Transformer

CONFIG = ModelConfig(vocab_size=60, context=16, width=32, layers=2, heads=4, kv_heads=2, hidden=48, head_size=16)


@pytest.mark.parametrize("name", ["nano", "story"])
def test_names_and_shapes_of_parameters_are_those_of_qwen3(name):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = PRESETS[name]
    with torch.device("meta"):
        ours = Transformer(config)
        theirs = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                intermediate_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                head_dim=config.head_size,
                tie_word_embeddings=True,
            )
        )
    assert {name: parameter.shape for name, parameter in ours.named_parameters()} == {
        name: parameter.shape for name, parameter in theirs.named_parameters()
    }


def test_the_state_holds_the_parameters_and_nothing_else():
    model = Transformer(CONFIG)
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_a_new_model_predicts_every_token_nearly_alike():
    torch.manual_seed(0)
    model = Transformer(preset("nano", layers=2))
    ids = torch.randint(0, 4_096, (2, 65))
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(4_096)) < 0.1


def test_a_new_model_adds_nothing_to_the_embedding():
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    ids = torch.arange(16)[None]
    embedding = model.model.embed_tokens.weight[ids]
    expected = embedding / embedding.square().mean(-1, keepdim=True).add(CONFIG.norm_eps).sqrt()
    torch.testing.assert_close(model.hidden(ids), expected)


def test_matrices_start_with_the_scale_they_are_said_to():
    torch.manual_seed(0)
    state = Transformer(preset("nano", layers=1)).state_dict()
    assert state["model.embed_tokens.weight"].std().item() == pytest.approx(EMBEDDING_STD, rel=0.05)
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
        assert state[f"model.layers.0.{name}.weight"].std().item() == pytest.approx(128**-0.5, rel=0.05)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        assert not state[f"model.layers.0.{name}.weight"].any()


def test_the_same_seed_makes_the_same_model():
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(Transformer(CONFIG).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_dropout_acts_in_training_and_only_there():
    torch.manual_seed(0)
    model = Transformer(CONFIG, dropout=0.5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(8)[None]
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_all_dropped_leaves_the_embedding():
    model = Transformer(CONFIG, dropout=1.0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(8)[None]
    torch.testing.assert_close(model.hidden(ids), model.model.norm(model.model.embed_tokens(ids)))

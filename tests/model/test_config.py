"""Laws of the shapes: what they count, what they refuse, what follows when one size changes."""

import dataclasses
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from model.build import build
from model.config import PRESETS, ModelConfig, preset
from model.errors import ConfigError

COUNTS = {
    "nano": 1_377_920,
    "micro": 3_443_904,
    "tiny": 4_000_512,
    "small": 8_525_056,
    "mini": 9_768_832,
    "medium": 27_536_256,
    "storygpt": 39_530_240,
    "story": 76_858_496,
    "large": 170_945_024,
    "classic": 76_852_305,
}
SHAPE = {"vocab_size": 300, "context": 32, "width": 48, "layers": 2, "heads": 6, "kv_heads": 3, "hidden": 64}

sizes = st.integers(1, 20)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any possible shape of either design, small."""
    heads, head_size = draw(sizes), 2 * draw(sizes)
    common = {
        "vocab_size": draw(sizes),
        "context": draw(sizes),
        "layers": draw(st.integers(1, 3)),
        "hidden": draw(sizes),
    }
    if draw(st.booleans()):
        return ModelConfig(
            kind="classic", width=heads * head_size, heads=heads, kv_heads=heads, head_size=head_size, **common
        )
    kv_heads = draw(st.sampled_from([divisor for divisor in range(1, heads + 1) if heads % divisor == 0]))
    return ModelConfig(width=draw(sizes), heads=heads, kv_heads=kv_heads, head_size=head_size, **common)


def test_every_preset_is_in_the_table_of_counts():
    assert COUNTS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_number_of_parameters_it_is_known_by(name):
    with torch.device("meta"):
        model = build(PRESETS[name])
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert PRESETS[name].num_parameters == model.num_parameters == counted == COUNTS[name]


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "classic"])
def test_transformers_counts_the_same_parameters(name):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = PRESETS[name]
    with torch.device("meta"):
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
    assert theirs.num_parameters() == config.num_parameters


def test_storygpt_has_57_million_parameters_with_the_vocabulary_that_it_had():
    assert round(preset("storygpt", vocab_size=50_257).num_parameters / 1e6) == 57


@given(config=configs())
def test_the_count_is_that_of_the_model_for_any_shape(config):
    with torch.device("meta"):
        assert build(config).num_parameters == config.num_parameters


@pytest.mark.parametrize(
    ("wrong", "possible"),
    [
        ({"kv_heads": 4}, {"kv_heads": 3}),
        ({"heads": 10, "kv_heads": 9}, {"kv_heads": 10}),
        ({"head_size": 63}, {"head_size": 64}),
        ({"kind": "classic", "kv_heads": 6, "head_size": 8, "width": 50}, {"width": 48}),
        ({"kind": "classic", "kv_heads": 6, "head_size": 1, "width": 2}, {"width": 6}),
        ({"kind": "classic", "kv_heads": 6, "head_size": 64}, {"head_size": 8}),
        ({"kind": "classic", "kv_heads": 3, "head_size": 8}, {"kv_heads": 6}),
    ],
)
def test_an_impossible_shape_is_refused_with_the_nearest_possible(wrong, possible):
    with pytest.raises(ConfigError) as error:
        ModelConfig(**SHAPE | wrong)
    (value,) = possible.values()
    assert re.search(rf"\b{value}\b", str(error.value))
    assert "\n" not in str(error.value)
    ModelConfig(**SHAPE | wrong | possible)


@pytest.mark.parametrize(
    "name", ["vocab_size", "context", "width", "layers", "heads", "kv_heads", "hidden", "head_size"]
)
@pytest.mark.parametrize("value", [0, -1, 2.0, "2", None, True])
def test_a_size_that_is_no_positive_whole_number_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        ModelConfig(**SHAPE | {name: value})


@pytest.mark.parametrize("name", ["rope_theta", "norm_eps"])
@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan"), "1", None, True])
def test_a_number_that_is_not_above_zero_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        ModelConfig(**SHAPE | {name: value})


def test_an_architecture_that_is_not_here_is_refused():
    with pytest.raises(ConfigError, match="'qwen3' and 'classic'"):
        ModelConfig(**SHAPE, kind="mamba")


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["nano"].width = 1


def test_an_unknown_preset_is_answered_with_all_of_them_and_their_parameters():
    with pytest.raises(ConfigError) as error:
        preset("huge")
    for name, count in COUNTS.items():
        assert f"{name} ({count:,} parameters)" in str(error.value)


def test_an_unknown_size_is_answered_with_those_there_are():
    with pytest.raises(ConfigError, match=r"'depth'.*layers"):
        preset("nano", depth=3)


@pytest.mark.parametrize("value", [0, -64, 1.5, "64"])
@pytest.mark.parametrize("name", ["width", "heads", "layers"])
def test_an_impossible_size_for_a_preset_is_refused_by_its_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} {value!r}"):
        preset("story", **{name: value})


@given(
    name=st.sampled_from([name for name in PRESETS if name != "classic"]),
    changed=st.fixed_dictionaries({}, optional={"width": st.integers(1, 2_000), "heads": st.integers(1, 40)}),
)
def test_any_width_and_number_of_heads_has_a_shape_around_it(name, changed):
    config = preset(name, **changed)
    for size, value in changed.items():
        assert getattr(config, size) == value
    assert config.heads % config.kv_heads == 0
    assert config.kv_heads / config.heads <= max(PRESETS[name].kv_heads / PRESETS[name].heads, 1 / config.heads)


@given(heads=st.integers(1, 16), head_size=st.integers(1, 32).map(lambda half: 2 * half))
def test_classic_takes_any_width_that_its_heads_divide_evenly(heads, head_size):
    config = preset("classic", width=heads * head_size, heads=heads)
    assert (config.head_size, config.kv_heads) == (head_size, heads)


def test_what_is_asked_for_is_not_worked_out():
    config = preset(
        "story", width=512, heads=4, kv_heads=4, hidden=100, head_size=32, context=7, vocab_size=9, layers=1
    )
    assert config == ModelConfig(
        width=512, heads=4, kv_heads=4, hidden=100, head_size=32, context=7, vocab_size=9, layers=1
    )


def test_small_made_as_wide_as_medium_has_the_heads_and_feed_forward_of_medium():
    wide, medium = preset("small", width=PRESETS["medium"].width), PRESETS["medium"]
    assert (wide.heads, wide.kv_heads, wide.hidden) == (medium.heads, medium.kv_heads, medium.hidden)


@pytest.mark.parametrize("name", ["nano", "story", "classic"])
def test_a_training_step_takes_the_operations_that_torch_counts(name):
    shape = preset(name, layers=2, context=64)
    with torch.device("meta"):
        model = build(shape)
        ids = torch.zeros(3, shape.context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    assert shape.operations_per_token == pytest.approx(counter.get_total_flops() / ids.numel(), rel=0.01)

"""Laws of few bits: how far a weight may move, that the kernels compute the definition, what it weighs."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import model.quantize
from model.build import LanguageModel, build
from model.config import ModelConfig, preset
from model.context import CachedContext, RecomputedContext
from model.errors import ConfigError
from model.quantize import GROUP, Int4Linear, Int8Linear, from_int4, from_int8, quantize, to_int4, to_int8

LAYERS = {"int8": Int8Linear, "int4": Int4Linear}
ROUNDED = {"int8": lambda weight: from_int8(*to_int8(weight)), "int4": lambda weight: from_int4(*to_int4(weight))}
# a product in 16 bits rounds its result, and its terms where the weights are made whole first
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def random_weight(outputs: int, inputs: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)).to(dtype)


def random_model(kind: str = "qwen3") -> LanguageModel:
    torch.manual_seed(0)
    sizes = {"layers": 2, "width": 128, "heads": 2, "kv_heads": 2, "context": 32, "vocab_size": 211}
    config = preset("classic", **sizes, hidden=192) if kind == "classic" else ModelConfig(**sizes, hidden=192)
    built = build(config)
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.1)
    return built.eval()


def num_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in [*module.parameters(), *module.buffers()])


@settings(max_examples=25, deadline=None)
@given(
    outputs=st.integers(1, 20),
    inputs=st.integers(1, 90),
    scale=st.sampled_from([1e-6, 0.02, 3.0]),
    seed=st.integers(0, 9),
)
def test_int8_moves_a_weight_by_at_most_half_a_level(outputs, inputs, scale, seed):
    weight = random_weight(outputs, inputs, seed=seed) * scale
    level = weight.abs().amax(1, keepdim=True) / 127
    assert ((ROUNDED["int8"](weight) - weight).abs() <= level * 0.5001).all()


@settings(max_examples=25, deadline=None)
@given(
    outputs=st.integers(1, 20),
    groups=st.integers(1, 3),
    scale=st.sampled_from([1e-6, 0.02, 3.0]),
    seed=st.integers(0, 9),
)
def test_int4_moves_a_weight_by_at_most_half_a_level_of_its_group(outputs, groups, scale, seed):
    weight = random_weight(outputs, groups * GROUP, seed=seed) * scale
    grouped = weight.reshape(outputs, groups, GROUP)
    level = (grouped.amax(-1) - grouped.amin(-1)).repeat_interleave(GROUP, 1) / 15
    assert ((ROUNDED["int4"](weight) - weight).abs() <= level * 0.5001).all()


@pytest.mark.parametrize("kind", sorted(LAYERS))
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_weights_that_are_all_alike_are_kept(kind, dtype):
    for value in (0.0, 0.5, -0.01):
        weight = torch.full((16, GROUP), value, dtype=dtype)
        torch.testing.assert_close(ROUNDED[kind](weight), weight, atol=1e-5, rtol=1e-2)


@pytest.mark.parametrize("kind", sorted(LAYERS))
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 7), (3, 40), ()])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_that_of_the_rounded_weights_with_or_without_a_kernel(
    kind, dtype, kernels, shape, biased, monkeypatch
):
    if not kernels:
        monkeypatch.setattr(model.quantize, "has_kernels", lambda _: False)
    weight, bias = random_weight(48, 3 * GROUP, dtype), random_weight(1, 48, dtype)[0] if biased else None
    x = random_weight(max(1, torch.Size(shape).numel()), 3 * GROUP, dtype, seed=1).reshape(*shape, 3 * GROUP)
    product = LAYERS[kind](weight, bias)(x)
    expected = F.linear(x.float(), ROUNDED[kind](weight).float(), None if bias is None else bias.float())
    assert product.dtype == dtype
    assert product.shape == expected.shape
    torch.testing.assert_close(product.float(), expected, atol=TOLERANCE[dtype] * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("architecture", ["qwen3", "classic"])
@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_quantized_model_is_the_model_with_rounded_weights(architecture, kind):
    expected, few_bits = random_model(architecture), quantize(random_model(architecture), kind)
    with torch.no_grad():
        for module in expected.modules():
            if isinstance(module, nn.Linear):
                fits = kind == "int4" and module.out_features % 16 == 0
                module.weight.copy_(ROUNDED["int4" if fits else "int8"](module.weight))
        if architecture == "qwen3":
            tied = expected.model.embed_tokens.weight
            tied.copy_(ROUNDED["int8"](tied))
    ids = torch.randint(211, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(few_bits(ids), expected(ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_quantized_model_says_nearly_what_it_said(kind):
    ids = torch.randint(211, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, rounded = random_model()(ids), quantize(random_model(), kind)(ids)
    error = (rounded - exact).std() / exact.std()
    assert 0 < error < {"int8": 0.02, "int4": 0.3}[kind]


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_quantized_model_writes_the_same_with_a_cache_and_without(kind):
    few_bits = quantize(random_model(), kind)
    tokens = torch.randint(211, (80,), generator=torch.Generator().manual_seed(0)).tolist()
    cached, recomputed = (reading(few_bits, [5], len(tokens)) for reading in (CachedContext, RecomputedContext))
    for length in range(5, len(tokens)):
        torch.testing.assert_close(
            cached.logits([tokens[:length]]), recomputed.logits([tokens[:length]]), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.52), ("int4", 0.32)])
def test_few_bits_take_their_share_of_bfloat16s_memory(kind, share):
    story = preset("story", layers=2, vocab_size=2_048)  # two layers and their part of the vocabulary
    whole = num_bytes(build(story).bfloat16())
    assert num_bytes(quantize(build(story).bfloat16(), kind)) <= share * whole


def test_another_kind_is_refused():
    with pytest.raises(ConfigError, match="'int2'; there are int8 and int4"):
        quantize(random_model(), "int2")

"""Laws of few bits: how far a weight may move, that the products compute the definition, what it weighs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import model.products
import model.quantize
from model.build import LanguageModel, build
from model.config import PRESETS, ModelConfig, preset
from model.context import CachedContext, RecomputedContext
from model.errors import ConfigError
from model.fused import ROWS, FusedTransformer
from model.products import GROUP, HAS_LOOPS, MOST_ROWS, FastestTied, by_loop, fastest
from model.quantize import (
    Biased,
    Int4Linear,
    Int8Linear,
    from_int4,
    from_int8,
    pack,
    quantize,
    to_int4,
    to_int8,
    unpack,
)

ROOT = Path(__file__).parents[2]
LAYERS = {"int8": Int8Linear, "int4": Int4Linear}
ROUNDED = {"int8": lambda weight: from_int8(*to_int8(weight)), "int4": lambda weight: from_int4(*to_int4(weight))}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


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


@pytest.fixture(params=["loops", "bfloat16", "plain"])
def products(request, monkeypatch) -> str:
    """How there is multiplied: by loops where rows are few; by torch in bfloat16; in the numbers' own format."""
    if request.param == "loops" and not HAS_LOOPS:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(model.products, "HAS_LOOPS", request.param == "loops")
    monkeypatch.setattr(
        model.quantize, "pick_dtype", lambda *_: torch.float32 if request.param == "plain" else torch.bfloat16
    )
    return request.param


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
    assert ((ROUNDED["int8"](weight) - weight).abs() <= level * (0.5 + 2**-9)).all()  # levels are bfloat16


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
    zero = grouped.abs().amax(-1).repeat_interleave(GROUP, 1) * 2**-8  # it is bfloat16, and so are levels
    assert ((ROUNDED["int4"](weight) - weight).abs() <= level * 0.5 + zero).all()


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_weights_that_are_all_alike_are_kept(kind):
    for value in (0.0, 0.5, -0.01):
        weight = torch.full((16, GROUP), value)
        torch.testing.assert_close(ROUNDED[kind](weight), weight, atol=1e-5, rtol=1e-2)


@pytest.mark.parametrize("kind", sorted(LAYERS))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 7), (3, 40), (1,), ()])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_that_of_the_rounded_weights_whatever_multiplies(kind, dtype, products, shape, biased):
    weight, bias = random_weight(48, 3 * GROUP, dtype), random_weight(1, 48, dtype)[0] if biased else None
    x = random_weight(max(1, torch.Size(shape).numel()), 3 * GROUP, dtype, seed=1).reshape(*shape, 3 * GROUP)
    layer = LAYERS[kind].of([weight])[0]
    product = Biased(layer, bias)(x)
    few = len(x.reshape(-1, 3 * GROUP)) <= MOST_ROWS[layer.levels.dtype]
    inputs, tolerance = x.float(), 1e-5
    if products == "bfloat16" or (products == "loops" and not few):
        inputs, tolerance = inputs.bfloat16().float(), 2**-8  # as the product is, or the weights are
    if dtype != torch.float32:
        tolerance = 3e-2 if dtype == torch.bfloat16 else 4e-3  # of the product, and of terms where weights become whole
    expected = F.linear(inputs, ROUNDED[kind](weight), None if bias is None else bias.float())
    assert (product.dtype, product.shape) == (dtype, expected.shape)
    torch.testing.assert_close(product.float(), expected, atol=tolerance * expected.abs().max().item(), rtol=0)
    assert layer.nbytes <= weight.numel() * (1.02 if kind == "int8" else 0.57)


@given(outputs=st.integers(1, 5), groups=st.integers(1, 3), seed=st.integers(0, 99))
def test_levels_of_4_bits_are_two_in_a_byte_and_come_back(outputs, groups, seed):
    levels = torch.randint(16, (outputs, groups * GROUP), generator=torch.Generator().manual_seed(seed))
    packed = pack(levels.to(torch.uint8))
    assert (packed.shape, packed.dtype) == ((outputs, groups * GROUP // 2), torch.uint8)
    assert torch.equal(unpack(packed).long(), levels)
    assert (packed[0, 0] & 15, packed[0, 0] >> 4) == (levels[0, 0], levels[0, GROUP // 2])


@pytest.mark.skipif(not HAS_LOOPS, reason="numba is not installed")
@pytest.mark.parametrize(("kind", "inputs"), [("int4", 3 * GROUP), *(("int8", n) for n in (7, 63, 64, 65, 200))])
def test_what_a_row_is_together_with_changes_no_bit_of_its_product(kind, inputs):
    layer, x = LAYERS[kind].of([random_weight(47, inputs)])[0], random_weight(9, inputs, seed=1)
    x[3], x[5] = 0, 1000 * x[5]
    together = by_loop(x, layer.matrix)
    assert all(torch.equal(by_loop(row, layer.matrix), product) for row, product in zip(x, together, strict=True))
    assert not together[3].any()


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_matrices_of_all_layers_are_rounded_each_by_itself(kind):
    weights, x = [random_weight(6, GROUP, seed=seed) for seed in range(3)], random_weight(2, GROUP, seed=9)
    layers = LAYERS[kind].of(weights)
    assert layers.nbytes == sum(layers[i].nbytes for i in range(3))
    for i, weight in enumerate(weights):
        torch.testing.assert_close(layers[i](x), F.linear(x, ROUNDED[kind](weight)), atol=0.2, rtol=0)
        assert torch.equal(layers[i](x), LAYERS[kind].of([weight])[0](x))


@pytest.mark.parametrize("architecture", ["qwen3", "classic"])
@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_quantized_model_is_the_model_with_rounded_weights(architecture, kind, products):
    expected, few_bits = random_model(architecture), quantize(random_model(architecture), kind)
    with torch.no_grad():
        for module in expected.modules():
            if isinstance(module, nn.Linear):
                fits = kind == "int4" and module.in_features % GROUP == 0
                module.weight.copy_(ROUNDED["int4" if fits else "int8"](module.weight))
        if architecture == "qwen3":
            tied = expected.model.embed_tokens.weight
            tied.copy_(ROUNDED["int8"](tied))
    ids = torch.randint(211, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        error = few_bits(ids) - expected(ids)
        assert error.std() <= (1e-5 if products == "plain" else 0.01 * expected(ids).std())


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_quantized_model_says_nearly_what_it_said(kind, products):
    ids = torch.randint(211, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, rounded = random_model()(ids), quantize(random_model(), kind)(ids)
    error = (rounded - exact).std() / exact.std()
    assert 0 < error < {"int8": 0.02, "int4": 0.3}[kind]


@pytest.mark.skipif(not HAS_LOOPS, reason="numba is not installed")
@pytest.mark.parametrize("rows", [1, 5, ROWS + 1])
@pytest.mark.parametrize("kind", ["int8", "int4", torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_token_by_token_a_model_of_few_bits_says_nearly_what_its_rounded_weights_say(kind, rows):
    """As stories are written: with a cache, by loops for a few stories and by torch for many."""
    if isinstance(kind, str):
        few_bits, expected = quantize(random_model(), kind), random_model()
        for module in expected.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                fits = kind == "int4" and isinstance(module, nn.Linear)
                module.weight.copy_(ROUNDED["int4" if fits else "int8"](module.weight))
    else:
        few_bits, expected = FusedTransformer(random_model().to(kind), fastest, FastestTied), random_model()
        expected = expected.to(kind).float()
    ids = torch.randint(211, (rows, 20), generator=torch.Generator().manual_seed(0))
    cache = few_bits.new_cache(rows)
    read = torch.cat([few_bits(token, cache=cache) for token in ids.split(1, dim=1)], dim=1)
    said = expected(ids)
    assert (read - said).std() < (1e-5 if rows <= ROWS else 2e-2) * said.std()


@torch.inference_mode()
def test_sums_of_levels_are_not_taken_in_a_format_that_they_overflow(monkeypatch):
    monkeypatch.setattr(model.quantize, "pick_dtype", lambda *_: torch.float16)
    layer, rows = Int8Linear.of([torch.ones(3, 2000)])[0], MOST_ROWS[torch.int8] + 1
    torch.testing.assert_close(layer(torch.ones(rows, 2000)), torch.full((rows, 3), 2000.0), rtol=1e-2, atol=0)


def test_a_classic_model_in_8_bits_is_read_with_gradients_on():
    assert quantize(random_model("classic"), "int8")(torch.tensor([[1, 2, 3]])).isfinite().all()


@pytest.mark.parametrize("kind", sorted(LAYERS))
@pytest.mark.parametrize("products", ["plain"], indirect=True)  # the others round few rows otherwise than many
def test_a_quantized_model_writes_the_same_with_a_cache_and_without(kind, products):
    few_bits = quantize(random_model(), kind)
    tokens = torch.randint(211, (80,), generator=torch.Generator().manual_seed(0)).tolist()
    cached, recomputed = (reading(few_bits, [5], len(tokens)) for reading in (CachedContext, RecomputedContext))
    for length in range(5, len(tokens)):
        torch.testing.assert_close(
            cached.logits([tokens[:length]]), recomputed.logits([tokens[:length]]), atol=1e-4, rtol=0
        )


SHARES = [(name, "int8", 0.52) for name in PRESETS if name != "classic"] + [
    (name, "int4", 0.32) for name in ("story", "large")
]


@pytest.mark.parametrize(("name", "kind", "share"), SHARES)  # the vocabulary, int8 always, is much of the small ones
def test_few_bits_take_their_share_of_bfloat16s_bytes(name, kind, share):
    sizes = replace(PRESETS[name], layers=2, vocab_size=PRESETS[name].vocab_size * 2 // PRESETS[name].layers)
    assert quantize(build(sizes), kind).weight_bytes <= share * 2 * sizes.num_parameters


@pytest.mark.slow  # it measures the memory of a process of its own
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize(("kind", "share"), [("int8", 0.52), ("int4", 0.32)])
def test_few_bits_take_their_share_of_bfloat16s_memory(kind, share):
    """As the system counts it: products keep weights where torch does not."""
    script = f"""
import ctypes, gc, re, torch
from pathlib import Path
from model.build import build
from model.config import preset
from model.quantize import quantize

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # give back what is free
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])  # no program text

def read(model):
    with torch.inference_mode():
        model(torch.zeros(1, 9, dtype=torch.long))

read(quantize(build(preset("story", layers=1, vocab_size=64)), "{kind}"))  # what the products take once
before = resident()
model = quantize(build(preset("story")), "{kind}")
read(model)
print((resident() - before) / (2 * model.num_parameters))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) <= share + 0.02  # the tables of angles, and the like


def test_another_kind_is_refused():
    with pytest.raises(ConfigError, match="'int2'; there are int8 and int4"):
        quantize(random_model(), "int2")

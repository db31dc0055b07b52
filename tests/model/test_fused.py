"""Laws of the layout for writing: it says what the transformer says, however it is asked."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import model.products
from bpe import Tokenizer
from data.layout import SPECIAL_TOKENS
from model.attention import RMSNorm
from model.build import build
from model.config import ModelConfig, preset
from model.context import CachedContext, RecomputedContext
from model.fused import ROWS, FusedNorm, FusedTransformer
from model.products import HAS_LOOPS, FastestTied, fastest
from model.quantize import quantize
from model.sampling import Sampling
from model.story import Story, write_together
from model.transformer import Transformer

CONTEXT = 24
TOK = Tokenizer.train(["the man swam to the ship; the ship sank. "] * 3, vocab_size=270, special_tokens=SPECIAL_TOKENS)


def random_transformer(kv_heads: int = 2, dtype: torch.dtype = torch.float32) -> Transformer:
    torch.manual_seed(kv_heads)
    config = ModelConfig(
        vocab_size=TOK.vocab_size, context=CONTEXT, width=48, layers=3, heads=4, kv_heads=kv_heads, hidden=80,
        head_size=16, norm_eps=1e-3,
    )  # fmt: skip
    transformer = build(config)
    assert isinstance(transformer, Transformer)
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.2)
    return transformer.to(dtype).eval()


def fused(transformer: Transformer) -> FusedTransformer:
    return FusedTransformer(transformer, fastest, FastestTied)


def in_torch_alone(model: FusedTransformer) -> FusedTransformer:
    """One token goes through torch's calls, as many do, where there are no loops."""
    model.one_token = None
    return model


TRANSFORMERS = {kv_heads: random_transformer(kv_heads) for kv_heads in (1, 2, 4)}
FUSED = {kv_heads: fused(transformer) for kv_heads, transformer in TRANSFORMERS.items()}
WITHOUT_LOOPS = {kv_heads: in_torch_alone(fused(transformer)) for kv_heads, transformer in TRANSFORMERS.items()}
if HAS_LOOPS:
    import model.one_token

shapes = {"kv_heads": st.sampled_from(sorted(FUSED)), "seed": st.integers(0, 2**32 - 1), "rows": st.integers(1, 3)}


@settings(max_examples=40, deadline=None)
@given(**shapes, time=st.integers(1, CONTEXT), in_segments=st.booleans(), at_places=st.booleans())
@torch.inference_mode()
def test_it_says_what_the_transformer_says(kv_heads, seed, rows, time, in_segments, at_places):
    torch.manual_seed(seed)
    ids = torch.randint(TOK.vocab_size, (rows, time))
    where = {
        "segments": torch.randint(0, 3, (rows, time)) if in_segments else None,
        "positions": torch.randint(0, CONTEXT, (rows, time)) if at_places else None,
    }
    expected = TRANSFORMERS[kv_heads](ids, **where)
    torch.testing.assert_close(FUSED[kv_heads](ids, **where), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


@settings(max_examples=40, deadline=None)
@given(**shapes, chunks=st.lists(st.integers(1, 5), min_size=1, max_size=8), loops=st.booleans())
@torch.inference_mode()
def test_it_reads_on_from_a_cache_as_the_transformer_reads_anew(kv_heads, seed, rows, chunks, loops):
    torch.manual_seed(seed)
    fused = (FUSED if loops else WITHOUT_LOOPS)[kv_heads]
    chunks = [chunk for i, chunk in enumerate(chunks) if sum(chunks[: i + 1]) <= CONTEXT]
    ids, cache = torch.randint(TOK.vocab_size, (rows, sum(chunks))), fused.new_cache(rows)
    read = torch.cat([fused(part, cache=cache) for part in ids.split(chunks, dim=1)], dim=1)
    torch.testing.assert_close(read, TRANSFORMERS[kv_heads](ids), atol=1e-4, rtol=0)


@pytest.mark.slow  # every story is written by recomputation, too
@settings(max_examples=10, deadline=None)
@given(
    prompts=st.lists(st.text(alphabet="the shipman", max_size=20), min_size=1, max_size=3),
    temperature=st.sampled_from([0.0, 0.8, 2.0]),
    seed=st.integers(0, 2**32),
    stage=st.sampled_from(["pretrain", "finetune"]),
)
def test_its_stories_are_the_transformers_token_for_token(prompts, temperature, seed, stage):
    def written(model, reading) -> list[list[int]]:
        stories = [
            Story(model, TOK, prompt, sampling=Sampling(temperature=temperature), max_tokens=3 * CONTEXT, ending="cut",
                  seed=seed + i, stage=stage)
            for i, prompt in enumerate(prompts)
        ]  # fmt: skip
        list(write_together(stories, reading))
        return [story.tokens for story in stories]

    recomputed = written(TRANSFORMERS[2], RecomputedContext)
    assert written(FUSED[2], CachedContext) == recomputed
    assert written(WITHOUT_LOOPS[2], CachedContext) == recomputed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_weights_of_16_bits_say_nearly_what_they_said(dtype):
    """Products in 16 bits, sums between them in float32: nearer to the exact answer than the transformer in 16 bits."""
    transformer = random_transformer(2, dtype)
    ids = torch.randint(TOK.vocab_size, (2, CONTEXT), generator=torch.Generator().manual_seed(0))
    exact = transformer.float()(ids)
    ours, theirs = fused(random_transformer(2, dtype))(ids), random_transformer(2, dtype)(ids)
    assert (ours - exact).std() < 0.02 * exact.std()
    assert (ours - exact).std() < (theirs - exact).std()


@given(size=st.integers(1, 40), scale=st.sampled_from([0.0, 1e-4, 1.0, 1e4]), seed=st.integers(0, 99))
@settings(deadline=None)
@torch.inference_mode()
def test_a_norm_by_way_of_the_length_is_the_norm(size, scale, seed):
    torch.manual_seed(seed)
    norm, x = RMSNorm(size, eps=1e-6), torch.randn(3, 2, size) * scale
    nn.init.normal_(norm.weight)
    torch.testing.assert_close(FusedNorm(norm)(x), norm(x), atol=1e-5, rtol=1e-5)


def test_it_knows_its_shape_its_stage_and_how_much_it_reads_for_a_token():
    story = preset("story", layers=1, vocab_size=TOK.vocab_size)
    transformer = build(story)
    transformer.stage = "pretrain"
    model = fused(transformer)
    assert (model.config, model.stage, model.num_parameters) == (story, "pretrain", story.num_parameters)
    norms = 2 * 640 + 640 + 2 * 64
    assert model.weight_bytes == 4 * (story.num_parameters - norms)
    assert fused(build(story).half()).weight_bytes == 2 * (story.num_parameters - norms)


@pytest.mark.skipif(not HAS_LOOPS, reason="numba is not installed")
@torch.inference_mode()
def test_one_token_in_rows_of_different_lengths_goes_through_loops_as_through_torch(monkeypatch):
    """Caches that have read on by themselves, and one that a finished text has left."""

    def hidden(model: FusedTransformer) -> torch.Tensor:
        cache = model.new_cache(3)
        for row, length in enumerate((5, 2, 9)):
            one = cache.row(row)
            model.hidden(torch.arange(length)[None], cache=one)
            cache.lengths[row] = one.length
        cache.drop(0)
        return torch.stack([model.hidden(torch.tensor([[7], [i]]), cache=cache) for i in range(4)])

    expected = hidden(WITHOUT_LOOPS[2])
    torch.testing.assert_close(hidden(FUSED[2]), expected, atol=1e-5, rtol=0)
    monkeypatch.setattr(model.one_token, "next_hidden", lambda *arrays: np.zeros((2, 48), dtype=np.float32))
    assert (hidden(FUSED[2]) - expected).abs().max() > 0.1  # it is loops that answered


@torch.inference_mode()
def test_one_token_is_read_where_it_is_said_to_stand_and_in_no_segment():
    for laid_out in (FUSED[2], WITHOUT_LOOPS[2]):
        ids, cache, place = torch.tensor([[3], [5]]), laid_out.new_cache(2), torch.tensor([[4], [9]])
        expected = TRANSFORMERS[2](ids, positions=place)
        torch.testing.assert_close(laid_out(ids, positions=place, cache=cache), expected, atol=1e-4, rtol=0)
        with pytest.raises(ValueError, match="segment"):
            laid_out(ids, segments=torch.zeros_like(ids), cache=cache)


@pytest.mark.skipif(not HAS_LOOPS, reason="numba is not installed")
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16", "int8", "int4"])
@torch.inference_mode()
def test_a_row_is_bit_for_bit_the_same_alone_and_among_others_that_come_and_go(kind):
    """However many there are, up to ROWS, and where some are finished before others."""
    torch.manual_seed(0)
    transformer = build(ModelConfig(vocab_size=TOK.vocab_size, context=CONTEXT, width=64, layers=2, hidden=100, heads=3,
                                    kv_heads=3, head_size=16))  # fmt: skip
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.2)
    if kind.startswith("int"):
        laid_out = quantize(transformer, kind)
    else:
        dtype = getattr(torch, kind)
        laid_out = FusedTransformer(transformer, partial(fastest, dtype=dtype), partial(FastestTied, dtype=dtype))
    texts = torch.randint(TOK.vocab_size, (ROWS, 10))

    def hidden(rows: list[int]) -> dict[int, list[torch.Tensor]]:
        """Of every row at every place; row i is finished after 3 + i tokens."""
        rows, cache, said = list(rows), laid_out.new_cache(len(rows)), {row: [] for row in rows}
        for place in range(10):
            for row, state in zip(rows, laid_out.hidden(texts[rows, place, None], cache=cache), strict=True):
                said[row].append(state)
            for i in reversed([i for i, row in enumerate(rows) if place == 3 + row]):
                cache.drop(i)
                rows[i] = rows[-1]
                del rows[-1]
        return said

    alone = {row: hidden([row])[row] for row in range(6, ROWS)}
    for first in (0, 3, 7):
        among = hidden(list(range(first, ROWS)))
        for row in range(max(first, 6), ROWS):
            assert len(alone[row]) == 10
            assert all(torch.equal(a, b) for a, b in zip(alone[row], among[row], strict=True)), (first, row)


@pytest.mark.skipif(not HAS_LOOPS, reason="numba is not installed")
@torch.inference_mode()
def test_rows_that_are_not_those_of_the_cache_are_refused():
    with pytest.raises(ValueError, match="3 rows"):
        FUSED[2](torch.tensor([[1], [2], [3]]), cache=FUSED[2].new_cache(2))


def test_nothing_is_learnt_through_it():
    assert not FUSED[2](torch.tensor([[1, 2, 3]])).requires_grad

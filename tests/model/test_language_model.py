"""Laws of every model, whichever its design: what a position may depend on, and what the cache may not change."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.config import ModelConfig
from model.errors import ModelError

CONTEXT = 24
CONFIGS = {
    "all heads": ModelConfig(
        vocab_size=50, context=CONTEXT, width=32, layers=2, heads=2, kv_heads=2, hidden=48, head_size=16
    ),
    "grouped": ModelConfig(
        vocab_size=50, context=CONTEXT, width=32, layers=2, heads=4, kv_heads=2, hidden=48, head_size=16
    ),
    "classic": ModelConfig(
        vocab_size=50, context=CONTEXT, width=32, layers=2, heads=2, kv_heads=2, hidden=48, head_size=16, kind="classic"
    ),
}

seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=20, deadline=None)


@pytest.fixture(scope="module", params=CONFIGS)
def model(request, perturbed):
    return perturbed(CONFIGS[request.param])


def random_ids(seed: int, rows: int, time: int) -> Tensor:
    return torch.randint(0, 50, (rows, time), generator=torch.Generator().manual_seed(seed))


def assert_same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@laws
@given(seed=seeds, time=st.integers(2, CONTEXT), data=st.data())
def test_no_position_sees_the_future(model, seed, time, data):
    now = data.draw(st.integers(1, time - 1))
    ids, others = random_ids(seed, 1, time), random_ids(seed + 1, 1, time)
    changed = torch.cat((ids[:, :now], others[:, now:]), dim=1)
    assert_same(model(ids)[:, :now], model(changed)[:, :now])


@laws
@given(seed=seeds, time=st.integers(2, CONTEXT), data=st.data())
def test_every_position_sees_its_whole_past(model, seed, time, data):
    past = data.draw(st.integers(0, time - 1))
    ids = random_ids(seed, 1, time)
    changed = ids.clone()
    changed[0, past] = (changed[0, past] + 1) % 50
    difference = (model(ids) - model(changed)).abs().amax(dim=2)[0]
    assert (difference[past:] > 1e-5).all()


@laws
@given(seed=seeds, lengths=st.lists(st.integers(1, 8), min_size=1, max_size=3))
def test_packed_segments_are_what_each_is_alone(model, seed, lengths):
    ids = random_ids(seed, 2, sum(lengths))
    segments = torch.cat([torch.full((2, length), number) for number, length in enumerate(lengths)], dim=1)
    positions = torch.cat([torch.arange(length).expand(2, length) for length in lengths], dim=1)
    alone = [model(part) for part in ids.split(lengths, dim=1)]
    assert_same(model(ids, positions=positions, segments=segments), torch.cat(alone, dim=1))


@laws
@given(seed=seeds, chunks=st.lists(st.integers(1, 9), min_size=1, max_size=4).filter(lambda c: sum(c) <= CONTEXT))
def test_cached_and_uncached_logits_agree_whatever_the_chunks(model, seed, chunks):
    ids, cache = random_ids(seed, 2, sum(chunks)), model.new_cache(2)
    cached = torch.cat([model(part, cache=cache) for part in ids.split(chunks, dim=1)], dim=1)
    assert_same(cached, model(ids))
    assert cache.length == sum(chunks)
    cache.reset()
    assert_same(model(ids, cache=cache), model(ids))


@laws
@given(seed=seeds, rows=st.integers(2, 4), time=st.integers(1, CONTEXT))
def test_rows_of_a_batch_do_not_know_of_each_other(model, seed, rows, time):
    ids = random_ids(seed, rows, time)
    assert_same(model(ids), torch.cat([model(row[None]) for row in ids]))


@laws
@given(seed=seeds, time=st.integers(1, 8), start=st.integers(0, CONTEXT - 8))
def test_positions_given_are_those_used(model, seed, time, start):
    ids = random_ids(seed, 1, start + time)
    positions = torch.arange(start + time)[None]
    assert_same(model(ids, positions=positions), model(ids))
    if len(ids.unique()) > 1:  # where all tokens are alike, so is what is gathered of them, from wherever
        moved = positions.clone()
        moved[0, -1] = 0
        assert not torch.equal(model(ids, positions=moved)[0, -1], model(ids)[0, -1])


def test_forward_is_the_logits_of_hidden_and_they_may_be_taken_in_pieces(model):
    ids = random_ids(0, 2, 9)
    hidden = model.hidden(ids)
    assert hidden.shape == (2, 9, 32)
    assert_same(torch.cat([model.logits(part) for part in hidden.split(4, dim=1)], dim=1), model(ids))


def test_logits_are_float32_in_any_dtype_and_the_cache_has_that_of_the_model(perturbed):
    for config in CONFIGS.values():
        model = perturbed(config).to(torch.bfloat16)
        cache = model.new_cache(1)
        logits = model(random_ids(0, 1, 5), cache=cache)
        assert (logits.dtype, cache.kept.dtype) == (torch.float32, torch.bfloat16)
        assert logits.isfinite().all()


def test_a_cache_may_be_smaller_than_the_context_and_says_when_it_is_full(model):
    cache = model.new_cache(1, context=4)
    model(random_ids(0, 1, 4), cache=cache)
    with pytest.raises(ModelError, match="a context of 4"):
        model(random_ids(0, 1, 1), cache=cache)
    assert cache.length == 4


def test_more_tokens_than_the_context_are_refused(model):
    with pytest.raises(ModelError, match=f"{CONTEXT + 1} tokens do not fit in a context of {CONTEXT}"):
        model(random_ids(0, 1, CONTEXT + 1))


def test_every_parameter_takes_part_in_training(model):
    try:
        model(random_ids(0, 2, CONTEXT)).logsumexp(dim=2).sum().backward()
        still = [
            name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
        ]
    finally:
        model.zero_grad(set_to_none=True)
    assert still == []

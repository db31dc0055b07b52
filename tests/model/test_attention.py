"""Attention is held to its definition, written slowly; each of its parts to a law of its own."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.attention import (
    Cache,
    RMSNorm,
    attend,
    attend_in_blocks,
    attend_written_out,
    join_heads,
    positions_of,
    rotary_tables,
    rotate,
    split_heads,
    visible,
)
from model.errors import ModelError

seeds = st.integers(0, 2**32 - 1)


def plain_attention(queries: Tensor, keys: Tensor, values: Tensor, may_see: Tensor, scale: float) -> Tensor:
    """The definition: each query's mean of the values it may see, weighted by the exponentials of its scores."""
    result = torch.zeros_like(queries)
    batch, heads, time, _ = queries.shape
    queries_of_a_key = heads // keys.size(1)
    for b in range(batch):
        for h in range(heads):
            for t in range(time):
                key = h // queries_of_a_key
                seen = may_see[b, t].nonzero().flatten()
                scores = [scale * float(queries[b, h, t] @ keys[b, key, s]) for s in seen]
                weights = [math.exp(score - max(scores)) for score in scores]
                for weight, s in zip(weights, seen, strict=True):
                    result[b, h, t] += weight / sum(weights) * values[b, key, s]
    return result


def may_see(time: int, read: int, segments: Tensor | None, batch: int) -> Tensor:
    """The definition of who sees whom, (batch, time, read + time): no later key, none of another segment."""
    result = torch.zeros(batch, time, read + time, dtype=torch.bool)
    for b in range(batch):
        for t in range(time):
            for s in range(read + t + 1):
                result[b, t, s] = segments is None or segments[b, t] == segments[b, s]
    return result


ONE_OF_MANY = {"batch": 2, "kv_heads": 2, "shared_by": 3, "read": 4, "in_segments": False, "scale": None, "block": 2}


@example(seed=0, time=1, **ONE_OF_MANY)
@example(seed=0, time=3, **ONE_OF_MANY)
@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 3),
    shared_by=st.integers(1, 3),
    time=st.integers(1, 6),
    read=st.integers(0, 4),
    in_segments=st.booleans(),
    scale=st.sampled_from([None, 0.1]),
    block=st.integers(1, 7),
)
def test_attention_is_its_definition(seed, batch, kv_heads, shared_by, time, read, in_segments, scale, block):
    torch.manual_seed(seed)
    read = 0 if in_segments else read
    queries = torch.randn(batch, kv_heads * shared_by, time, 4) * 3
    keys, values = torch.randn(2, batch, kv_heads, read + time, 4)
    segments = torch.randint(0, 3, (batch, time)) if in_segments else None
    cache = Cache(1, batch, kv_heads, 10, 4)
    cache.lengths = [read] * batch
    cache.begin(time)
    mask = visible(torch.zeros(batch, time, dtype=torch.long), segments, None if in_segments else cache)
    expected = plain_attention(queries, keys, values, may_see(time, read, segments, batch), scale or 4**-0.5)
    torch.testing.assert_close(attend(queries, keys, values, mask, scale), expected, atol=1e-5, rtol=1e-5)
    keys, values = (x.repeat_interleave(shared_by, dim=1) for x in (keys, values))
    written_out = attend_written_out(queries, keys, values, mask, scale)
    torch.testing.assert_close(written_out, expected, atol=1e-5, rtol=1e-5)
    in_blocks = attend_in_blocks(queries, keys, values, mask, scale, block)
    torch.testing.assert_close(in_blocks, expected, atol=1e-5, rtol=1e-5)


def test_a_cache_refuses_segments():
    ids = torch.zeros(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="segment"):
        visible(ids, ids, Cache(1, 1, 1, 4, 2))


@given(seed=seeds, position=st.integers(0, 5_000), half=st.integers(1, 16), theta=st.sampled_from([100.0, 10_000.0]))
@settings(deadline=None)
def test_rotation_is_multiplication_by_unit_complex_numbers(seed, position, half, theta):
    torch.manual_seed(seed)
    x = torch.randn(1, 1, 1, 2 * half)
    turned = rotate(x, *rotary_tables(torch.tensor([[position]]), 2 * half, theta))[0, 0, 0]
    for i in range(half):
        angle = position * theta ** (-i / half)
        expected = complex(x[..., i], x[..., i + half]) * complex(math.cos(angle), math.sin(angle))
        assert abs(complex(turned[i], turned[i + half]) - expected) < 2e-3  # float32 angles up to 5,000 radians


@given(seed=seeds, first=st.integers(0, 200), second=st.integers(0, 200), shift=st.integers(0, 200))
@settings(deadline=None)
def test_scores_of_rotated_heads_depend_on_distance_alone(seed, first, second, shift):
    torch.manual_seed(seed)
    query, key = torch.randn(2, 1, 1, 1, 16)

    def score(query_position: int, key_position: int) -> Tensor:
        at = [rotary_tables(torch.tensor([[position]]), 16, 10_000.0) for position in (query_position, key_position)]
        return (rotate(query, *at[0]) * rotate(key, *at[1])).sum()

    torch.testing.assert_close(score(first, second), score(first + shift, second + shift), atol=1e-3, rtol=1e-3)


def test_rotation_keeps_the_dtype_of_what_it_turns():
    tables = rotary_tables(torch.arange(3)[None], 4, 10_000.0)
    assert tables[0].dtype == torch.float32
    assert rotate(torch.ones(1, 1, 3, 4, dtype=torch.bfloat16), *tables).dtype == torch.bfloat16


@given(seed=seeds, size=st.integers(1, 20))
@settings(deadline=None)
def test_rms_norm_is_its_definition(seed, size):
    torch.manual_seed(seed)
    norm, x = RMSNorm(size, eps=1e-6), torch.randn(3, size)
    torch.nn.init.normal_(norm.weight)
    expected = [[v / math.sqrt(sum(u * u for u in row) / size + 1e-6) for v in row] for row in x.tolist()]
    torch.testing.assert_close(norm(x), torch.tensor(expected) * norm.weight, atol=1e-4, rtol=1e-4)


def test_joining_undoes_splitting_and_a_head_is_a_stretch_of_channels():
    x = torch.arange(2 * 3 * 8).view(2, 3, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 2, 3, 4)
    assert heads[1, 1, 2].tolist() == x[1, 2, 4:].tolist()
    assert torch.equal(join_heads(heads), x)


def test_a_cache_returns_all_it_was_given_in_order_and_forgets_on_reset():
    cache, given_keys = Cache(2, 1, 1, 5, 2), torch.randn(1, 1, 5, 2)
    for start, stop in ((0, 2), (2, 3), (3, 5)):
        cache.begin(stop - start)
        for layer in range(2):
            new = given_keys[:, :, start:stop]
            keys, values = cache.extend(layer, torch.cat((new + layer, -new), dim=1))
            assert torch.equal(keys, given_keys[:, :, :stop] + layer)
            assert torch.equal(values, -given_keys[:, :, :stop])
        cache.advance()
    cache.reset()
    assert cache.length == 0
    cache.begin(1)
    assert cache.extend(0, torch.cat((given_keys[:, :, :1],) * 2, dim=1))[0].size(2) == 1


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    time=st.integers(1, 3),
    dropped=st.none() | st.integers(0, 3),
)
def test_rows_of_a_cache_attend_as_if_alone_whatever_their_lengths(seed, lengths, time, dropped):
    torch.manual_seed(seed)
    cache, alone = Cache(1, len(lengths), 2, 10, 4), [Cache(1, 1, 2, 10, 4) for _ in lengths]
    for row, length in enumerate(lengths):
        read, one = torch.randn(1, 4, length, 4), cache.row(row)
        for mine in (one, alone[row]):
            mine.begin(length)
            mine.extend(0, read)
            mine.advance()
        cache.lengths[row] = one.length
    if dropped is not None and dropped < len(lengths) > 1:
        cache.drop(dropped)
        alone[dropped] = alone[-1]
        del alone[-1]
    assert cache.lengths == [one.length for one in alone]
    queries, new = torch.randn(2, len(alone), 4, time, 4)
    ids = torch.zeros(len(alone), time, dtype=torch.long)
    places = positions_of(ids, None, cache, 10)
    together = attend(queries, *cache.extend(0, new), visible(ids, None, cache))
    for row, one in enumerate(alone):
        assert torch.equal(places[row : row + 1], positions_of(ids[:1], None, one, 10))
        mask = visible(ids[:1], None, one)
        expected = attend(queries[row : row + 1], *one.extend(0, new[row : row + 1]), mask)
        torch.testing.assert_close(together[row : row + 1], expected)


def test_positions_count_on_from_what_the_cache_has_read():
    ids, cache = torch.zeros(2, 3, dtype=torch.long), Cache(1, 2, 1, 8, 2)
    cache.lengths = [4] * len(cache.lengths)
    assert positions_of(ids, None, None, 8).tolist() == [[0, 1, 2]]
    assert positions_of(ids, None, cache, 8).tolist() == [[4, 5, 6]] * 2
    assert positions_of(ids, ids, None, 8) is ids


@pytest.mark.parametrize(("room", "context"), [(6, 8), (8, 6)])
def test_more_tokens_than_there_is_room_for_are_refused(room, context):
    cache = Cache(1, 1, 1, room, 2)
    cache.lengths = [4] * len(cache.lengths)
    positions_of(torch.zeros(1, 2), None, cache, context)
    with pytest.raises(ModelError, match="7 tokens do not fit in a context of 6"):
        positions_of(torch.zeros(1, 3), None, cache, context)

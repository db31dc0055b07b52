"""Laws of the loops between products: each computes its definition. Those that test_fused.py does not come by."""

import math

import pytest

pytest.importorskip("numba", reason="numba is not installed")

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from model.attention import RMSNorm
from model.fused import FusedNorm
from model.one_token import add_and_norm, exponential, gated, gather

laws = settings(max_examples=40, deadline=None)
sizes = {"rows": st.integers(1, 5), "width": st.integers(1, 40), "seed": st.integers(0, 99)}


@laws
@given(**sizes, scale=st.sampled_from([0.0, 1e-4, 1.0, 1e4]))
def test_a_sum_is_taken_in_place_and_its_norm_is_the_norm(rows, width, seed, scale):
    torch.manual_seed(seed)
    norm, x, added = RMSNorm(width, eps=1e-6), torch.randn(rows, width) * scale, torch.randn(rows, width) * scale
    torch.nn.init.normal_(norm.weight)
    fused, summed = FusedNorm(norm), x.clone().numpy()
    with torch.no_grad():
        normed = add_and_norm(summed, added.numpy(), fused.weight.numpy(), fused.least.numpy())
        torch.testing.assert_close(torch.from_numpy(normed), norm(x + added), atol=1e-5, rtol=1e-5)
    assert np.array_equal(summed, (x + added).numpy())


@laws
@given(**sizes, scale=st.sampled_from([1.0, 30.0, 1e3]))
def test_a_gate_is_silu_however_large_its_input(rows, width, seed, scale):
    torch.manual_seed(seed)
    gate_up = torch.randn(rows, 2 * width) * scale
    gate, up = gate_up.chunk(2, dim=-1)
    torch.testing.assert_close(torch.from_numpy(gated(gate_up.numpy())), F.silu(gate) * up, rtol=1e-5, atol=1e-5)


def test_the_exponential_is_right_to_its_last_bits_and_ends_in_nothing():
    for x in np.linspace(-87.3, 88, 5001, dtype=np.float32):
        assert exponential(x) == pytest.approx(math.exp(x), rel=4e-7)
    assert exponential(np.float32(0)) == 1
    assert [exponential(np.float32(x)) for x in (-87.6, -87.9, -88, -1e9, -math.inf)] == [0] * 5
    smallest = np.finfo(np.float32).smallest_normal
    small = [exponential(x) for x in np.linspace(-88, -87, 2001, dtype=np.float32)]
    assert all(number == 0 or number >= smallest for number in small)
    assert 1e38 < exponential(np.float32(1e9)) < math.inf


@laws
@given(places=st.integers(1, 40), unread=st.integers(0, 3), seed=st.integers(0, 99), scale=st.sampled_from([1.0, 50.0]))
def test_what_a_query_gathers_is_attention_to_the_places_that_were_read(places, unread, seed, scale):
    torch.manual_seed(seed)
    query, keys, values = torch.randn(16) * scale, torch.randn(places + unread, 16), torch.randn(places + unread, 16)
    gathered = np.zeros(16, dtype=np.float32)
    gather(query.numpy(), keys.numpy(), values.numpy(), places, gathered)
    expected = (keys[:places] @ query / 4).double().softmax(0) @ values[:places].double()
    np.testing.assert_allclose(gathered, expected, atol=1e-4)

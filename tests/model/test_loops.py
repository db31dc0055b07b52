"""Laws of the loops: each computes its definition. Those that test_fused.py and test_quantize.py do not come by."""

import errno
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed")

import numba
import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from model.attention import RMSNorm
from model.fused import FusedNorm
from model.loops import (
    add_and_norm,
    compiled,
    gated,
    multiply,
    multiply_int8,
    take_threads,
    when_compiling,
)
from model.products import FEW_ROWS, LoopLinear

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


@pytest.mark.parametrize("inputs", [1, 640, 8260, 20_000])
def test_sums_of_whole_numbers_stay_within_32_bits(inputs):
    weight, x = np.full((3, inputs), 127, dtype=np.int8), np.ones((1, inputs), dtype=np.float32)
    scales = torch.ones(3, dtype=torch.bfloat16).view(torch.int16).numpy()
    assert multiply_int8(weight, scales, x) == pytest.approx(127 * inputs, rel=1e-6)
    assert multiply_int8(-weight, scales, x) == pytest.approx(-127 * inputs, rel=1e-6)
    assert not multiply_int8(weight, scales, 0 * x).any()


def test_a_loop_with_no_folder_to_keep_it_in_is_compiled_all_the_same():
    """And that it is compiled, which takes a while, is said once."""
    told, namespace = [], {}
    exec("def twice(x):\n    return 2 * x\n", namespace)  # in no file
    twice = compiled(namespace["twice"])
    with when_compiling(lambda: told.append("compiling")):
        assert (twice(3), twice(1.5)) == (6, 3.0)
    assert told == ["compiling"]
    assert twice(1j) == 2j
    assert told == ["compiling"]


def thrice(x):
    return 3 * x


def test_a_loop_that_finds_no_room_on_the_disk_is_not_kept_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as full:
        full.setattr("builtins.open", refuse_to_write)
        assert compiled(thrice)(3) == 9
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert compiled(thrice)(3) == 9
    assert [path for path in tmp_path.rglob("*") if path.is_file()]


def refuse_to_write(path, mode="r", *args, **kwargs):
    if "w" in mode:
        raise OSError(errno.ENOSPC, "No space left on device")
    return Path(path).open(mode, *args, **kwargs)


def test_rows_of_another_width_are_refused_not_read_beyond_their_end():
    x, half, scales = np.ones((1, 5), dtype=np.float32), np.zeros((3, 4), np.uint16), np.zeros(3, np.int16)
    with pytest.raises(ValueError, match="inputs"):
        multiply(half, x)
    with pytest.raises(ValueError, match="inputs"):
        multiply_int8(half.astype(np.int8), scales, x)


def test_threads_change_no_bit():
    torch.manual_seed(0)
    weight, x = torch.randn(50, 700).half().view(torch.uint16).numpy(), torch.randn(6, 700).numpy()
    take_threads(1)
    alone = multiply(weight, x)
    take_threads(2)
    assert np.array_equal(multiply(weight, x), alone)
    take_threads(1)


@laws
@given(
    rows=st.integers(1, FEW_ROWS),
    inputs=st.integers(1, 70) | st.sampled_from([319, 320, 321, 640, 700, 2240]),
    dtype=st.sampled_from(sorted(LoopLinear.BITS, key=str)),
    seed=st.integers(0, 99),
)
def test_what_a_row_is_together_with_changes_no_bit_of_its_product(rows, inputs, dtype, seed):
    """So a story is the same alone and among others."""
    torch.manual_seed(seed)
    weight = torch.randn(5, inputs).to(dtype).view(LoopLinear.BITS[dtype]).numpy()
    x = torch.randn(rows, inputs).numpy()
    together = multiply(weight, x)
    for row in range(rows):
        assert np.array_equal(multiply(weight, x[row : row + 1])[0], together[row])

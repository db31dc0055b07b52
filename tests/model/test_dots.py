"""Laws of the loop that multiplies. That it computes the product test_products.py and test_quantize.py say."""

import pytest

pytest.importorskip("numba", reason="numba is not installed")

import numba
import numpy as np
import torch

import model.dots
from model.dots import multiply
from model.loops import MOST_THREADS, take_threads


def test_rows_of_another_width_are_refused_not_read_beyond_their_end():
    x = np.ones((1, 64), dtype=np.float32)
    none, some = np.zeros((3, 0), np.int16), np.zeros((3, 2), np.int16)
    for inputs in (0, 32, 63, 65, 128):
        with pytest.raises(ValueError, match="inputs"):
            multiply(np.zeros((3, inputs), np.uint16), none, x)
        if inputs != 32:  # two levels a byte
            with pytest.raises(ValueError, match="inputs"):
                multiply(np.zeros((3, inputs), np.uint8), some, x)
    assert not multiply(np.zeros((3, 32), np.uint8), some, x).any()


def test_arrays_that_do_not_lie_row_behind_row_are_refused():
    weights = np.zeros((6, 3), np.float32).T
    with pytest.raises(Exception, match="row behind row"):
        multiply(weights, np.zeros((3, 0), np.int16), np.ones((1, 6), dtype=np.float32))


@pytest.mark.skipif(MOST_THREADS < 2, reason="there is one thread")
def test_threads_change_no_bit():
    torch.manual_seed(0)
    weight, x = torch.randn(51, 700).half().view(torch.uint16).numpy(), torch.randn(6, 700).numpy()
    none = np.zeros((51, 0), np.int16)
    take_threads(1)
    alone = multiply(weight, none, x)
    take_threads(2)
    assert np.array_equal(multiply(weight, none, x), alone)


def test_a_processor_without_halves_widens_them_by_their_bits(monkeypatch):
    every = np.arange(2**16, dtype=np.uint16)
    finite = every[np.isfinite(every.view(np.float16))]
    none = np.zeros((len(finite), 0), np.int16)
    monkeypatch.setattr(model.dots, "HAS_HALVES", False)
    otherwise = numba.njit(multiply.py_func)(finite[:, None], none, np.ones((1, 1), dtype=np.float32))
    assert np.array_equal(otherwise[0], finite.view(np.float16).astype(np.float32))

"""Laws of Muon: it moves as torch's own does, and what it moves by is nearly orthogonal."""

import copy
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.muon import Muon, orthogonal

shapes = st.lists(st.sampled_from([(3, 12), (12, 3), (8, 32), (1, 5), (4, 4)]), min_size=1, max_size=6)


def matrices_of(shapes: list[tuple[int, int]], seed: int) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


@pytest.fixture(scope="module", autouse=True)
def torchs_own_in_float32() -> Iterator[None]:
    """It multiplies bfloat16 alone, whose rounding would hide what is to be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "bfloat16", lambda self: self)
        yield


@settings(max_examples=40, deadline=None)
@given(shapes=shapes, seed=st.integers(0, 1000), steps=st.integers(1, 3))
def test_it_moves_matrices_as_torchs_own_does(shapes: list[tuple[int, int]], seed: int, steps: int) -> None:
    ours, theirs = matrices_of(shapes, seed), matrices_of(shapes, seed)
    optimizers = [
        Muon(ours, lr=0.1, weight_decay=0.3, dtype=torch.float32),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.3),
    ]
    for _ in range(steps):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, start in zip(ours, theirs, matrices_of(shapes, seed), strict=True):
        assert (one - other).norm() < 1e-4 * (other - start).norm()


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 1000))
def test_a_matrix_is_replaced_by_one_with_the_same_directions_and_nearly_equal_lengths(
    rows: int, columns: int, seed: int
) -> None:
    torch.manual_seed(seed)
    matrix = torch.randn(1, rows, columns)
    nearest = orthogonal(matrix, torch.float32)[0]
    u, lengths, v = torch.linalg.svd(matrix[0], full_matrices=False)
    turned = u.T @ nearest @ v.T
    clear = lengths > 0.05 * matrix.norm()  # what is hardly there takes more iterations to rise
    torch.testing.assert_close(turned, turned.diag().diag(), atol=1e-3, rtol=0)
    assert (turned.diag()[clear] > 0.5).all()
    assert (turned.diag() < 1.5).all()


def test_a_matrix_without_a_gradient_stays_and_one_without_momentum_only_decays() -> None:
    still, decayed = matrices_of([(3, 3), (3, 3)], 0)
    before = still.clone(), decayed.clone()
    decayed.grad = torch.zeros_like(decayed)
    Muon([still, decayed], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(still, before[0])
    torch.testing.assert_close(decayed, 0.95 * before[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_state_is_taken_over_whole(dtype: torch.dtype) -> None:
    runs = [matrices_of([(4, 6), (6, 4), (4, 6)], 1) for _ in range(2)]
    first, second = (Muon(matrices, lr=0.1, dtype=dtype) for matrices in runs)

    def step(optimizer: Muon, matrices: list[nn.Parameter], seed: int) -> None:
        torch.manual_seed(seed)
        for matrix in matrices:
            matrix.grad = torch.randn_like(matrix)
        optimizer.step()

    step(first, runs[0], 2)
    with torch.no_grad():
        for one, other in zip(*runs, strict=True):
            other.copy_(one)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer, matrices in ((first, runs[0]), (second, runs[1])):
        step(optimizer, matrices, 3)
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))

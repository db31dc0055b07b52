"""Laws of products that are laid out for speed: they are the product, for one row and for many, of any shape."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import model.products
from model.products import HAS_LOOPS, MOST_ROWS, FastestTied, LoopLinear, PlainLinear, by_loop, fastest

KINDS = {"plain float32": (PlainLinear, torch.float32), "plain bfloat16": (PlainLinear, torch.bfloat16)}
if HAS_LOOPS:
    KINDS |= {str(dtype).split(".")[1]: (LoopLinear, dtype) for dtype in LoopLinear.BITS}


def rounds_inputs(kind: str, rows: int) -> bool:
    """Whether what is multiplied is rounded, as is the product; else x is taken as it is."""
    return kind == "plain bfloat16" or (kind == "bfloat16" and rows > MOST_ROWS[torch.bfloat16])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    shape=st.sampled_from([(), (1,), (2,), (3,), (4,), (9,), (17,), (1, 1), (3, 1), (1, 5), (2, 7), (40,)]),
    inputs=st.integers(1, 40) | st.sampled_from([63, 64, 65, 700]),
    outputs=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_product_is_its_definition_whatever_its_layout_and_shape(kind, shape, inputs, outputs, seed):
    torch.manual_seed(seed)
    layout, dtype = KINDS[kind]
    weight, x = torch.randn(outputs, inputs).to(dtype), torch.randn(*shape, inputs)
    product = layout(weight)(x)
    expected = F.linear(x, weight.float())
    assert (product.dtype, product.shape) == (torch.float32, expected.shape)
    size = F.linear(x.abs(), weight.float().abs()).max().item()
    rounded = rounds_inputs(kind, product.numel() // outputs)
    assert (product - expected).abs().max() <= size * (2**-7 if rounded else 1e-6)


def test_rows_that_are_not_contiguous_are_multiplied_as_they_are():
    torch.manual_seed(0)
    x = torch.randn(3, 16, 5).transpose(1, 2)[:, 1:]
    for layout, dtype in KINDS.values():
        weight = torch.randn(8, 16).to(dtype)
        torch.testing.assert_close(layout(weight)(x), layout(weight)(x.contiguous()))


def test_no_rows_have_no_products():
    for layout, dtype in KINDS.values():
        assert layout(torch.ones(3, 8).to(dtype))(torch.ones(0, 8)).shape == (0, 3)


def test_numbers_that_no_loop_takes_are_multiplied_by_torch():
    assert type(fastest([torch.ones(3, 8, dtype=torch.float64)])) is PlainLinear


def test_an_embedding_gives_its_rows_and_the_product_with_all_of_them():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = torch.randn(11, 6).to(dtype)
        tied, ids, x = FastestTied(weight), torch.tensor([[3, 3], [0, 10]]), torch.randn(2, 6)
        assert torch.equal(tied(ids), weight.float()[ids])
        torch.testing.assert_close(tied.output(x), F.linear(x, weight.float()), atol=0.1, rtol=0)
        assert tied.nbytes == weight.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_machine_without_loops_multiplies_as_anywhere(dtype, monkeypatch):
    weight, x = torch.randn(5, 8).to(dtype), torch.randn(3, 8)
    here = fastest([weight])[0]
    assert isinstance(here, LoopLinear) == HAS_LOOPS
    monkeypatch.setattr(model.products, "HAS_LOOPS", False)
    anywhere = fastest([weight])[0]
    assert type(anywhere) is PlainLinear
    torch.testing.assert_close(here(x), anywhere(x), atol=0.1, rtol=0)


def test_numbers_of_16_bits_that_are_rare_are_multiplied_as_they_are():
    """The smallest, some that are not normal, the largest, both zeros."""
    for dtype in (torch.bfloat16, torch.float16):
        kinds = torch.finfo(dtype)
        row = torch.tensor([kinds.smallest_normal, kinds.smallest_normal / 4, kinds.max, -kinds.max, 0.0, -0.0]).to(
            dtype
        )
        product = fastest([torch.diag(row)])[0](torch.ones(1, len(row)))
        torch.testing.assert_close(product[0], row.float(), atol=0, rtol=0)


def test_matrices_of_all_layers_lie_in_one_array_and_each_can_be_had():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weights, x = [torch.randn(5, 8) for _ in range(3)], torch.randn(2, 8)
        layers = fastest(weights, dtype)
        assert layers.nbytes == sum(layers[i].nbytes for i in range(3)) == 3 * 40 * dtype.itemsize
        for i, weight in enumerate(weights):
            torch.testing.assert_close(layers[i](x), F.linear(x, weight.to(dtype).float()), atol=0.1, rtol=0)
            assert layers[i].weight.data_ptr() == layers.weight[i].data_ptr()


@pytest.mark.skipif(not HAS_LOOPS, reason="numba is not installed")
@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    rows=st.integers(1, 9),
    inputs=st.integers(1, 70) | st.sampled_from([319, 640, 2240]),
    outputs=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_what_a_row_is_together_with_changes_no_bit_of_its_product(dtype, rows, inputs, outputs, seed):
    """So a story is the same alone and among others."""
    torch.manual_seed(seed)
    product, x = fastest([torch.randn(outputs, inputs)], dtype)[0], torch.randn(rows, inputs)
    together = by_loop(x, product.matrix)
    for row in range(rows):
        assert torch.equal(by_loop(x[row], product.matrix), together[row])

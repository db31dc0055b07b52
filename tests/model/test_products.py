"""Laws of products that are laid out for speed: they are the product, for one row and for many, of any shape."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import model.products
from model.products import FastestTied, Float16Linear, PackedLinear, PlainLinear, fastest, has_fbgemm, has_onednn

KINDS = {  # those that this machine has
    "plain float32": (PlainLinear, torch.float32),
    "plain bfloat16": (PlainLinear, torch.bfloat16),
}
if has_onednn():
    KINDS["packed bfloat16"] = (PackedLinear, torch.bfloat16)
if has_fbgemm():
    KINDS["float16"] = (Float16Linear, torch.float16)
INPUTS_ROUNDED = {"plain bfloat16", "packed bfloat16"}  # as are their products; the others take x as it is


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    shape=st.sampled_from([(), (1,), (2,), (3,), (4,), (9,), (1, 1), (3, 1), (1, 5), (2, 7), (40,)]),
    inputs=st.integers(1, 40),
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
    assert (product - expected).abs().max() <= size * (2**-7 if kind in INPUTS_ROUNDED else 1e-6)


def test_rows_that_are_not_contiguous_are_multiplied_as_they_are():
    torch.manual_seed(0)
    x = torch.randn(3, 16, 5).transpose(1, 2)[:, 1:]
    for layout, dtype in KINDS.values():
        weight = torch.randn(8, 16).to(dtype)
        torch.testing.assert_close(layout(weight)(x), layout(weight)(x.contiguous()))


def test_an_embedding_gives_its_rows_and_the_product_with_all_of_them():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = torch.randn(11, 6).to(dtype)
        tied, ids, x = FastestTied(weight), torch.tensor([[3, 3], [0, 10]]), torch.randn(2, 6)
        assert torch.equal(tied(ids), weight.float()[ids])
        torch.testing.assert_close(tied.output(x), F.linear(x, weight.float()), atol=0.1, rtol=0)
        assert tied.nbytes == weight.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_machine_without_the_kernels_multiplies_as_anywhere(dtype, monkeypatch):
    weight, x = torch.randn(5, 8).to(dtype), torch.randn(3, 8)
    here = fastest(weight)
    has = {torch.float32: False, torch.bfloat16: has_onednn(), torch.float16: has_fbgemm()}[dtype]
    assert isinstance(here, PlainLinear) != has
    monkeypatch.setattr(model.products, "has_fbgemm", lambda: False)
    monkeypatch.setattr(model.products, "has_onednn", lambda: False)
    anywhere = fastest(weight)
    assert isinstance(anywhere, PlainLinear)
    torch.testing.assert_close(here(x), anywhere(x), atol=0.1, rtol=0)


def test_processors_on_which_onednn_was_not_tried_are_left_out(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")
    assert not has_onednn()

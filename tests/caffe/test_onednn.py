"""Inner products and their gradients, beside numpy's in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe import onednn
from caffe.onednn import THERE, linear

random = np.random.default_rng(0).standard_normal


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small products go to oneDNN too."""
    monkeypatch.setattr(onednn, "WORTH_CALLING", 0)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of the weights of which oneDNN makes a product."""
    shapes: list[torch.Size] = []
    real = torch.ops.mkldnn._linear_pointwise

    def counted(x: torch.Tensor, weight: torch.Tensor, *rest: object) -> torch.Tensor:
        shapes.append(weight.shape)
        return real(x, weight, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return shapes


def check(got: torch.Tensor | None, expected: np.ndarray) -> None:
    assert got is not None
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [(), (1,), (3,), (2, 3), (2, 3, 4), (0,)], ids=str)
def test_values_and_gradients(rows: tuple[int, ...], with_bias: bool, transposed: bool, always: None) -> None:
    x, flow = (torch.tensor(random((*rows, n)), dtype=torch.float32, requires_grad=True) for n in (5, 4))
    weight = torch.tensor(random((5, 4) if transposed else (4, 5)), dtype=torch.float32, requires_grad=True)
    bias = torch.tensor(random(4), dtype=torch.float32, requires_grad=True)
    y = linear(x, weight.t() if transposed else weight, bias if with_bias else None)
    y.backward(flow)
    a, w, b, g = (t.detach().double().numpy() for t in (x, weight, bias, flow))
    w = w.T if transposed else w
    check(y, a @ w.T + (b if with_bias else 0))
    check(x.grad, g @ w)
    to_weight = g.reshape(-1, 4).T @ a.reshape(-1, 5)
    check(weight.grad, to_weight.T if transposed else to_weight)
    if with_bias:
        check(bias.grad, g.reshape(-1, 4).sum(0))


@pytest.mark.skipif(not THERE, reason="this PyTorch is without")
def test_a_gradient_is_made_where_it_is_wanted(always: None, products: list[torch.Size]) -> None:
    """A frozen weight costs nothing on the way back."""
    for wanted, count in (((True, False), 2), ((False, True), 2), ((True, True), 3)):
        products.clear()
        x, weight = (torch.ones(shape).requires_grad_(w) for shape, w in zip(((3, 5), (4, 5)), wanted, strict=True))
        linear(x, weight).sum().backward()
        assert len(products) == count


@pytest.mark.skipif(not THERE, reason="this PyTorch is without")
@pytest.mark.parametrize(("rows", "goes"), [(255, False), (256, True)])
def test_only_a_large_one_is_worth_the_call(rows: int, goes: bool, products: list[torch.Size]) -> None:
    linear(torch.ones(rows, 2**8), torch.ones(2**8, 2**8))
    assert bool(products) == goes

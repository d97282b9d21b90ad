"""Layers that work in place on one blob, run as one: the same numbers as one by one, and nothing seen too late."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caffe
from caffe.errors import NetError

BATCH_NORM = """
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" }
layer { name: "scale" type: "Scale" bottom: "x" top: "x" scale_param { bias_term: true filler { value: 3 } } }
"""
CONVOLUTION = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "x"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } } }
"""
PRODUCT = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "x"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 1 } } }
"""
SUM = """
layer { name: "a" type: "Scale" bottom: "data" top: "a" }
layer { name: "b" type: "Scale" bottom: "data" top: "b" }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "x" eltwise_param { operation: SUM } }
"""


def in_place(type_: str, param: str = "") -> str:
    return f'layer {{ name: "{type_.lower()}" type: "{type_}" bottom: "x" top: "x" {param} }}\n'


RELU, SIGMOID = in_place("ReLU"), in_place("Sigmoid")
DROPOUT = in_place("Dropout", "dropout_param { dropout_ratio: 0.5 }")
LEAKY = in_place("ReLU", "relu_param { negative_slope: 0.1 }")

CHAINS = {
    "residual": CONVOLUTION + BATCH_NORM + RELU,
    "normalized": CONVOLUTION + BATCH_NORM,
    "one number a channel": PRODUCT + BATCH_NORM + RELU,
    "vgg": CONVOLUTION + RELU,
    "leaky": CONVOLUTION + LEAKY,
    "dense": PRODUCT + RELU + DROPOUT,
    "sum": SUM + RELU,
    "reads its top again": CONVOLUTION + SIGMOID + RELU,
    "in the middle": CONVOLUTION + RELU + SIGMOID,
    "normalized data": BATCH_NORM.replace('bottom: "x"', 'bottom: "data"', 1) + RELU,
    "frozen weights": CONVOLUTION.replace('top: "x"', 'top: "x" param { lr_mult: 0 }') + BATCH_NORM + RELU,
    "frozen below": CONVOLUTION.replace('top: "x"', 'top: "x"' + 2 * " param { lr_mult: 0 }") + BATCH_NORM + RELU,
}


def solver_of(
    folder: Path, chain: str, shape: str = "dim: 3 dim: 3 dim: 5 dim: 5", last: str = "x", rate: float = 0.001
) -> caffe.SGDSolver:
    """One that trains the chain, whose last blob is named, towards small numbers."""
    net, file = folder / "net.prototxt", folder / "solver.prototxt"
    net.write_text(f"""
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}
        {chain}
        layer {{ name: "loss" type: "Reduction" bottom: "{last}" top: "loss" loss_weight: 1
                 reduction_param {{ operation: SUMSQ }} }}""")
    file.write_text(f'net: "{net}" base_lr: {rate} lr_policy: "fixed" momentum: 0.9 random_seed: 5 max_iter: 9')
    made = caffe.SGDSolver(str(file))
    made.net.blobs["data"].data[...] = np.random.default_rng(1).normal(size=made.net.blobs["data"].shape)
    return made


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_as_one_by_one(tmp_path: Path, chain: str) -> None:
    together, apart = solver_of(tmp_path, chain), solver_of(tmp_path, chain)
    seen: list[int] = []
    apart.net.after_forward(seen.append)
    caffe.set_random_seed(3)
    together.step(3)
    caffe.set_random_seed(3)
    apart.step(3)
    assert seen == 3 * list(range(len(apart.net.layers)))
    for name, blobs in apart.net.params.items():
        for mine, theirs in zip(together.net.params[name], blobs, strict=True):
            np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-5, atol=1e-6, err_msg=name)
    for name, blob in apart.net.blobs.items():
        np.testing.assert_allclose(together.net.blobs[name].data, blob.data, rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(together.net.blobs[name].diff, blob.diff, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_batch_of_one_number_a_channel(tmp_path: Path) -> None:
    solver = solver_of(tmp_path, PRODUCT + BATCH_NORM, "dim: 1 dim: 6")
    solver.step(1)
    assert not solver.net.params["ip"][0].diff.any()  # the normalized value is 0 whatever the weights are


def test_a_range_may_end_within(tmp_path: Path) -> None:
    net = solver_of(tmp_path, CONVOLUTION + RELU).net
    raw = net.forward(end="conv")["x"].copy()
    assert (raw < 0).any()
    np.testing.assert_array_equal(net.forward(start="relu", end="relu")["x"], np.maximum(raw, 0))
    np.testing.assert_array_equal(net.forward(end="relu")["x"], np.maximum(raw, 0))


def test_what_the_caller_wrote_stays(tmp_path: Path) -> None:
    chain = CONVOLUTION.replace("data", "x").replace('top: "x"', 'top: "y"')
    text = 'layer { name: "twice" type: "Power" bottom: "data" top: "x" power_param { scale: 2 } }' + RELU
    solver = solver_of(tmp_path, text + chain)
    solver.keeps_blobs = False
    given = solver.net.blobs["data"].data.copy()
    solver.step(2)
    np.testing.assert_array_equal(solver.net.blobs["data"].data, given)


@pytest.mark.parametrize("last", ["", RELU, SIGMOID, SIGMOID + RELU])
def test_summands_have_gradients_of_their_own(tmp_path: Path, last: str) -> None:
    """They are equal, but who writes to one must not write to the other."""
    blobs = (solver := solver_of(tmp_path, SUM + last)).net.blobs
    solver.step(1)
    before = blobs["a"].diff.copy()
    assert before.any()
    np.testing.assert_array_equal(blobs["b"].diff, before)
    blobs["a"].diff[...] = 7
    np.testing.assert_array_equal(blobs["b"].diff, before)


def test_values_are_let_go_on_request_alone(tmp_path: Path, on_cpu: None) -> None:
    kept, freed = solver_of(tmp_path, CONVOLUTION + RELU), solver_of(tmp_path, CONVOLUTION + RELU)
    freed.keeps_blobs = False
    for solver in kept, freed:
        solver.step(1)
    assert kept.net.blobs["x"].data.any()
    assert not freed.net.blobs["x"].data.any()
    assert freed.net.blobs["loss"].data == kept.net.blobs["loss"].data > 0


def test_what_flows_into_a_relu_is_freed_before_the_convolution_goes_backward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = solver_of(tmp_path, CONVOLUTION + RELU)
    solver.keeps_blobs = False
    blob, flows, alive = solver.net.blobs["x"], [], []
    set_diff, grad = blob.set_diff, torch.autograd.grad

    def note_flow(values: torch.Tensor) -> None:
        flows.append(weakref.ref(values))
        set_diff(values)

    def note_pass(*args: Any, **kwargs: Any) -> Any:
        alive.append([flow() is not None for flow in flows])
        return grad(*args, **kwargs)

    monkeypatch.setattr(blob, "set_diff", note_flow)
    monkeypatch.setattr(torch.autograd, "grad", note_pass)
    solver.step(1)
    assert alive == [[], [False]]  # the loss, the chain


def test_values_stay_where_the_loss_is_no_number(tmp_path: Path) -> None:
    solver = solver_of(tmp_path, CONVOLUTION + RELU)
    solver.keeps_blobs = False
    solver.net.blobs["data"].data[0] = np.inf
    solver.step(1)
    assert not np.isfinite(solver.net.blobs["x"].data).all()


def test_backward_needs_a_forward_pass_where_values_were_let_go(tmp_path: Path, on_cpu: None) -> None:
    solver = solver_of(tmp_path, CONVOLUTION + RELU)
    solver.keeps_blobs = False
    solver.step(1)
    with pytest.raises(NetError, match="Layer 'loss': backward has let go .* run forward first"):
        solver.net.backward()
    solver.net.forward()
    solver.net.backward()


def gradients(net: caffe.Net) -> list[np.ndarray]:
    net.clear_param_diffs()
    net.backward()
    blobs = [blob for row in net.params.values() for blob in row] + [net.blobs["x"]]
    return [blob.diff.copy() for blob in blobs]


@pytest.mark.parametrize("name", ["residual", "vgg", "sum"])
def test_backward_after_a_step_and_in_a_net_that_is_tested(tmp_path: Path, name: str) -> None:
    solver = solver_of(tmp_path, CHAINS[name], rate=0)  # after a step the blobs hold what the weights before it gave
    solver.step(1)
    found = gradients(solver.net)
    solver.net.forward()
    expected = gradients(solver.net)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    solver.net.records = False  # as test nets'
    solver.net.forward()
    for ours, theirs in zip(gradients(solver.net)[:-1], expected[:-1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


IN_PLACE = {
    "BatchNorm": "",
    "Scale": "scale_param { bias_term: true filler { value: 2 } }",
    "PReLU": "prelu_param { filler { value: 0.3 } }",
    "ELU": "elu_param { alpha: 1.5 }",
    "Swish": "",
    "BNLL": "",
    "Sigmoid": "",
    "Dropout": "dropout_param { dropout_ratio: 0.3 }",
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_a_view_of_what_is_written_over(tmp_path: Path, kind: str) -> None:
    """In place or not, the gradients are the same, though somebody looks at the blob."""
    results = []
    for top in ("x", "y"):
        layer = in_place(kind, IN_PLACE[kind]).replace('top: "x"', f'top: "{top}"')
        net = solver_of(tmp_path, CONVOLUTION + layer, last=top).net
        assert net.blobs["x"].data.shape == (3, 4, 3, 3)  # from now on it keeps its place
        caffe.set_random_seed(2)
        net.forward()
        results.append(gradients(net)[:-1])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_stay_after_a_step(tmp_path: Path) -> None:
    solver, by_hand = (solver_of(tmp_path, CHAINS["residual"]) for _ in range(2))
    solver.step(1)
    by_hand.net.forward()
    by_hand.net.backward()
    for name, blob in by_hand.net.blobs.items():
        if name != "data":
            assert blob.diff.any()
            np.testing.assert_allclose(solver.net.blobs[name].diff, blob.diff, rtol=1e-4, atol=1e-4)


def test_ranges_that_cut_a_chain_after_a_step(tmp_path: Path) -> None:
    solver = solver_of(tmp_path, CHAINS["vgg"], rate=0)
    solver.step(1)
    expected = gradients(solver.net)
    solver.net.forward(start="relu")
    for ours, theirs in zip(gradients(solver.net), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    solver.net.backward(end="relu")
    assert solver.net.blobs["x"].diff.shape == solver.net.blobs["x"].shape


def test_backward_again_changes_nothing_that_the_next_pass_reads(tmp_path: Path) -> None:
    solver = solver_of(tmp_path, CHAINS["residual"])
    solver.step(1)
    before = [blob.data.copy() for blob in solver.net.params["bn"]]
    solver.net.backward()
    for blob, values in zip(solver.net.params["bn"], before, strict=True):
        np.testing.assert_array_equal(blob.data, values)


def test_parts_of_a_blob_that_were_looked_at_do_not_write_to_it(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
        layer { name: "cut" type: "Slice" bottom: "x" top: "a" top: "b" }
        layer { name: "p" type: "Power" bottom: "a" top: "p" } layer { name: "q" type: "Power" bottom: "b" top: "q" }
    """)
    net = caffe.Net(str(path), caffe.TEST)
    for side in (5, 4):
        net.blobs["x"].reshape(1, 2, side, side)
        given = np.random.default_rng(side).normal(size=(1, 2, side, side)).astype(np.float32)
        for _ in range(2):
            net.blobs["x"].data[...] = given
            net.forward()
            assert [blob.data.shape[0] for blob in net.blobs.values()] == [1] * 5
            np.testing.assert_array_equal(net.blobs["x"].data, given)
            np.testing.assert_array_equal(net.blobs["q"].data, given[:, 1:])
    net.blobs["b"].data[...] = 0
    np.testing.assert_array_equal(net.blobs["x"].data, given)


def test_gradients_that_are_alike_are_apart(tmp_path: Path) -> None:
    net = solver_of(tmp_path, SUM).net
    net.forward()
    net.backward(end="sum")
    expected = net.blobs["b"].diff.copy()
    net.blobs["a"].diff[...] = 0
    np.testing.assert_array_equal(net.blobs["b"].diff, expected)
    np.testing.assert_array_equal(net.blobs["x"].diff, expected)

"""Nets: wiring, running whole and in parts, weights, against recordings' texts, OpenCV and hand-made numbers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
from caffe.proto import caffe_pb2

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
LABEL = 'layer { name: "lab" type: "Input" top: "y" input_param { shape { dim: 2 } } }\n'


def fc(name: str, bottom: str, outputs: int = 4, more: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {more} inner_product_param '
        f'{{ num_output: {outputs} weight_filler {{ type: "xavier" }} bias_filler {{ type: "gaussian" }} }} }}\n'
    )


RELU = 'layer { name: "r" type: "ReLU" bottom: "a" top: "a" }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "b" bottom: "y" top: "loss" }\n'
TRAINABLE = INPUT + LABEL + fc("a", "x") + RELU + fc("b", "a") + LOSS


@pytest.fixture
def net_of(tmp_path: Path):
    """Make a net from text."""

    def make(text: str, phase: int = caffe.TRAIN, **more: object) -> caffe.Net:
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        caffe.set_random_seed(1)
        return caffe.Net(str(path), phase, **more)

    return make


def fill(net: caffe.Net) -> None:
    rng = np.random.default_rng(0)
    net.blobs["x"].data[...] = rng.normal(size=(2, 3))
    net.blobs["y"].data[...] = [1, 3]


def test_names_and_shapes(net_of) -> None:
    net = net_of(TRAINABLE)
    assert list(net.blobs) == ["x", "y", "a", "b", "loss"]
    assert list(net.params) == ["a", "b"]
    assert [b.shape for b in net.params["a"]] == [(4, 3), (4,)]
    assert (net.inputs, net.outputs) == (["x", "y"], ["loss"])
    assert net.top_names["a"] == ["a"]
    assert net.bottom_names["loss"] == ["b", "y"]
    assert net.blob_loss_weights["loss"] == 1
    assert [layer.type for layer in net.layers][-1] == "SoftmaxWithLoss"


def test_a_loss_without_a_top_is_no_output(net_of) -> None:
    text = TRAINABLE.replace('top: "loss"', "") + LOSS.replace('"loss"', '"again"', 1).replace('top: "loss"', "")
    net = net_of(text)
    assert net.outputs == []
    fill(net)
    assert net.forward() == {}
    expected = net_of(TRAINABLE)
    fill(expected)
    for name, rows in net.params.items():
        for mine, theirs in zip(rows, expected.params[name], strict=True):
            theirs.data[...] = mine.data
    loss = expected.forward()["loss"]
    np.testing.assert_allclose(net.blobs["(automatic)"].data, loss, rtol=1e-6)
    for each in (net, expected):
        each.backward()
    np.testing.assert_allclose(net.params["a"][0].diff, 2 * expected.params["a"][0].diff, rtol=1e-5, atol=1e-7)
    with pytest.raises(caffe.CaffeError, match="Unknown bottom blob '.automatic.'"):
        net_of(text + 'layer { name: "s" type: "Silence" bottom: "(automatic)" }')


@pytest.mark.parametrize("second", ['layer { name: "a" type: "ReLU" bottom: "a" top: "a" }', fc("a", "a", 5)])
def test_layers_of_one_name(net_of, tmp_path: Path, second: str) -> None:
    """Weights go to the first of them, and each is saved with its own."""
    saved = str(tmp_path / "one.caffemodel")
    one = net_of(INPUT + fc("a", "x"))
    one.save(saved)
    net = net_of(INPUT + fc("a", "x") + second.replace('top: "a"', 'top: "c"'))
    first = net.layers[1]
    first.blobs[0].data[...] = 0
    net.copy_from(saved)
    np.testing.assert_array_equal(first.blobs[0].data, one.params["a"][0].data)
    net.save(str(tmp_path / "both.caffemodel"))
    written = caffe_pb2.NetParameter.FromString((tmp_path / "both.caffemodel").read_bytes())
    for layer, message in zip(net.layers, written.layer, strict=True):
        assert [list(blob.data) for blob in message.blobs] == [blob.data.ravel().tolist() for blob in layer.blobs]
    with pytest.raises(caffe.CaffeError, match="2 layers are named 'a'. Give each a name of its own"):
        net.save_hdf5(str(tmp_path / "both.h5"))


def test_a_shared_parameter_whose_owner_has_a_namesake(net_of) -> None:
    share = 'param { name: "w" lr_mult: 1 } param { name: "b" lr_mult: 2 }'
    text = 'layer { name: "a" type: "ReLU" bottom: "x" top: "r" }' + fc("a", "r", 3, share) + fc("c", "a", 3, share)
    net = net_of(INPUT + text)
    assert np.shares_memory(net.params["a"][0].data, net.params["c"][0].data)
    assert [p.lr_mult for p in net.learnable] == [1, 2]


def test_what_is_written_before_a_split_is_read_behind_it(net_of) -> None:
    """Also where a partial pass begins behind the Split or Flatten that shares its bottom's memory in Caffe."""
    flat = 'layer { name: "flat" type: "Flatten" bottom: "a" top: "flat" }'
    net = net_of(INPUT + fc("a", "x") + flat + fc("b", "flat") + fc("c", "a"), caffe.TEST)
    net.blobs["x"].data[...] = np.random.default_rng(0).normal(size=(2, 3))
    assert all(blob.data.shape for blob in net.blobs.values())  # everybody keeps a place of its own
    net.forward()
    net.blobs["a"].data[...] = 2
    out = net.forward(start="b")
    for name in "bc":
        weight, bias = (blob.data for blob in net.params[name])
        np.testing.assert_allclose(out[name], 2 * weight.sum(1) + bias + np.zeros((2, 1)), rtol=1e-5)


def test_backward_goes_by_weights_that_changed_since(net_of, tmp_path: Path) -> None:
    """Updated by a solver, or loaded."""
    net, other = (net_of("force_backward: true " + INPUT + fc("a", "x") + fc("b", "a"), caffe.TEST) for _ in range(2))
    for row in other.params.values():
        row[0].data[...] *= -3
    other.save(str(tmp_path / "other.caffemodel"))
    net.forward()
    net.blobs["b"].diff[...] = gradient = np.ones((2, 4), np.float32)
    net.copy_from(str(tmp_path / "other.caffemodel"))
    into_x = net.backward()["x"]
    expected = gradient @ other.params["b"][0].data @ other.params["a"][0].data
    np.testing.assert_allclose(into_x, expected, rtol=1e-5)


def test_backward_takes_the_gradients_of_outputs_or_of_the_start_layers_tops(net_of) -> None:
    net = net_of("force_backward: true " + INPUT + fc("a", "x") + fc("b", "a"), caffe.TEST)
    net.forward()
    given = np.ones((2, 4), np.float32)
    expected = given @ net.params["a"][0].data
    np.testing.assert_allclose(net.backward(start="a", a=given)["x"], expected, rtol=1e-5)
    more = net.backward(diffs=["a"], start="a", a=3 * given)
    assert list(more) == ["x", "a"]
    np.testing.assert_array_equal(more["a"], 3 * given)
    net.blobs["a"].diff[...] = 2 * given
    np.testing.assert_allclose(net.backward(start="a", b=given)["x"], 2 * expected, rtol=1e-5)
    assert net.forward_all(x=np.zeros((0, 3))) == {}


def test_forward_and_backward_by_hand(net_of) -> None:
    net = net_of(TRAINABLE)
    fill(net)
    x = net.blobs["x"].data.astype(np.float64)
    (w1, b1), (w2, b2) = ([b.data.astype(np.float64) for b in net.params[n]] for n in "ab")
    hidden = np.maximum(x @ w1.T + b1, 0)
    scores = hidden @ w2.T + b2
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    out = net.forward()
    np.testing.assert_allclose(out["loss"], -np.log(p[[0, 1], [1, 3]]).mean(), rtol=1e-5)
    net.backward()
    p[[0, 1], [1, 3]] -= 1
    np.testing.assert_allclose(net.params["b"][0].diff, p.T @ hidden / 2, rtol=1e-4, atol=1e-6)
    into_a = (p @ w2 / 2) * (hidden > 0)
    np.testing.assert_allclose(net.params["a"][0].diff, into_a.T @ x, rtol=1e-4, atol=1e-6)
    # the chain a -> relu is one blob: its gradient is the one before the ReLU
    np.testing.assert_allclose(net.blobs["a"].diff, into_a, rtol=1e-4, atol=1e-6)


def test_parameter_gradients_add_up_until_cleared(net_of) -> None:
    net = net_of(TRAINABLE)
    fill(net)
    net.forward()
    net.backward()
    once = net.params["a"][0].diff.copy()
    assert once.any()
    net.backward()
    np.testing.assert_allclose(net.params["a"][0].diff, 2 * once, rtol=1e-6)
    net.clear_param_diffs()
    assert not net.params["a"][0].diff.any()


def test_running_in_parts_equals_running_whole(net_of) -> None:
    net = net_of(TRAINABLE)
    fill(net)
    whole = net.forward()["loss"].copy()
    net.backward()
    gradient = net.params["a"][0].diff.copy()
    net.clear_param_diffs()
    part = net.forward(end="r")
    assert list(part) == ["a"]
    assert net.forward(start="b")["loss"] == whole
    net.backward(end="b")
    assert not net.params["a"][0].diff.any()
    net.backward(start="r")
    np.testing.assert_array_equal(net.params["a"][0].diff, gradient)


def test_a_blob_written_between_two_parts_counts(net_of) -> None:
    net = net_of(TRAINABLE)
    fill(net)
    net.forward()
    net.blobs["a"].data[...] = 0
    expected = net.params["b"][1].data
    np.testing.assert_allclose(net.forward(start="b", end="b")["b"], [expected, expected], rtol=1e-6)


def test_views_stay_live(net_of, on_cpu: None) -> None:
    """On a GPU, as in Caffe, from one look at ``data`` to the next."""
    net = net_of(TRAINABLE)
    fill(net)
    net.forward()
    view = net.blobs["b"].data
    before = view.copy()
    net.blobs["x"].data[...] *= 2
    net.forward()
    assert not np.array_equal(view, before)


def test_an_input_of_another_size(net_of) -> None:
    net = net_of(INPUT + fc("a", "x"), caffe.TEST)
    net.blobs["x"].reshape(5, 3)
    net.reshape()
    assert net.blobs["a"].shape == (5, 4)
    net.blobs["x"].reshape(7, 3)
    assert net.forward()["a"].shape == (7, 4)


def test_forward_all_cuts_batches_and_drops_the_padding(net_of) -> None:
    net = net_of(INPUT + fc("a", "x"), caffe.TEST)
    items = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    w, b = (p.data for p in net.params["a"])
    np.testing.assert_allclose(net.forward_all(x=items)["a"], items @ w.T + b, rtol=1e-4, atol=1e-6)
    cut = np.concatenate([batch["x"] for batch in net._batch({"x": items})])
    np.testing.assert_array_equal(cut[: len(items)], items)
    assert not cut[len(items) :].any()


def test_callbacks_see_every_layer_in_order(net_of) -> None:
    net = net_of(TRAINABLE)
    fill(net)
    seen: list[str] = []
    for moment in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, moment)(lambda layer, moment=moment: seen.append(f"{moment} {layer}"))
    net.forward()
    net.backward()
    order = range(6)  # pycaffe tells a layer's number
    forward = [f"{when}_forward {n}" for n in order for when in ("before", "after")]
    assert seen == forward + [f"{when}_backward {n}" for n in reversed(order) for when in ("before", "after")]


def test_a_frozen_prefix_has_no_backward_pass(net_of) -> None:
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    net = net_of(INPUT + LABEL + fc("a", "x", more=frozen) + RELU + fc("b", "a") + LOSS)
    fill(net)
    net.forward()
    net.backward()
    assert net.params["b"][0].diff.any()
    assert not net.params["a"][0].has_diff
    assert not net.blobs["a"].has_diff


def test_propagate_down_false_stops_the_gradient(net_of) -> None:
    net = net_of(INPUT + LABEL + fc("a", "x") + RELU + fc("b", "a", more="propagate_down: false") + LOSS)
    fill(net)
    net.forward()
    net.backward()
    assert net.params["b"][0].diff.any()
    assert not net.params["a"][0].has_diff


def test_above_a_layer_with_propagate_down_false_gradients_flow(net_of) -> None:
    relu = RELU.replace("top", "propagate_down: false top")
    net = net_of(INPUT + LABEL + fc("a", "x") + relu + fc("b", "a") + LOSS)
    fill(net)
    net.forward()
    net.backward()
    scores = np.exp(net.blobs["b"].data.astype(float))
    flow = (scores / scores.sum(1, keepdims=True) - np.eye(4)[[1, 3]]) / 2  # of the loss to its scores
    np.testing.assert_allclose(net.blobs["a"].diff, flow @ net.params["b"][0].data, rtol=1e-5, atol=1e-6)
    assert not net.params["a"][0].diff.any()


def test_propagate_down_true_gives_no_gradient_where_nothing_below_learns(net_of) -> None:
    frozen = "propagate_down: true param { lr_mult: 0 } param { lr_mult: 0 }"
    net = net_of(INPUT + LABEL + fc("a", "x", more=frozen) + RELU + fc("b", "a") + LOSS)
    fill(net)
    net.forward()
    net.backward()
    assert net.params["b"][0].diff.any()
    assert not net.blobs["x"].diff.any()


def test_shared_parameters_are_one_blob_and_gather_both_gradients(net_of) -> None:
    shared = 'param { name: "w" } param { name: "v" }'
    text = INPUT.replace("dim: 3", "dim: 4") + LABEL + fc("a", "x", more=shared) + fc("b", "a", more=shared) + LOSS
    net = net_of(text)
    assert net.params["a"][0] is net.params["b"][0]
    net.blobs["x"].data[...] = 1
    net.forward()
    net.backward()
    both = net.params["a"][0].diff.copy()
    net.clear_param_diffs()
    net.backward(end="b")
    last = net.params["a"][0].diff.copy()
    net.clear_param_diffs()
    net.backward(start="a")
    np.testing.assert_allclose(both, last + net.params["a"][0].diff, rtol=1e-5, atol=1e-7)


def test_permissive_sharing_takes_another_shape_of_the_same_count(net_of) -> None:
    permissive = 'param { name: "w" share_mode: PERMISSIVE }'
    first = fc("a", "x", 4, 'param { name: "w" }')
    text = INPUT.replace("dim: 3", "dim: 6") + first + fc("b", "a", 6, permissive)
    net = net_of(text)
    net.params["a"][0].data[...] = np.arange(24).reshape(4, 6)
    np.testing.assert_array_equal(net.params["b"][0].data, np.arange(24).reshape(6, 4))


def test_weights_saved_and_loaded_are_the_same(net_of, tmp_path: Path) -> None:
    net = net_of(TRAINABLE)
    saved = {n: [b.data.copy() for b in blobs] for n, blobs in net.params.items()}
    net.save(str(tmp_path / "w.caffemodel"))
    message = caffe_pb2.NetParameter.FromString((tmp_path / "w.caffemodel").read_bytes())
    assert [layer.name for layer in message.layer] == ["in", "lab", "a", "r", "b", "loss"]
    np.testing.assert_array_equal(np.array(message.layer[2].blobs[0].data), saved["a"][0].ravel())
    other = net_of(TRAINABLE, weights=str(tmp_path / "w.caffemodel"))
    for name, blobs in saved.items():
        for mine, theirs in zip(blobs, other.params[name], strict=True):
            np.testing.assert_array_equal(mine, theirs.data)


def test_loading_leaves_new_layers_alone_and_logs_what_it_ignores(net_of, tmp_path: Path, capfd, monkeypatch) -> None:
    net_of(TRAINABLE).save(str(tmp_path / "w.caffemodel"))
    net = net_of(TRAINABLE.replace('name: "b"', 'name: "b_new"'))
    before = net.params["b_new"][0].data.copy()
    monkeypatch.setenv("GLOG_minloglevel", "0")
    net.copy_from(str(tmp_path / "w.caffemodel"))
    assert "net.cpp:746] Ignoring source layer b\n" in capfd.readouterr().err
    np.testing.assert_array_equal(net.params["b_new"][0].data, before)


def test_levels_and_stages_choose_layers(net_of, tmp_path: Path) -> None:
    rules = [("a", "phase: TRAIN"), ("b", "min_level: 2"), ("c", 'stage: "s"'), ("d", 'not_stage: "t"')]
    text = INPUT + "".join(fc(name, "x", more=f"include {{ {rule} }}") for name, rule in rules)

    def layers(*args: object, **more: object) -> list[str]:
        return list(net_of(text, *args, **more).params)

    assert layers(caffe.TRAIN) == ["a", "d"]
    assert layers(caffe.TEST, level=1) == ["d"]
    assert layers(caffe.TEST, level=2, stages=["s", "t"]) == ["b", "c"]
    assert list(caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN, 3, ["s"]).params) == ["a", "b", "c", "d"]


def test_pycaffes_older_order_of_file_weights_and_phase(net_of, tmp_path: Path) -> None:
    net = net_of(TRAINABLE)
    net.save(str(tmp_path / "w.caffemodel"))
    older = caffe.Net(str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel"), caffe.TEST)
    assert older.param.state.phase == caffe.TEST
    np.testing.assert_array_equal(older.params["a"][0].data, net.params["a"][0].data)


def test_weights_that_bvlc_wrote(golden: Path, tmp_path: Path) -> None:
    text = (golden / "logs" / "net.prototxt").read_text()
    deploy = text[text.index('layer { name: "conv1"') : text.index('layer { name: "accuracy"')].replace(
        '"fc"', '"fc_new"'
    )
    path = tmp_path / "deploy.prototxt"
    path.write_text(
        'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 24 dim: 24 } } }' + deploy
    )
    file = golden / "files" / "tiny_iter_10.caffemodel"
    net = caffe.Net(str(path), caffe.TEST, weights=str(file))
    message = caffe_pb2.NetParameter.FromString(file.read_bytes())
    stored = {layer.name: layer.blobs for layer in message.layer if layer.blobs}
    assert set(stored) == set(net.params)
    for name, blobs in stored.items():
        for theirs, mine in zip(blobs, net.params[name], strict=True):
            np.testing.assert_array_equal(np.array(theirs.data, np.float32), mine.data.ravel())


DEPLOY = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 19 dim: 17 } } }
layer { name: "c1" type: "Convolution" bottom: "x" top: "c1" convolution_param {
  num_output: 6 kernel_size: 3 pad: 1 stride: 2 weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c1" top: "c1" }
layer { name: "sc" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" relu_param { negative_slope: 0.1 } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "n1" type: "LRN" bottom: "p1" top: "n1" lrn_param { local_size: 3 alpha: 0.1 beta: 0.75 } }
layer { name: "c2" type: "Convolution" bottom: "n1" top: "c2" convolution_param {
  num_output: 6 kernel_size: 3 pad: 1 group: 2 weight_filler { type: "msra" } } }
layer { name: "e" type: "Eltwise" bottom: "n1" bottom: "c2" top: "e" }
layer { name: "cat" type: "Concat" bottom: "e" bottom: "n1" top: "cat" }
layer { name: "p2" type: "Pooling" bottom: "cat" top: "p2" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "p2" top: "fc" inner_product_param {
  num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def test_forward_equals_opencvs_importer(net_of, tmp_path: Path) -> None:
    caffe.set_random_seed(4)
    net = net_of(DEPLOY, caffe.TEST)
    rng = np.random.default_rng(2)
    for blob, values in zip(net.params["bn"], (rng.normal(size=6), rng.uniform(1, 2, 6), [2.0]), strict=True):
        blob.data[...] = values
    net.save(str(tmp_path / "w.caffemodel"))
    x = rng.normal(size=(1, 3, 19, 17)).astype(np.float32)
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel"))
    for blob in ("c2", "cat", "prob"):
        theirs.setInput(x)
        np.testing.assert_allclose(
            net.forward(x=x, blobs=[blob])[blob], theirs.forward(blob), rtol=1e-4, atol=1e-5, err_msg=blob
        )


# name, net text, BVLC's words
MISTAKES = [
    (
        "unknown type",
        INPUT + 'layer { name: "c" type: "Convolutoin" bottom: "x" top: "c" }',
        "Unknown layer type: Conv",
    ),
    ("unknown bottom", INPUT + fc("a", "z"), r"Unknown bottom blob 'z' \(layer 'a', bottom index 0\)"),
    (
        "twice made",
        INPUT + fc("a", "x") + fc("a", "x").replace('name: "a"', 'name: "b"'),
        "produced by multiple sources",
    ),
    (
        "too few bottoms",
        INPUT + 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" top: "l" }',
        r"ExactNumBottomBlobs\(\) == bottom.size\(\) \(2 vs. 1\) SoftmaxWithLoss Layer takes 2 bottom blob\(s\)",
    ),
    (
        "one bottom of two",
        INPUT + 'layer { name: "e" type: "Eltwise" bottom: "x" top: "e" }',
        "takes at least 2 bottom",
    ),
    (
        "label count",
        INPUT + LABEL.replace("dim: 2", "dim: 3") + fc("b", "x") + LOSS,
        r"outer_num_ \* inner_num_ == bottom\[1\]->count\(\) \(2 vs. 3\) Number of labels must match",
    ),
    (
        "too many params",
        INPUT + fc("a", "x", more="param {} param {} param {}"),
        "Too many params specified for layer a",
    ),
    ("loss weights", INPUT + fc("a", "x", more="loss_weight: 1 loss_weight: 1"), "loss_weight must be unspecified or"),
    ("propagate_down", INPUT + fc("a", "x", more="propagate_down: true propagate_down: true"), "propagate_down param"),
    (
        "shared shape",
        INPUT + fc("a", "x", 2, 'param { name: "w" }') + fc("b", "x", 3, 'param { name: "w" }'),
        "Cannot share param 'w' owned by layer 'a' with layer 'b'; shape mismatch",
    ),
    (
        "shared rate",
        INPUT + fc("a", "x", 2, 'param { name: "w" lr_mult: 1 }') + fc("b", "x", 2, 'param { name: "w" lr_mult: 2 }'),
        "Shared param 'w' has mismatched lr_mult",
    ),
    ("filler", INPUT + fc("a", "x").replace("xavier", "xaviar"), "Layer 'a': Unknown filler name: xaviar"),
    (
        "groups",
        INPUT.replace("dim: 3", "dim: 3 dim: 5 dim: 5")
        + 'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param '
        "{ num_output: 4 kernel_size: 3 group: 2 } }",
        r"Layer 'c': .*channels_ % group_ == 0 \(1 vs. 0\)",
    ),
    (
        "kernel twice",
        INPUT.replace("dim: 3", "dim: 3 dim: 5 dim: 5")
        + 'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 } }',
        r"kernel_size must be specified once, or once per spatial dimension \(kernel_size specified 0 times; 2 spatial",
    ),
    (
        "pool pad",
        INPUT.replace("dim: 3", "dim: 3 dim: 5 dim: 5")
        + 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 2 pad: 2 } }',
        r"pad_h_ < kernel_h_ \(2 vs. 2\)",
    ),
    (
        "pool kernel",
        INPUT.replace("dim: 3", "dim: 3 dim: 5 dim: 5")
        + 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 0 } }',
        r"kernel_h_ > 0 \(0 vs. 0\) Filter dimensions cannot be zero.",
    ),
    (
        "even LRN",
        INPUT.replace("dim: 3", "dim: 3 dim: 5 dim: 5")
        + 'layer { name: "n" type: "LRN" bottom: "x" top: "n" lrn_param { local_size: 4 } }',
        "LRN only supports odd values for local_size",
    ),
    (
        "rate of statistics",
        INPUT + 'layer { name: "n" type: "BatchNorm" bottom: "x" top: "n" param { lr_mult: 1 } }',
        r"lr_mult\(\) == 0.f \(1 vs. 0\) Cannot configure batch normalization statistics as layer parameters",
    ),
    (
        "eltwise shapes",
        INPUT + LABEL + 'layer { name: "e" type: "Eltwise" bottom: "x" bottom: "y" top: "e" }',
        r"bottom\[0\]: 2 3 \(6\), bottom\[1\]: 2 \(2\)",
    ),
    (
        "concat axes",
        INPUT + LABEL + 'layer { name: "e" type: "Concat" bottom: "x" bottom: "y" top: "e" }',
        "All inputs must have the same #axes",
    ),
    (
        "top_k",
        INPUT
        + LABEL
        + 'layer { name: "a" type: "Accuracy" bottom: "x" bottom: "y" accuracy_param { top_k: 9 } top: "a" }',
        "top_k must be less than or equal to the number of classes: 9 of 3",
    ),
    (
        "axis",
        INPUT + 'layer { name: "s" type: "Softmax" bottom: "x" top: "s" softmax_param { axis: 2 } }',
        "axis 2 is out of",
    ),
]


@pytest.mark.parametrize(("text", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistakes_are_named_in_caffes_words(net_of, text: str, words: str) -> None:
    with pytest.raises(caffe.CaffeError, match=words):
        net_of(text)


def test_a_label_out_of_range_is_an_error(net_of) -> None:
    net = net_of(TRAINABLE)
    fill(net)
    net.blobs["y"].data[...] = [1, 4]
    with pytest.raises(caffe.CaffeError, match="Layer 'loss'.*label 4 is outside 0 to 3 .1 of 2 labels"):
        net.forward()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            'type: "SoftmaxWithLoss" bottom: "x" bottom: "f"',
            "SoftmaxWithLoss Layer cannot backpropagate to label inputs",
        ),
        ('type: "Filter" bottom: "x" bottom: "f"', "Filter Layer cannot backpropagate to filter index inputs"),
        ('type: "BatchReindex" bottom: "x" bottom: "f"', "BatchReindex Layer cannot backpropagate to index"),
        ('type: "ArgMax" bottom: "f"', "ArgMax Layer cannot backpropagate to its input"),
    ],
)
def test_a_gradient_is_refused_where_none_flows(net_of, layer: str, words: str) -> None:
    flat = 'layer { name: "r" type: "Reshape" bottom: "a" top: "f" reshape_param { shape { dim: 2 } } }'
    tops = "" if "Loss" in layer else 'top: "t" loss_weight: 1'
    text = INPUT + fc("a", "x", 1) + flat + f'layer {{ name: "l" {layer} {tops} %s }}'
    net = net_of(text % "")
    net.forward()
    with pytest.raises(caffe.CaffeError, match=f"Layer 'l': .*{words}: 'f' comes from"):
        net.backward()
    stopped = "propagate_down: false " * layer.count("bottom")
    net = net_of(text % stopped)
    net.forward()
    net.backward()
    assert not net.params["a"][0].diff.any()


def test_weights_of_another_shape_name_layer_shapes_and_cure(net_of, tmp_path: Path) -> None:
    net_of(INPUT + fc("a", "x", 3)).save(str(tmp_path / "w.caffemodel"))
    words = (
        r"Cannot copy param 0 weights from layer 'a'; shape mismatch.  Source param shape is 3 3 \(9\); target param "
        r"shape is 4 3 \(12\). To learn this layer's parameters from scratch .* rename the layer."
    )
    with pytest.raises(caffe.CaffeError, match=words):
        net_of(INPUT + fc("a", "x", 4), weights=str(tmp_path / "w.caffemodel"))


def test_pycaffes_own_errors(net_of, tmp_path: Path) -> None:
    net = net_of(TRAINABLE)
    with pytest.raises(RuntimeError, match="Could not open file nowhere"):
        caffe.Net("nowhere", caffe.TEST)
    with pytest.raises(Exception, match="Input blob arguments do not match net inputs."):
        net.forward(z=np.zeros((2, 3)))
    with pytest.raises(Exception, match="Input is not batch sized"):
        net.forward(x=np.zeros((1, 3)), y=np.zeros(2))
    with pytest.raises(Exception, match="There is no layer 'zz'; the layers are in, lab, a"):
        net.forward(start="zz")
    with pytest.raises(Exception, match="There is no blob 'zz'; the blobs are x, y, a"):
        net.forward(blobs=["zz"])
    with pytest.raises(Exception, match="Top diff arguments do not match net outputs. Given: .'z'., expected: .'b'."):
        net.backward(start="b", z=np.zeros((2, 4)))
    with pytest.raises(Exception, match="Diff is not batch sized: 'b' has 1 items"):
        net.backward(start="b", b=np.zeros((1, 4)))


def test_the_gpu_that_is_not_there() -> None:
    import torch

    if torch.cuda.is_available():
        with pytest.raises(caffe.CaffeError, match="GPU 99 was asked for"):
            caffe.set_device(99)
    else:
        with pytest.raises(caffe.CaffeError, match="Cannot use GPU in CPU-only Caffe: check mode.*Leave out -gpu"):
            caffe.set_mode_gpu()

"""DummyData: shapes, fillers, and who may write to its tops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.errors import LayerError


@pytest.fixture
def net_of(tmp_path: Path) -> Callable[..., caffe.Net]:
    def make(param: str, tops: str = "a b") -> caffe.Net:
        path = tmp_path / "net.prototxt"
        names = " ".join(f'top: "{top}"' for top in tops.split())
        path.write_text(f'layer {{ name: "d" type: "DummyData" {names} dummy_data_param {{ {param} }} }}')
        caffe.set_random_seed(1)
        return caffe.Net(str(path), caffe.TRAIN)

    return make


def test_shapes(net_of: Callable[..., caffe.Net]) -> None:
    def shapes(param: str) -> list[tuple[int, ...]]:
        return [blob.shape for blob in net_of(param).blobs.values()]

    assert shapes("shape { dim: 2 dim: 3 }") == [(2, 3)] * 2
    assert shapes("shape { dim: 2 dim: 3 } shape { }") == [(2, 3), ()]
    assert shapes("num: 5 channels: 2 channels: 1 height: 3 height: 1 width: 4 width: 1") == [
        (5, 2, 3, 4),
        (5, 1, 1, 1),
    ]


def test_random_tops_are_drawn_anew_and_constants_only_once(net_of: Callable[..., caffe.Net]) -> None:
    net = net_of(
        'shape { dim: 400 } data_filler { type: "gaussian" mean: 5 std: 2 } data_filler { type: "constant" value: 3 }'
    )
    assert not net.blobs["a"].data.any()
    assert np.all(net.blobs["b"].data == 3)
    first = net.forward()["a"].copy()
    assert first.mean() == pytest.approx(5, abs=0.5)
    assert first.std() == pytest.approx(2, abs=0.3)
    view = net.blobs["b"].data
    view[...] = 8
    second = net.forward()
    assert not np.any(second["a"] == first)
    assert np.all(second["b"] == 8)
    assert np.all(view == 8)


def test_one_filler_or_none(net_of: Callable[..., caffe.Net]) -> None:
    net = net_of('shape { dim: 30 } data_filler { type: "uniform" min: 1 max: 2 }')
    net.forward()
    for blob in net.blobs.values():
        assert np.all((blob.data >= 1) & (blob.data < 2))
    assert np.all(net_of("shape { dim: 3 }").forward()["a"] == 0)


def test_training_with_forced_gradients(net_of: Callable[..., caffe.Net], tmp_path: Path) -> None:
    """The net's own input gets its gradient, as with pycaffe's test nets."""
    net_of('shape { dim: 5 dim: 2 } shape { dim: 5 } data_filler { type: "gaussian" } data_filler { type: "constant" }')
    path = tmp_path / "net.prototxt"
    path.write_text(
        "force_backward: true\n" + path.read_text() + 'layer { name: "fc" type: "InnerProduct" bottom: "a" top: "fc" '
        'inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "b" top: "loss" }'
    )
    net = caffe.Net(str(path), caffe.TRAIN)
    net.forward()
    net.backward()
    assert np.allclose(net.blobs["a"].diff, net.blobs["fc"].diff @ net.params["fc"][0].data, rtol=1e-5)
    assert np.any(net.blobs["a"].diff)


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ("", r"Must specify 'shape' once, or once per top blob \(2\); specified 0"),
        ("shape { dim: 1 } " * 3, r"Must specify 'shape' once, or once per top blob \(2\); specified 3"),
        ("shape { dim: 1 } num: 1", "Both shape and legacy fields were specified"),
        ("num: 1 channels: 1 height: 1", r"Must specify 'width' once, or once per top blob \(2\); specified 0"),
        ("shape { dim: 1 } " + "data_filler { } " * 3, "equal to the number of tops: 2; you specified 3 data fillers"),
        ('shape { dim: 1 } data_filler { type: "gausian" }', "Unknown filler name: gausian"),
    ],
)
def test_mistakes(net_of: Callable[..., caffe.Net], param: str, words: str) -> None:
    with pytest.raises(LayerError, match=words):
        net_of(param)

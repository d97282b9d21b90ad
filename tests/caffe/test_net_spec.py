"""Nets written in Python: what they say as messages, against prototxt written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

import caffe
from caffe import layers as L
from caffe import params as P
from caffe.net_spec import Function, NetSpec, Top, assign_proto, param_name_dict
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter, PoolingParameter


def prototxt(text: str) -> NetParameter:
    return text_format.Parse(text, NetParameter())


def small(n: NetSpec) -> None:
    n.data, n.label = L.ImageData(source="list.txt", batch_size=2, ntop=2, transform_param={"scale": 0.5})
    n.conv = L.Convolution(
        n.data,
        kernel_size=3,
        stride=[1, 2],
        num_output=4,
        weight_filler={"type": "xavier"},
        param=[{"lr_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
    )
    n.pool = L.Pooling(n.conv, pool=P.Pooling.AVE, kernel_size=2)
    n["relu"] = L.ReLU(n.pool, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.relu, n.label, loss_weight=3, include={"phase": caffe.TEST})


EXPECTED = """
layer { name: "data" type: "ImageData" top: "data" top: "label" transform_param { scale: 0.5 }
  image_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 stride: 1 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool" bottom: "label" top: "loss" loss_weight: 3
  include { phase: TEST } }
"""


def test_a_named_net() -> None:
    n = caffe.NetSpec()
    small(n)
    assert n.to_proto() == prototxt(EXPECTED)
    assert list(n.tops) == ["data", "label", "conv", "pool", "relu", "loss"]
    assert isinstance(n.conv, Top)
    assert isinstance(n.conv.fn, Function)


def test_what_is_not_named_is_numbered() -> None:
    data = L.DummyData(shape={"dim": [2, 3]})
    first = L.InnerProduct(data, num_output=4)
    loss = L.EuclideanLoss(first, L.InnerProduct(first, num_output=4))
    expected = prototxt("""
layer { name: "DummyData1" type: "DummyData" top: "DummyData1" dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "InnerProduct1" type: "InnerProduct" bottom: "DummyData1" top: "InnerProduct1"
  inner_product_param { num_output: 4 } }
layer { name: "InnerProduct2" type: "InnerProduct" bottom: "InnerProduct1" top: "InnerProduct2"
  inner_product_param { num_output: 4 } }
layer { name: "EuclideanLoss1" type: "EuclideanLoss" bottom: "InnerProduct1" bottom: "InnerProduct2"
  top: "EuclideanLoss1" }
""")
    assert caffe.to_proto(loss) == expected
    assert loss.to_proto() == expected
    n = NetSpec()
    n.loss = loss
    assert [layer.name for layer in n.to_proto().layer] == ["DummyData1", "InnerProduct1", "InnerProduct2", "loss"]


def test_layers_without_tops() -> None:
    n = NetSpec()
    n.a, n.b = L.DummyData(shape={"dim": 3}, ntop=2)
    n.quiet = L.Silence(n.a, ntop=0)
    anonymous = L.Silence(n.b, ntop=0)
    assert isinstance(anonymous, Function)
    assert n.to_proto() == prototxt("""
layer { name: "a" type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 3 } } }
layer { name: "quiet" type: "Silence" bottom: "a" }
""")
    assert caffe.to_proto(anonymous).layer[1].name == "Silence1"


def test_python_layers_and_names_of_fields() -> None:
    top = L.Python(module="m", layer="C", python_param={"param_str": "7"}, name="mine")
    assert caffe.to_proto(top) == prototxt(
        'layer { name: "mine" type: "Python" top: "Python1" python_param { module: "m" layer: "C" param_str: "7" } }'
    )
    names = param_name_dict()
    assert {k: names[k] for k in ("InnerProduct", "LRN", "HDF5Data", "PReLU", "Transformation")} == {
        "InnerProduct": "inner_product",
        "LRN": "lrn",
        "HDF5Data": "hdf5_data",
        "PReLU": "prelu",
        "Transformation": "transform",
    }
    assert P.Pooling.MAX == PoolingParameter.MAX


def test_a_net_deeper_than_pythons_stack() -> None:
    top = L.DummyData(shape={"dim": 1})
    for _ in range(2000):
        top = L.Power(top)
    assert len(caffe.to_proto(top).layer) == 2001


def test_it_runs(tmp_path: Path) -> None:
    n = NetSpec()
    n.data, n.label = L.DummyData(shape=[{"dim": [2, 1, 8, 8]}, {"dim": 2}], ntop=2)
    n.ip = L.InnerProduct(n.data, num_output=3, weight_filler={"type": "xavier"})
    n.loss = L.SoftmaxWithLoss(n.ip, n.label)
    path = tmp_path / "net.prototxt"
    path.write_text(str(n.to_proto()))
    net = caffe.Net(str(path), caffe.TRAIN)
    assert net.forward()["loss"] == pytest.approx(1.0986, abs=1e-3)  # all inputs are 0: log 3


def test_tops_can_be_taken_away() -> None:
    n = NetSpec()
    small(n)
    del n.loss, n["relu"]
    assert [layer.name for layer in n.to_proto().layer] == ["data", "conv", "pool"]
    with pytest.raises(AttributeError, match="no top 'loss'; it has data, label, conv, pool"):
        n.loss  # noqa: B018
    assert not hasattr(NetSpec(), "conv")


def test_mistakes() -> None:
    pair = L.DummyData(ntop=2, shape={"dim": 3})
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(pair, ntop=0)
    with pytest.raises(
        AttributeError, match="layer type Pooling has no parameter 'kernel'; its own are pool, kernel_size"
    ):
        caffe.to_proto(L.Pooling(pair[0], kernel=3))
    with pytest.raises(AttributeError):
        assign_proto(LayerParameter(), "nothing", 1)
    with pytest.raises(TypeError):
        caffe.to_proto(L.Pooling(pair[0], kernel_size="three"))
    with pytest.raises(AttributeError, match="no attribute 'convolution'"):
        L.convolution  # noqa: B018

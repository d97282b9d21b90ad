"""Pictures of nets: the graph that is drawn, and what happens without the programs that draw."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

import caffe
from caffe import draw
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter, PoolingParameter

NET = """
name: "small net"
layer { name: "d" type: "Data" top: "x" top: "y" include { phase: TRAIN } data_param { batch_size: 7 } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 4 kernel_size: 3 kernel_size: 5 pad: 1 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_h: 2 kernel_w: 3 stride: 2 } }
layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 3 }
  include { phase: TEST } }
"""


@pytest.fixture
def net() -> NetParameter:
    return text_format.Parse(NET, NetParameter())


def test_boxes_octagons_and_arrows(net: NetParameter) -> None:
    graph = draw.get_pydot_graph(net, "LR")
    boxes = {node.get_name(): node.get_label() for node in graph.get_nodes()}
    assert boxes == {
        '"d_Data"': '"d\\n(Data)"',
        '"c_Convolution"': '"c\\n(Convolution)\\nkernel size: 3x5\\nstride: 1\\npad: 1"',
        '"r_ReLU"': '"r\\n(ReLU)"',
        '"p_Pooling"': '"p\\n(AVE Pooling)\\nkernel size: 2x3\\nstride: 2\\npad: 0"',
        '"f_InnerProduct"': '"f\\n(InnerProduct)"',
        **{f'"{blob}_blob"': f'"{blob}"' for blob in "xycpf"},
    }
    arrows = {(e.get_source(), e.get_destination()): e.get_label() for e in graph.get_edges()}
    assert arrows == {
        ('"d_Data"', '"x_blob"'): "Batch 7",
        ('"d_Data"', '"y_blob"'): "Batch 7",
        ('"x_blob"', '"c_Convolution"'): '""',
        ('"c_Convolution"', '"c_blob"'): "4",
        ('"c_blob"', '"r_ReLU"'): '""',
        ('"r_ReLU"', '"c_blob"'): '""',
        ('"c_blob"', '"p_Pooling"'): '""',
        ('"p_Pooling"', '"p_blob"'): '""',
        ('"p_blob"', '"f_InnerProduct"'): '""',
        ('"f_InnerProduct"', '"f_blob"'): "3",
    }


def test_one_phase_and_rates(net: NetParameter) -> None:
    names = {n.get_name() for n in draw.get_pydot_graph(net, "TB", phase=caffe.TRAIN).get_nodes()}
    assert '"d_Data"' in names
    assert '"f_InnerProduct"' not in names
    assert draw.get_layer_label(net.layer[1], "TB", display_lrm=True).endswith(' pad: 1 lr_mult: 1, 2"')
    assert draw.get_layer_lr_mult(net.layer[4]) == "lr_mult: 1"
    assert draw.get_layer_lr_mult(net.layer[2]) == ""


def test_small_helpers() -> None:
    assert draw.get_pooling_types_dict() == {
        PoolingParameter.MAX: "MAX",
        PoolingParameter.AVE: "AVE",
        PoolingParameter.STOCHASTIC: "STOCHASTIC",
    }
    colors = {draw.choose_color_by_layertype(t) for t in ("Convolution", "Pooling", "InnerProduct", "LRN")}
    assert len(colors) == 4
    assert draw.get_edge_label(LayerParameter(type="LRN")) == '""'


def test_a_text_file_needs_no_graphviz(net: NetParameter, tmp_path: Path) -> None:
    draw.draw_net_to_file(net, str(tmp_path / "net.dot"))
    lines = (tmp_path / "net.dot").read_text().splitlines()
    assert lines[0] == 'digraph "small net" {'
    assert lines[-1] == "}"
    assert sum(" -> " in line for line in lines) == 10
    assert any(line.startswith('"x_blob" [') and "octagon" in line for line in lines)


def test_without_graphviz(net: NetParameter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(caffe.CaffeError, match="Graphviz's dot command, which is not on PATH"):
        draw.draw_net(net, "LR")
    with pytest.raises(caffe.CaffeError, match="must end in the picture's format"):
        draw.draw_net_to_file(net, "net")


def test_without_pydot(net: NetParameter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(caffe.CaffeError, match="pip install pydot"):
        draw.get_pydot_graph(net, "LR")

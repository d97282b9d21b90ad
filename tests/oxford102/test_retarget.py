"""Last layers and data layers found in nets of several shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from oxford102.errors import ToolError
from oxford102.retarget import Target, even_batches, heads, layer_notes, new_heads, point_at, read_message

PATH = Path("some.prototxt")
TWO_HEADS = """
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  image_data_param { source: "a.txt" root_folder: "/x/" batch_size: 4 } }
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  transform_param { mean_file: "m.binaryproto" } image_data_param { source: "b.txt" batch_size: 50 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "side/fc" type: "InnerProduct" bottom: "conv" top: "side/fc" inner_product_param { num_output: 102 } }
layer { name: "side/loss" type: "SoftmaxWithLoss" bottom: "side/fc" bottom: "label" top: "side/loss" loss_weight: 0.3 }
layer { name: "fc_oxford_102" type: "Convolution" bottom: "conv" top: "scores" convolution_param { num_output: 102 } }
layer { name: "pool" type: "Pooling" bottom: "scores" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "top1" type: "Accuracy" bottom: "pool" bottom: "label" top: "top1" }
layer { name: "top5" type: "Accuracy" bottom: "pool" bottom: "label" top: "top5" accuracy_param { top_k: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool" bottom: "label" top: "loss" }
"""


def net(text: str) -> caffe_pb2.NetParameter:
    return text_format.Parse(text, caffe_pb2.NetParameter())


def target(classes: int, data: Path = Path()) -> Target:
    return Target(data, {"train": 30, "valid": 60, "test": 10}, classes, "pets")


def test_every_last_layer_is_renamed_and_resized(capsys: pytest.CaptureFixture[str]) -> None:
    message = net(TWO_HEADS)
    assert new_heads(message, PATH, target(3)) == {"side/fc": "side/fc_pets", "fc_oxford_102": "fc_pets"}
    layers = {layer.name: layer for layer in message.layer}
    assert layers["side/fc_pets"].inner_product_param.num_output == 3
    assert list(layers["side/fc_pets"].top) == list(layers["side/loss"].bottom)[:1] == ["side/fc_pets"]
    assert layers["fc_pets"].convolution_param.num_output == 3
    assert list(layers["fc_pets"].top) == list(layers["pool"].bottom) == ["scores"]
    assert layers["conv"].convolution_param.num_output == 8
    assert "top5" not in layers
    assert "top1" in layers
    assert capsys.readouterr().out == "some.prototxt: left out 'top5', the best 5 of 3 classes\n"


def test_the_other_layers_stay() -> None:
    message = net(TWO_HEADS)
    new_heads(message, PATH, target(102))
    restored = (
        text_format.MessageToString(message).replace("side/fc_pets", "side/fc").replace("fc_pets", "fc_oxford_102")
    )
    assert net(restored) == net(TWO_HEADS)


def test_a_net_without_one_last_layer() -> None:
    with pytest.raises(ToolError, match="expected one InnerProduct or Convolution layer before the outputs.*got none"):
        heads(net('layer { name: "x" type: "Softmax" bottom: "data" top: "x" }'), PATH)
    message = net(TWO_HEADS)
    message.layer[4].inner_product_param.num_output = 4
    with pytest.raises(ToolError, match=r"got side/fc \(4\), fc_oxford_102 \(102\)"):
        heads(message, PATH)


def test_what_silence_swallows_is_no_output() -> None:
    hushed = """layer { name: "more" type: "InnerProduct" bottom: "conv" top: "more"
          inner_product_param { num_output: 7 } }
        layer { name: "hush" type: "Silence" bottom: "more" }"""
    assert [layer.name for layer in heads(net(TWO_HEADS + hushed), PATH)] == ["side/fc", "fc_oxford_102"]


def test_data_layers_read_the_new_lists(tmp_path: Path) -> None:
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).touch()
    message = net(TWO_HEADS)
    point_at(message, PATH, target(3, tmp_path), ("train", "valid"), lambda path: f"moved/{path.name}")
    train, test = (layer.image_data_param for layer in message.layer[:2])
    assert (train.source, train.batch_size, train.HasField("root_folder")) == ("moved/train.txt", 4, False)
    assert (test.source, test.batch_size) == ("moved/valid.txt", 30)
    assert message.layer[1].transform_param.mean_file == "moved/m.binaryproto"


def test_data_layers_that_cannot_be_pointed(tmp_path: Path) -> None:
    message = net(TWO_HEADS)
    with pytest.raises(ToolError, match=r"reads a ImageData source, but there is no .*train\.txt"):
        point_at(message, PATH, target(3, tmp_path), ("train", "valid"), str)
    message.layer[0].ClearField("include")
    with pytest.raises(ToolError, match="'data' reads for training and testing"):
        point_at(message, PATH, target(3, tmp_path), ("train", "valid"), str)
    base = net('layer { name: "d" type: "Data" top: "d" top: "l" data_param { source: "x_lmdb" batch_size: 4 } }')
    with pytest.raises(ToolError, match="there is no .*test_lmdb; make it with make_dataset.py --lmdb --force"):
        point_at(base, PATH, target(3, tmp_path), ("test", "test"), str)


@pytest.mark.parametrize(
    ("pictures", "limit", "batches"),
    [(1020, 51, (51, 20)), (340, 51, (34, 10)), (6149, 50, (43, 143)), (20, 51, (20, 1)), (51, 51, (51, 1))],
)
def test_batches_divide(pictures: int, limit: int, batches: tuple[int, int]) -> None:
    assert even_batches(pictures, limit) == batches


@pytest.mark.parametrize("pictures", [347, 1021, 10007])
def test_primes_see_few_pictures_twice(pictures: int) -> None:
    size, number = even_batches(pictures, 50)
    assert 12 <= size <= 50
    twice = [n * -(-pictures // n) - pictures for n in range(1, pictures) if 13 <= -(-pictures // n) <= 50]
    assert 0 < size * number - pictures <= min(twice)


def test_comments_above_layers_are_kept_but_those_of_data(tmp_path: Path) -> None:
    text = '# top\nlayer { name: "d" type: "Data" top: "d" }\n\n  # one\n  # two\n  layer {\n name: "c" bottom: "d" }\n'
    (tmp_path / "n").write_text(text)
    assert layer_notes(tmp_path / "n", net(text)) == {"c": "one\ntwo"}
    packed = text.replace("\n\n", " ")
    (tmp_path / "n").write_text('layer { name: "d" } layer { name: "c" }')
    assert layer_notes(tmp_path / "n", net(packed)) == {}


def test_old_and_broken_files(tmp_path: Path) -> None:
    (tmp_path / "n").write_text("input: 'data' layers { name: 'a' }")
    with pytest.raises(ToolError, match="has 'input' beside its layers.*upgrade_net_proto_text .*/n NEW"):
        read_message(tmp_path / "n", caffe_pb2.NetParameter())
    (tmp_path / "n").write_text("layer {")
    with pytest.raises(ToolError, match="is not the prototxt of a NetParameter: 1:7 "):
        read_message(tmp_path / "n", caffe_pb2.NetParameter())

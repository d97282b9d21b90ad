"""Nets as text: what is written is read back as the same message, in the form that people read."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffe.proto.caffe_pb2 import NetParameter
from oxford102.prototxt import net_text

NET = """
name: "v1.0"
layer {
  name: "data" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mirror: true mean_value: 103.939 mean_value: 104 mean_value: 123.675 }
  image_data_param { source: "a: 1.0 b.txt" batch_size: 50 new_height: 256 new_width: 256 root_folder: "/" }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 0.5 }
  convolution_param { num_output: 96 kernel_size: 11 weight_filler { type: "gaussian" std: 1e-05 } }
}
layer { name: "conv" type: "ReLU" bottom: "conv" top: "conv" }
"""
TEXT = """\
# One.
# Two.
name: "v1.0"
layer {
  name: "data"
  type: "ImageData"
  top: "data"
  top: "label"
  include { phase: TRAIN }
  transform_param {
    mirror: true
    mean_value: 103.939
    mean_value: 104
    mean_value: 123.675
  }
  image_data_param {
    source: "a: 1.0 b.txt"
    batch_size: 50
    new_height: 256
    new_width: 256
    root_folder: "/"
  }
}
# The first
# of the name.
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  param { lr_mult: 1 }
  param { lr_mult: 0.5 }
  convolution_param {
    num_output: 96
    kernel_size: 11
    weight_filler { type: "gaussian" std: 1e-05 }
  }
}
layer {
  name: "conv"
  type: "ReLU"
  bottom: "conv"
  top: "conv"
}
"""


def test_text_of_a_net() -> None:
    net = text_format.Parse(NET, NetParameter())
    text = net_text(net, ["One.", "Two."], {"conv": "The first\nof the name."})
    assert text_format.Parse(text, NetParameter()) == net
    assert text == TEXT


def test_a_note_needs_its_layer() -> None:
    with pytest.raises(KeyError, match="conv2"):
        net_text(text_format.Parse(NET, NetParameter()), [], {"conv2": "nowhere"})

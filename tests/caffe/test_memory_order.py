from __future__ import annotations

import pytest
import torch
from google.protobuf import text_format

from caffe import TEST, TRAIN
from caffe.net import Net
from caffe.proto.caffe_pb2 import NetParameter

NET = """
layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "in" top: "conv" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "scale" top: "scale" }
layer { name: "pool" type: "Pooling" bottom: "scale" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "left" type: "Convolution" bottom: "pool" top: "left" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "right" type: "Convolution" bottom: "pool" top: "right"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "right" top: "sum" }
layer { name: "both" type: "Concat" bottom: "sum" bottom: "right" top: "both" }
"""


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_a_single_picture_keeps_its_channels_innermost(phase: int) -> None:
    """Lost order costs copies, and pooling that takes ten times as long."""
    param = text_format.Parse(NET, NetParameter())
    param.state.phase = phase
    net = Net.from_param(param)
    net.run_forward()
    for name, blob in list(net.blobs.items())[1:]:
        values = blob.data_tensor()
        assert values.stride() == torch.empty(values.shape).to(memory_format=torch.channels_last).stride(), name

"""A caffemodel as a state_dict: a safetensors file of arrays in PyTorch's layout, under Caffe's layer names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray

from oxford102.errors import told
from oxford102.files import check_folder, write_whole
from oxford102.runtime import check_weights, load_caffe

NAMES = {
    "Bias": ("bias",),
    "Convolution": ("weight", "bias"),
    "Deconvolution": ("weight", "bias"),
    "Embed": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "PReLU": ("weight",),
    "Scale": ("weight", "bias"),
}
"""Layer type -> what torch calls its blobs; those of other types are blob0, blob1, ... as Caffe has them."""


def export(deploy: Path, model: Path, output: Path) -> None:
    """Write the weights of a net as safetensors, with the prototxt in the file's metadata.

    Raises ToolError where the net and its weights do not fit, or the output cannot be written.
    """
    from safetensors.numpy import save

    check_folder(output)
    for path in (deploy, model):
        path.open("rb").close()  # its own error where there is no such file
    caffe = load_caffe()
    with told(f"{deploy} with {model}", RuntimeError):
        net = caffe.Net(str(deploy), caffe.TEST, weights=str(model))
    check_weights(net, deploy, model)
    prototxt = deploy.read_text()
    state = state_dict(net, transposed(prototxt))
    write_whole(output, save(state, metadata={"format": "pt", "prototxt": prototxt}))
    print(f"{output}: {len(state)} tensors, {sum(array.size for array in state.values()):,} numbers")


def transposed(prototxt: str) -> set[str]:
    """The InnerProduct layers whose weights are kept as [inputs, outputs]."""
    from caffe.proto import caffe_pb2

    net = text_format.Parse(prototxt, caffe_pb2.NetParameter())
    return {layer.name for layer in net.layer if layer.inner_product_param.transpose}


def state_dict(net: Any, turned: set[str]) -> dict[str, NDArray[np.float32]]:
    """The arrays of a pycaffe net by key, `<layer>.weight`; `turned` names the layers to be transposed.

    BatchNorm's sums are divided by their scale factor (all are 0 where that is 0, as in Caffe).
    """
    state = {}
    for name, blobs in net.params.items():
        kind, arrays = net.layer_dict[name].type, [blob.data for blob in blobs]
        if kind == "BatchNorm":
            mean, variance, factor = arrays
            scale = 1 / factor[0] if factor[0] else 0
            arrays = [mean * scale, variance * scale]
        if name in turned:
            arrays[0] = arrays[0].T
        for part, array in zip(_names(kind, len(arrays), len(net.bottom_names[name])), arrays, strict=True):
            state[f"{name}.{part}"] = np.ascontiguousarray(array)
    return state


def _names(kind: str, blobs: int, bottoms: int) -> tuple[str, ...]:
    if kind == "BatchNorm":
        return "running_mean", "running_var"
    if kind == "Scale" and bottoms == 2:  # the second one has the factors
        return ("bias",)
    return NAMES[kind][:blobs] if kind in NAMES else tuple(f"blob{i}" for i in range(blobs))

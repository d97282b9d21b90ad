"""The first format of layers, `layers { layer { type: "conv" … } bottom: … }`, where padding is a layer."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from google.protobuf.message import Message

from caffe import glog
from caffe.proto.caffe_pb2 import NetParameter, V0LayerParameter, V1LayerParameter

V0_COMMON = {
    "name": "name",
    "blobs": "blobs",
    "blobs_lr": "blobs_lr",
    "weight_decay": "weight_decay",
    "scale": "transform_param.scale",
    "meanfile": "transform_param.mean_file",
    "cropsize": "transform_param.crop_size",
    "mirror": "transform_param.mirror",
}
"""V0 field -> V1 field, for layers of all types."""

_V0_LEARNED = {"num_output": "num_output", "biasterm": "bias_term"}
_V0_LEARNED |= {"weight_filler": "weight_filler", "bias_filler": "bias_filler"}
_V0_WINDOW = {"pad": "pad", "kernelsize": "kernel_size", "stride": "stride"}
_V0_SOURCE = {"source": "source", "batchsize": "batch_size"}
_V0_DETECTION = {
    f"det_{name}": name for name in ("fg_threshold", "bg_threshold", "fg_fraction", "context_pad", "crop_mode")
}
_V0_IMAGES = {"rand_skip": "rand_skip", "shuffle_images": "shuffle"}
_V0_IMAGES |= {"new_height": "new_height", "new_width": "new_width"}

V0_TYPES: dict[str, tuple[str, str, dict[str, str]]] = {
    "accuracy": ("ACCURACY", "", {}),
    "bnll": ("BNLL", "", {}),
    "concat": ("CONCAT", "concat_param", {"concat_dim": "concat_dim"}),
    "conv": ("CONVOLUTION", "convolution_param", _V0_LEARNED | _V0_WINDOW | {"group": "group"}),
    "data": ("DATA", "data_param", _V0_SOURCE | {"rand_skip": "rand_skip"}),
    "dropout": ("DROPOUT", "dropout_param", {"dropout_ratio": "dropout_ratio"}),
    "euclidean_loss": ("EUCLIDEAN_LOSS", "", {}),
    "flatten": ("FLATTEN", "", {}),
    "hdf5_data": ("HDF5_DATA", "hdf5_data_param", _V0_SOURCE),
    "hdf5_output": ("HDF5_OUTPUT", "", {"hdf5_output_param": "hdf5_output_param"}),
    "im2col": ("IM2COL", "", {}),
    "images": ("IMAGE_DATA", "image_data_param", _V0_SOURCE | _V0_IMAGES),
    "infogain_loss": ("INFOGAIN_LOSS", "infogain_loss_param", {"source": "source"}),
    "innerproduct": ("INNER_PRODUCT", "inner_product_param", _V0_LEARNED),
    "lrn": ("LRN", "lrn_param", {name: name for name in ("local_size", "alpha", "beta", "k")}),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", "", {}),
    "pool": ("POOLING", "pooling_param", _V0_WINDOW | {"pool": "pool"}),
    "relu": ("RELU", "", {}),
    "sigmoid": ("SIGMOID", "", {}),
    "softmax": ("SOFTMAX", "", {}),
    "softmax_loss": ("SOFTMAX_LOSS", "", {}),
    "split": ("SPLIT", "", {}),
    "tanh": ("TANH", "", {}),
    "window_data": ("WINDOW_DATA", "window_data_param", _V0_SOURCE | _V0_DETECTION),
}
"""V0 type -> V1 type, parameter message that its fields move to ("" is the layer itself), names there."""


def needs_v0(net: NetParameter) -> bool:
    """Say whether any layer is of the first format."""
    return any(layer.HasField("layer") for layer in net.layers)


def upgrade_v0(net: NetParameter) -> bool:
    """Turn V0 layers into V1 layers; padding layers are folded into the convolution or pooling after them."""
    _fold_padding(net)
    complete = True
    for layer in net.layers:
        complete &= _upgrade_v0_layer(layer)
    return complete


def _fold_padding(net: NetParameter) -> None:
    paddings: dict[str, V1LayerParameter] = {}
    kept: list[V1LayerParameter] = []
    for layer in net.layers:
        for index, bottom in enumerate(layer.bottom):
            if bottom in paddings:
                padding = paddings[bottom]
                _check_padding(layer, padding)
                layer.layer.pad = padding.layer.pad
                layer.bottom[index] = padding.bottom[0]
        for top in layer.top:
            paddings.pop(top, None)
        if layer.layer.type == "padding":
            paddings.update(dict.fromkeys(layer.top, layer))
        else:
            kept.append(layer)
    if len(kept) < len(net.layers):
        copies = [V1LayerParameter.FromString(layer.SerializeToString()) for layer in kept]
        del net.layers[:]
        net.layers.extend(copies)


def _check_padding(layer: V1LayerParameter, padding: V1LayerParameter) -> None:
    where = f" (padding layer '{padding.layer.name}' before layer '{layer.layer.name}')"
    if layer.layer.type not in ("conv", "pool"):
        what = f"Padding layer input to non-convolutional / non-pooling layer type {layer.layer.type}"
        raise ValueError(what + where)
    if len(layer.bottom) != 1:
        raise ValueError("Conv Layer takes a single blob as input." + where)
    if len(padding.bottom) != 1:
        raise ValueError("Padding Layer takes a single blob as input." + where)
    if len(padding.top) != 1:
        raise ValueError("Padding Layer produces a single blob as output." + where)


def _upgrade_v0_layer(layer: V1LayerParameter) -> bool:
    """Move the fields of ``layer.layer`` to ``layer``; log those that a layer of its type never had."""
    if not layer.HasField("layer"):
        return True
    old = V0LayerParameter()
    old.CopyFrom(layer.layer)
    layer.ClearField("layer")
    if old.HasField("type") and old.type not in V0_TYPES:
        known = ", ".join(V0_TYPES)
        raise ValueError(f"Unknown layer name: {old.type} (layer '{old.name}'; known: {known}, padding)")
    new_type, param, fields = V0_TYPES.get(old.type, ("NONE", "", {}))
    if old.HasField("type"):
        put(layer, "type", V1LayerParameter.LayerType.Value(new_type))
    places = V0_COMMON | {name: f"{param}.{new}" if param else new for name, new in fields.items()}
    complete = True
    for field, value in old.ListFields():
        if field.name in places:
            put(layer, places[field.name], value)
        elif field.name != "type":
            glog.error("upgrade_proto.cpp:180", f"Unknown parameter {field.name} for layer type {old.type}")
            complete = False
    return complete


def put(message: Message, path: str, value: Any) -> None:
    """Set the field at `path` ("param.field") to `value`, or append to it where it is repeated."""
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    field = getattr(message, name)
    if isinstance(field, MutableSequence):
        field.extend(value if isinstance(value, MutableSequence) else [value])
    elif isinstance(field, Message):
        field.SetInParent()
        field.MergeFrom(value)
    else:
        setattr(message, name, value)

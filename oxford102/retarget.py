"""Nets made for other classes: the last layer renamed and resized, the data layers pointed at other lists."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from caffe.proto import caffe_pb2
from oxford102.errors import ToolError

M = TypeVar("M", bound=Message)

PARAMS = {"InnerProduct": "inner_product_param", "Convolution": "convolution_param"}
"""The layers that can be a net's last with weights, and where their num_output stands."""
_SOURCES = {"ImageData": "image_data_param", "Data": "data_param"}
_OURS = re.compile(r"_(oxford_?102|demo)$")  # what the last layers of this project's models end with


@dataclass(frozen=True)
class Target:
    """What a net is made for: a data folder, the sizes of its lists, its classes, and their word in layer names."""

    data: Path
    sizes: Mapping[str, int]
    classes: int
    word: str


def read_message(path: Path, message: M) -> M:
    """Parse a prototxt into `message`; raises ToolError where it is none, or of Caffe's older formats."""
    try:
        text_format.Parse(path.read_text("utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ToolError(f"{path} is not the prototxt of a {type(message).__name__}: {error}") from error
    if isinstance(message, caffe_pb2.NetParameter):
        fields = {field.name for field, _ in message.ListFields()} - {"name", "layer"}
        if fields:
            cure = f"bring it up to date with: upgrade_net_proto_text {path} NEW.prototxt"
            raise ToolError(f"{path} has '{min(fields)}' beside its layers, which cannot be carried over; {cure}")
    return message


def layer_notes(path: Path, net: Any) -> dict[str, str]:
    """The comments right above layers, {layer: lines}; those of data layers tell of other data and are left out."""
    pattern = r"((?:^[ \t]*#.*\n)*)^[ \t]*layer[ \t:]*\{"
    blocks = [match[1] for match in re.finditer(pattern, path.read_text("utf-8"), re.MULTILINE)]
    if len(blocks) != len(net.layer):
        return {}  # written in another way than one layer after the other
    pairs = zip(net.layer, blocks, strict=True)
    return {
        layer.name: re.sub(r"^[ \t]*# ?", "", note, flags=re.MULTILINE).rstrip("\n")
        for layer, note in pairs
        if note and layer.bottom
    }


def heads(net: Any, path: Path) -> list[Any]:
    """The last layers with weights: those that the net's outputs, losses and accuracies come from.

    Raises ToolError where there is none, or where several have different sizes.
    """
    used = {bottom for layer in net.layer for bottom in layer.bottom if bottom not in layer.top}
    ends = [i for i, layer in enumerate(net.layer) if layer.bottom and not used & set(layer.top)]
    found = {layer.name: layer for layer in (_before(net, i) for i in ends) if layer is not None}
    sizes = {name: outputs(layer) for name, layer in found.items()}
    if len(set(sizes.values())) != 1:
        told = ", ".join(f"{name} ({size})" for name, size in sizes.items()) or "none"
        kinds = " or ".join(PARAMS)
        raise ToolError(f"{path}: expected one {kinds} layer before the outputs, or several of one size; got {told}")
    return list(found.values())


def _before(net: Any, index: int) -> Any:
    """The nearest layer with weights at or before a layer, along first bottoms; None where there is none."""
    while net.layer[index].type not in PARAMS:
        layer = net.layer[index]
        makers = [i for i in range(index) if layer.bottom and layer.bottom[0] in net.layer[i].top]
        if layer.type == "Silence" or not makers:
            return None
        index = makers[-1]
    return net.layer[index]


def outputs(layer: Any) -> int:
    """A layer's num_output."""
    return int(getattr(layer, PARAMS[layer.type]).num_output)


def new_heads(net: Any, path: Path, target: Target) -> dict[str, str]:
    """Rename and resize the last layers, so that they start anew whatever the weights; {old name: new name}."""
    renamed = {}
    for head in heads(net, path):
        old, new = head.name, f"{_OURS.sub('', head.name)}_{target.word}"
        for layer in [layer for layer in net.layer if layer.name == old]:  # one a phase, perhaps
            getattr(layer, PARAMS[layer.type]).num_output = target.classes
            layer.name = new
        for layer in net.layer:
            for blobs in (layer.top, layer.bottom):
                blobs[:] = [new if blob == old else blob for blob in blobs]
        renamed[old] = new
    for layer in [layer for layer in net.layer if layer.accuracy_param.top_k > target.classes]:
        print(f"{path}: left out '{layer.name}', the best {layer.accuracy_param.top_k} of {target.classes} classes")
        net.layer.remove(layer)
    return renamed


def point_at(net: Any, path: Path, target: Target, splits: Sequence[str], move: Callable[[Path], str]) -> None:
    """Let the data layers read the target's lists or databases; the batches of validation and test divide them.

    Args:
        net: the net of the prototxt `path`.
        target: whose lists.
        splits: what is read in the phases TRAIN and TEST.
        move: how a file is written in the new prototxt.

    Raises:
        ToolError: a layer is in both phases, or would read what is not there.
    """
    for layer in [layer for layer in net.layer if layer.type in _SOURCES]:
        phases = [rule.phase for rule in layer.include if rule.HasField("phase")]
        if not phases and len(set(splits)) > 1:
            raise ToolError(f"{path}: '{layer.name}' reads for training and testing; give it include {{ phase: … }}")
        split = splits[phases[0] if phases else 0]
        param = data_param(layer)
        source = target.data / (f"{split}.txt" if layer.type == "ImageData" else f"{split}_lmdb")
        if not source.exists():
            cure = "; make it with make_dataset.py --lmdb --force" if layer.type == "Data" else ""
            raise ToolError(f"{path} reads a {layer.type} source, but there is no {source}{cure}")
        param.source = move(source)
        if layer.type == "ImageData":
            param.ClearField("root_folder")
        if split != "train":
            param.batch_size = even_batches(target.sizes[split], param.batch_size)[0]
        if layer.transform_param.mean_file:
            layer.transform_param.mean_file = move(path.parent / layer.transform_param.mean_file)


def data_layer(net: Any, path: Path, phase: int) -> Any:
    """The layer that reads the pictures in a phase; raises ToolError where there is none of a type known here."""
    for layer in net.layer:
        phases = [rule.phase for rule in layer.include if rule.HasField("phase")]
        if layer.type in _SOURCES and (not phases or phase in phases):
            return layer
    name = caffe_pb2.Phase.Name(phase)
    raise ToolError(f"{path}: expected a data layer of type {' or '.join(_SOURCES)} for {name}, none is there")


def data_param(layer: Any) -> Any:
    """A data layer's source, batch_size and so on."""
    return getattr(layer, _SOURCES[layer.type])


def list_of(layer: Any, folder: Path) -> Path:
    """The list of a data layer's pictures, seen from `folder`: train.txt also where it reads a train_lmdb beside it."""
    source = folder / data_param(layer).source
    return source if layer.type == "ImageData" else source.with_name(f"{source.name.removesuffix('_lmdb')}.txt")


def even_batches(pictures: int, limit: int) -> tuple[int, int]:
    """The size of batches and their number, to see each picture once: the largest divisor up to `limit`.

    Where none is above a quarter of it, the batches that see the fewest pictures twice.
    """
    limit = max(limit, 1)
    if pictures <= limit:
        return pictures, 1
    fewest = -(-pictures // limit)
    numbers = range(fewest, max(pictures // max(limit // 4, 1), fewest) + 1)
    number = min(numbers, key=lambda n: -(-pictures // n) * n - pictures)
    return -(-pictures // number), number


def path_from(folder: Path) -> Callable[[Path], str]:
    """How files are named in a prototxt that is used in `folder`, as all prototxts of models/ are."""
    here = folder.resolve()
    return lambda path: os.path.relpath(path.parent.resolve() / path.name, here)

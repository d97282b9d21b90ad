"""torchvision's VGG-16 and ResNet-50 as caffemodels.

torchvision's nets see (x/255 - mean)/std in red, green, blue; Caffe's see x - 255 mean in blue, green, red. So the
first convolution's input channels are reversed and divided by 255 std; all else is only named otherwise.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from oxford102.errors import ToolError, told
from oxford102.files import check_folder
from oxford102.runtime import build_net
from oxford102.weights import CONVERTED

if TYPE_CHECKING:
    from torch import Tensor

MODELS = Path(__file__).resolve().parent.parent / "models"
MEAN = "103.53,116.28,123.675"  # blue, green, red: 255 times 0.406, 0.456 and 0.485
STD = (0.225, 0.224, 0.229)  # blue, green, red
VGG16_BLOCKS = (2, 2, 3, 3, 3)  # convolutions before each pooling
RESNET50_BLOCKS = (3, 4, 6, 3)  # in each stage

State: TypeAlias = "dict[str, Tensor]"
Keys: TypeAlias = "dict[str, tuple[str | None, ...]]"
"""Layer -> torchvision's key of each of its blobs; None for BatchNorm's scale factor, which is 1."""


@dataclass(frozen=True)
class Network:
    """One of torchvision's: the folder with its prototxts, a key that no other has, all keys, its first layer."""

    name: str
    model: str
    telltale: str
    keys: Callable[[], Keys]
    first: str


def vgg16_keys() -> Keys:
    """torchvision numbers convolutions, ReLUs and poolings through."""
    keys: Keys = {}
    place = 0
    for block, depth in enumerate(VGG16_BLOCKS, 1):
        for i in range(1, depth + 1):
            keys[f"conv{block}_{i}"] = _affine(f"features.{place}")
            place += 2  # the convolution and its ReLU
        place += 1  # the pooling
    return keys | {f"fc{i}": _affine(f"classifier.{3 * (i - 6)}") for i in (6, 7, 8)}


def resnet50_keys() -> Keys:
    """Its stage 1 is Caffe's res2, its blocks 0, 1, ... are a, b, ..., its downsample is branch1."""
    keys = _normalized("conv1", "_conv1", "conv1", "bn1")
    for stage, depth in enumerate(RESNET50_BLOCKS, 1):
        for block in range(depth):
            theirs, ours = f"layer{stage}.{block}", f"{stage + 1}{'abcdef'[block]}_branch"
            if block == 0:
                keys |= _normalized(f"res{ours}1", f"{ours}1", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
            for i, part in enumerate("abc", 1):
                keys |= _normalized(f"res{ours}2{part}", f"{ours}2{part}", f"{theirs}.conv{i}", f"{theirs}.bn{i}")
    return keys | {"fc1000": _affine("fc")}


def _affine(key: str) -> tuple[str, str]:
    return f"{key}.weight", f"{key}.bias"


def _normalized(conv: str, stem: str, conv_key: str, bn_key: str) -> Keys:
    return {
        conv: (f"{conv_key}.weight",),
        f"bn{stem}": (f"{bn_key}.running_mean", f"{bn_key}.running_var", None),
        f"scale{stem}": _affine(bn_key),
    }


NETWORKS = (
    Network("vgg16", "VGG16", "features.0.weight", vgg16_keys, "conv1_1"),
    Network("resnet50", "ResNet50-v1.5", "layer1.0.conv1.weight", resnet50_keys, "conv1"),
)


def convert(source: Path, output: Path) -> None:
    """Write the `.pth` file of a torchvision net as a caffemodel, and tell where it fits.

    Raises ToolError where the file is none of the two nets' state_dict, or the output cannot be written.
    """
    check_folder(output)
    state = read_state(source)
    network = recognise(source, state)
    deploy = MODELS / network.model / "deploy_imagenet.prototxt"
    if not deploy.is_file():
        raise ToolError(f"{deploy}: no such file; it comes with the repository, run the script there")
    # the net's name stands in the caffemodel too
    net = build_net(re.sub('^name: "[^"]*', rf"\g<0>{CONVERTED}", deploy.read_text("utf-8"), flags=re.MULTILINE))
    fill(net, network, source, state)
    with told(str(output), RuntimeError):
        net.save(str(output))
    print(f"{output}: torchvision's {network.name}, {len(state)} tensors, for models/{network.model}; mean {MEAN}")


def read_state(path: Path) -> State:
    """The state_dict in a `.pth` file, which may hold tensors and nothing that runs; else raises ToolError."""
    import torch  # here, so that asking for --help does not wait for it

    path.open("rb").close()  # its own error where there is no such file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL " in str(error):  # a class or function, of a blocked module or of any
            why = "it holds Python objects, which are not loaded, for they could run anything"
            raise ToolError(f"{path}: {why}; save the model's state_dict() alone") from error
        raise ToolError(f"{path} is not a PyTorch file; download it again") from error
    except Exception as error:  # torch raises a dozen kinds on a file that is cut or something else
        raise ToolError(f"{path} is not a whole PyTorch file; download it again") from error
    tensors = isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())
    if not tensors or not all(isinstance(key, str) for key in state):
        held = _some(list(state)) if isinstance(state, dict) else type(state).__name__
        raise ToolError(f"{path}: expected a state_dict, tensors by name; it holds {held}")
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def recognise(path: Path, state: State) -> Network:
    """The network whose weights these are; raises ToolError where a key is missing or too many."""
    network = next((n for n in NETWORKS if n.telltale in state), None)
    if network is None:
        raise ToolError(f"{path}: expected torchvision's vgg16 or resnet50; it holds {_some(list(state))}")
    keys = {key for row in network.keys().values() for key in row if key is not None}
    for what, odd in (("has no", keys - set(state)), ("has also", set(state) - keys)):
        if odd:
            raise ToolError(f"{path} is not torchvision's {network.name}: it {what} {_some(sorted(odd))}")
    return network


def fill(net: Any, network: Network, path: Path, state: State) -> None:
    """Put the tensors into the net; raises ToolError where one has another shape."""
    for layer, keys in network.keys().items():
        for blob, key in zip(net.params[layer], keys, strict=True):
            if key is None:
                blob.data[...] = 1
                continue
            tensor, shape = state[key], blob.data.shape
            if tuple(tensor.shape) != shape or not tensor.is_floating_point():
                theirs = f"{list(tensor.shape)} of {tensor.dtype}"
                raise ToolError(
                    f"{path} is not torchvision's {network.name}: '{key}' is {theirs}, expected {list(shape)} of floats"
                )
            blob.data[...] = tensor.float().numpy()
    first = net.params[network.first][0].data  # [n, 3, h, w]
    first[...] = first[:, ::-1] / (255 * np.array(STD, np.float32)[:, None, None])


def _some(keys: list[str]) -> str:
    """The first names of many, in quotes."""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return (", ".join(f"'{key}'" for key in keys[:3]) or "nothing") + more

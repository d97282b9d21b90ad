"""Layer types by name: a class is registered beside its definition, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

import torch

from caffe.errors import NetError
from caffe.layers.base import Layer
from caffe.proto.caffe_pb2 import LayerParameter

_types: dict[str, type[Layer]] = {}


def register(name: str) -> Callable[[type[Layer]], type[Layer]]:
    """Class decorator: make the class answer to ``type: "name"`` in a prototxt."""

    def decorate(cls: type[Layer]) -> type[Layer]:
        if name in _types:
            raise ValueError(f"layer type {name} is registered twice")
        cls.type = name
        _types[name] = cls
        return cls

    return decorate


def layer_type_list() -> list[str]:
    """Names of all layer types, sorted (pycaffe's `layer_type_list`)."""
    return sorted(_types)


def check(param: LayerParameter) -> None:
    """Check that ``param.type`` is known.

    Raises:
        NetError: it is not; the message lists what is.
    """
    if param.type not in _types:
        near = get_close_matches(param.type, _types, n=1, cutoff=0.7)
        cure = f"did you mean {near[0]}?" if near else "if it is another Caffe's, write it as a Python layer."
        raise NetError(
            f"Layer '{param.name}' is of a type that BVLC Caffe does not have: {cure} "
            f"Check failed: registry.count(type) == 1 (0 vs. 1) Unknown layer type: {param.type} "
            f"(known types: {', '.join(layer_type_list())})"
        )


def create(param: LayerParameter, device: torch.device) -> Layer:
    """Make the layer that ``param.type`` names, which `check` must know."""
    check(param)
    return _types[param.type](param, device)

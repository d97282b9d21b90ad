"""Caffe's layer catalogue, a file a family. Importing the package registers every type.

It is pycaffe's ``caffe.layers`` too: a capitalised name, ``layers.Convolution``, is net_spec's factory.
"""

from __future__ import annotations

from typing import Any

from caffe import net_spec
from caffe.layers import (
    activation,
    common,
    data,
    hdf5,
    loss,
    loss_targets,
    memory,
    normalization,
    pooling,
    python,
    recurrent,
    shaping,
    utility,
    vision,
    window_data,
)

__all__ = [
    "activation",
    "common",
    "data",
    "hdf5",
    "loss",
    "loss_targets",
    "memory",
    "normalization",
    "pooling",
    "python",
    "recurrent",
    "shaping",
    "utility",
    "vision",
    "window_data",
]


def __getattr__(name: str) -> Any:
    if not name[:1].isupper():
        raise AttributeError(f"module 'caffe.layers' has no attribute {name!r}")
    return getattr(net_spec.layers, name)

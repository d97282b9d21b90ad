"""pycaffe's public names: ``import caffe`` as with BVLC Caffe 1.0.

A name is loaded when it is first used, so that commands which need no net do not wait for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "1.0.0"

# name -> where it is defined
_NAMES = {
    "Net": "caffe.net",
    "Blob": "caffe.blob",
    "Layer": "caffe.layers.base",
    "SGDSolver": "caffe.solvers.sgd",
    "get_solver": "caffe.solvers.solver",
    "Classifier": "caffe.classifier",
    "set_mode_cpu": "caffe.device",
    "set_mode_gpu": "caffe.device",
    "set_device": "caffe.device",
    "set_random_seed": "caffe.rng",
    "layer_type_list": "caffe.layers.registry",
    "TRAIN": "caffe.proto.caffe_pb2",
    "TEST": "caffe.proto.caffe_pb2",
    "CaffeError": "caffe.errors",
}
_MODULES = ("classifier", "errors", "io", "proto")

__all__ = [*_NAMES, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"caffe.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'caffe' has no attribute {name!r}")
    import_module("caffe.layers")  # every layer type is registered before any is asked for
    import_module("caffe.solvers")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

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
    "Layer": "caffe.layers.python",
    "layer_type_list": "caffe.layers.registry",
    "SGDSolver": "caffe.solvers.sgd",
    "NesterovSolver": "caffe.solvers.nesterov",
    "AdaGradSolver": "caffe.solvers.adagrad",
    "RMSPropSolver": "caffe.solvers.rmsprop",
    "AdaDeltaSolver": "caffe.solvers.adadelta",
    "AdamSolver": "caffe.solvers.adam",
    "get_solver": "caffe.solvers.solver",
    "NetSpec": "caffe.net_spec",
    "params": "caffe.net_spec",
    "to_proto": "caffe.net_spec",
    "Classifier": "caffe.classifier",
    "Detector": "caffe.detector",
    "Timer": "caffe.timer",
    "init_log": "caffe.glog",
    "log": "caffe.glog",
    "set_mode_cpu": "caffe.device",
    "set_mode_gpu": "caffe.device",
    "set_device": "caffe.device",
    "set_random_seed": "caffe.rng",
    "NCCL": "caffe.parallel",
    "has_nccl": "caffe.parallel",
    "set_multiprocess": "caffe.parallel",
    "set_solver_count": "caffe.parallel",
    "set_solver_rank": "caffe.parallel",
    "solver_count": "caffe.parallel",
    "solver_rank": "caffe.parallel",
    "TRAIN": "caffe.proto.caffe_pb2",
    "TEST": "caffe.proto.caffe_pb2",
    "CaffeError": "caffe.errors",
}
_MODULES = ("classifier", "coord_map", "detector", "draw", "errors", "io", "layers", "net_spec", "proto", "pycaffe")

__all__ = [*_NAMES, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES or name == "_caffe":
        return import_module(f"caffe.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'caffe' has no attribute {name!r}")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

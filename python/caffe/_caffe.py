"""BVLC's extension module: its names are `caffe`'s own, and scripts import them from here too."""

from __future__ import annotations

from typing import Any

import caffe
from caffe.blob import BlobVec
from caffe.proto.caffe_pb2 import LayerParameter, SolverParameter
from caffe.solvers.solver import Solver

__all__ = ["BlobVec", "LayerParameter", "Solver", "SolverParameter"]

BoolVec = DtypeVec = IntVec = LayerVec = NetVec = RawBlobVec = StringVec = list
"""Lists of other things than parameter blobs are plain ones."""


def __getattr__(name: str) -> Any:
    return getattr(caffe, name)

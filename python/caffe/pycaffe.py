"""BVLC's module of this name: its names are `caffe`'s own, and scripts import them from here too."""

from __future__ import annotations

from typing import Any

import caffe

SOLVERS = [f"{rule}Solver" for rule in ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")]
__all__ = ["NCCL", "Net", "Timer", "io", *SOLVERS]  # noqa: F822, they are found below


def __getattr__(name: str) -> Any:
    return getattr(caffe, name)

"""RMSProp: AdaGrad with a memory that fades."""

from __future__ import annotations

import torch

from caffe.errors import SolverError
from caffe.solvers.adagrad import AdaGradSolver
from caffe.solvers.registry import register


@register("RMSProp")
class RMSPropSolver(AdaGradSolver):
    """H = rms_decay · H + (1 − rms_decay) · gradient²; W −= rate · gradient / (√H + delta) (Tieleman, Hinton 2012)."""

    def _pre_solve(self) -> None:
        super()._pre_solve()
        if not 0 <= self.param.rms_decay < 1:
            raise SolverError(f"rms_decay should lie between 0 and 1 (1 excluded), it is {self.param.rms_decay:g}")

    def _remember(self, history: list[torch.Tensor], squares: tuple[torch.Tensor, ...]) -> None:
        torch._foreach_lerp_(history, squares, 1 - self.param.rms_decay)

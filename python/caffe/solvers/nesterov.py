"""Nesterov's accelerated gradient."""

from __future__ import annotations

from caffe.solvers.registry import register
from caffe.solvers.sgd import SGDSolver
from caffe.wiring import Learnable


@register("Nesterov")
class NesterovSolver(SGDSolver):
    """V' = momentum · V + rate · gradient; W −= (1 + momentum) · V' − momentum · V (Sutskever et al. 2013)."""

    def _compute_update(self, number: int, parameter: Learnable, rate: float) -> None:
        diff, history, momentum = parameter.blob.diff_tensor(), self.history[number], self.param.momentum
        before = history.clone()
        history.mul_(momentum).add_(diff, alpha=rate)
        diff.copy_(history).mul_(1 + momentum).sub_(before, alpha=momentum)

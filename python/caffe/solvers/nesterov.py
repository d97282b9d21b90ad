"""Nesterov's accelerated gradient."""

from __future__ import annotations

import torch

from caffe.solvers.registry import register
from caffe.solvers.sgd import Alike, SGDSolver


@register("Nesterov")
class NesterovSolver(SGDSolver):
    """V' = momentum · V + rate · gradient; W −= (1 + momentum) · V' − momentum · V (Sutskever et al. 2013)."""

    def _compute_update(self, alike: Alike) -> None:
        (history,), momentum = alike.histories, self.param.momentum
        torch._foreach_mul_(alike.diffs, alike.rate)
        torch._foreach_mul_(history, momentum)
        torch._foreach_add_(history, alike.diffs)
        torch._foreach_add_(alike.diffs, history, alpha=momentum)  # momentum · V is V' − rate · gradient

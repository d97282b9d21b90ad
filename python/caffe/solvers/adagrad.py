"""AdaGrad: rates that fall as squared gradients add up."""

from __future__ import annotations

import torch

from caffe.errors import SolverError
from caffe.solvers.registry import register
from caffe.solvers.sgd import SGDSolver
from caffe.wiring import Learnable


@register("AdaGrad")
class AdaGradSolver(SGDSolver):
    """H += gradient²; W −= rate · gradient / (√H + delta) (Duchi et al. 2011)."""

    def _pre_solve(self) -> None:
        super()._pre_solve()
        if self.param.momentum:
            raise SolverError(
                f"Check failed: 0 == this->param_.momentum() (0 vs. {self.param.momentum:g}) Momentum cannot be used "
                f"with {self.type}. Leave momentum out of the solver file"
            )

    def _compute_update(self, number: int, parameter: Learnable, rate: float) -> None:
        diff, history = parameter.blob.diff_tensor(), self.history[number]
        self._remember(history, diff.square())
        diff.mul_(rate).div_(history.sqrt() + self.param.delta)

    def _remember(self, history: torch.Tensor, square: torch.Tensor) -> None:
        history.add_(square)

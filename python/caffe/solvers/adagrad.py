"""AdaGrad: rates that fall as squared gradients add up."""

from __future__ import annotations

import torch

from caffe.errors import SolverError
from caffe.solvers.registry import register
from caffe.solvers.sgd import Alike, SGDSolver


@register("AdaGrad")
class AdaGradSolver(SGDSolver):
    """H += gradient²; W −= rate · gradient / (√H + delta) (Duchi et al. 2011)."""

    remembers_gradients = True

    def _pre_solve(self) -> None:
        super()._pre_solve()
        if self.param.momentum:
            raise SolverError(
                f"Check failed: 0 == this->param_.momentum() (0 vs. {self.param.momentum:g}) Momentum cannot be used "
                f"with {self.type}. Leave momentum out of the solver file"
            )

    def _compute_update(self, alike: Alike) -> None:
        (history,) = alike.histories
        self._remember(history, torch._foreach_mul(alike.diffs, alike.diffs))
        below = torch._foreach_sqrt(history)
        torch._foreach_add_(below, self.param.delta)
        torch._foreach_mul_(alike.diffs, alike.rate)
        torch._foreach_div_(alike.diffs, below)

    def _remember(self, history: list[torch.Tensor], squares: tuple[torch.Tensor, ...]) -> None:
        torch._foreach_add_(history, squares)

"""Adam: momentum and a fading mean of squares, both corrected for their start at zero."""

from __future__ import annotations

import torch

from caffe.errors import SolverError
from caffe.solvers.registry import register
from caffe.solvers.sgd import Alike, SGDSolver


@register("Adam")
class AdamSolver(SGDSolver):
    """M, V: fading means (``momentum``, ``momentum2``) of gradient and gradient²; t counts from 1.

    W −= rate · √(1 − momentum2^t) / (1 − momentum^t) · M / (√V + delta) (Kingma and Ba 2015). The history
    holds all M, then all V.
    """

    histories = 2
    remembers_gradients = True

    def _pre_solve(self) -> None:
        super()._pre_solve()
        for name in ("momentum", "momentum2"):
            if not 0 <= getattr(self.param, name) < 1:
                raise SolverError(
                    f"Adam's {name} is {getattr(self.param, name):g}: it should lie between 0 and 1 (0.9 and 0.999 are "
                    "usual), 1 excluded"
                )

    def _correction(self) -> float:
        p, t = self.param, self.iter + 1
        return (1 - p.momentum2**t) ** 0.5 / (1 - p.momentum**t)

    def _compute_update(self, alike: Alike) -> None:
        (means, squares), p = alike.histories, self.param
        torch._foreach_lerp_(means, alike.diffs, 1 - p.momentum)
        torch._foreach_lerp_(squares, torch._foreach_mul(alike.diffs, alike.diffs), 1 - p.momentum2)
        below = torch._foreach_sqrt(squares)
        torch._foreach_add_(below, p.delta)
        torch._foreach_copy_(alike.diffs, means)
        torch._foreach_mul_(alike.diffs, alike.rate)
        torch._foreach_div_(alike.diffs, below)

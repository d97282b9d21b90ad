"""Adam: momentum and a fading mean of squares, both corrected for their start at zero."""

from __future__ import annotations

from caffe.solvers.registry import register
from caffe.solvers.sgd import SGDSolver
from caffe.wiring import Learnable


@register("Adam")
class AdamSolver(SGDSolver):
    """M, V: fading means (``momentum``, ``momentum2``) of gradient and gradient²; t counts from 1.

    W −= rate · √(1 − momentum2^t) / (1 − momentum^t) · M / (√V + delta) (Kingma and Ba 2015). The history
    holds all M, then all V.
    """

    histories = 2

    def _compute_update(self, number: int, parameter: Learnable, rate: float) -> None:
        p, t = self.param, self.iter + 1
        diff, mean = parameter.blob.diff_tensor(), self.history[number]
        square = self.history[number + len(self.net.learnable)]
        mean.lerp_(diff, 1 - p.momentum)
        square.lerp_(diff.square(), 1 - p.momentum2)
        correction = (1 - p.momentum2**t) ** 0.5 / (1 - p.momentum**t)
        diff.copy_(mean).mul_(rate * correction).div_(square.sqrt() + p.delta)

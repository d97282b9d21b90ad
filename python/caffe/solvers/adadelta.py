"""AdaDelta: steps scaled by the size of earlier steps."""

from __future__ import annotations

from caffe.solvers.registry import register
from caffe.solvers.sgd import SGDSolver
from caffe.wiring import Learnable


@register("AdaDelta")
class AdaDeltaSolver(SGDSolver):
    """G, S: fading means (``momentum``) of gradient² and step²; W −= rate · √((S + delta) / (G + delta)) · gradient.

    Zeiler 2012. The history holds all G, then all S.
    """

    histories = 2

    def _compute_update(self, number: int, parameter: Learnable, rate: float) -> None:
        delta, fade = self.param.delta, 1 - self.param.momentum
        diff, gradients = parameter.blob.diff_tensor(), self.history[number]
        steps = self.history[number + len(self.net.learnable)]
        gradients.lerp_(diff.square(), fade)
        diff.mul_(((steps + delta) / (gradients + delta)).sqrt_())
        steps.lerp_(diff.square(), fade)
        diff.mul_(rate)

"""AdaDelta: steps scaled by the size of earlier steps."""

from __future__ import annotations

import torch

from caffe.solvers.registry import register
from caffe.solvers.sgd import Alike, SGDSolver


@register("AdaDelta")
class AdaDeltaSolver(SGDSolver):
    """G, S: fading means (``momentum``) of gradient² and step²; W −= rate · √((S + delta) / (G + delta)) · gradient.

    Zeiler 2012. The history holds all G, then all S.
    """

    histories = 2
    remembers_gradients = True

    def _compute_update(self, alike: Alike) -> None:
        (gradients, steps), diffs = alike.histories, alike.diffs
        delta, fade = self.param.delta, 1 - self.param.momentum
        torch._foreach_lerp_(gradients, torch._foreach_mul(diffs, diffs), fade)
        ratios = torch._foreach_add(steps, delta)
        torch._foreach_div_(ratios, torch._foreach_add(gradients, delta))
        torch._foreach_sqrt_(ratios)
        torch._foreach_mul_(diffs, ratios)
        torch._foreach_lerp_(steps, torch._foreach_mul(diffs, diffs), fade)
        torch._foreach_mul_(diffs, alike.rate)

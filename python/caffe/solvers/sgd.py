"""Stochastic gradient descent with momentum, and what all rules of its family share."""

from __future__ import annotations

import torch

from caffe import glog
from caffe.errors import SolverError
from caffe.solvers.registry import register
from caffe.solvers.solver import Solver
from caffe.wiring import Learnable


@register("SGD")
class SGDSolver(Solver):
    """V = momentum · V + rate · gradient; W −= V. The rate is inside V, as Caffe has it.

    Order of an update: clip by the gradients' joint L2 norm, divide by iter_size, add the weight decay,
    apply the rule.
    """

    histories = 1  # arrays a parameter that the rule remembers

    def _pre_solve(self) -> None:
        shapes = [p.blob.shape for p in self.net.learnable] * self.histories
        self.history = [torch.zeros(shape, device=self.net.device) for shape in shapes]
        if self.param.regularization_type not in ("L1", "L2"):
            raise SolverError(f"Unknown regularization type: {self.param.regularization_type} (known types: L1, L2)")

    @torch.no_grad()
    def apply_update(self) -> None:
        """Update every learnable parameter from its gradient; afterwards its diff holds what was subtracted."""
        rate = self.lr
        if self.param.display and self.iter % self.param.display == 0:
            glog.info("sgd_solver.cpp:112", f"Iteration {self.iter}, lr = {rate:g}")
        self._clip_gradients()
        for number, parameter in enumerate(self.net.learnable):
            local = rate * parameter.lr_mult
            if local == 0 and not parameter.blob.has_diff:
                continue  # frozen: nothing was computed and nothing moves
            self._normalize(parameter)
            self._regularize(parameter)
            self._compute_update(number, parameter, local)
            parameter.blob.data_tensor().sub_(parameter.blob.diff_tensor())

    def _clip_gradients(self) -> None:
        limit = self.param.clip_gradients
        if limit < 0:
            return
        diffs = [p.blob.diff_tensor() for p in self.net.learnable if p.blob.has_diff]
        norm = float(torch.stack([d.square().sum() for d in diffs]).sum().sqrt()) if diffs else 0.0
        if norm > limit:
            scale = limit / norm
            glog.info(
                "sgd_solver.cpp:128",
                f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g}) by scale factor {scale:g}",
            )
            for diff in diffs:
                diff.mul_(scale)

    def _normalize(self, parameter: Learnable) -> None:
        if self.param.iter_size > 1:
            parameter.blob.diff_tensor().mul_(1 / self.param.iter_size)

    def _regularize(self, parameter: Learnable) -> None:
        decay = self.param.weight_decay * parameter.decay_mult
        if not decay:
            return
        data, diff = parameter.blob.data_tensor(), parameter.blob.diff_tensor()
        diff.add_(data if self.param.regularization_type == "L2" else data.sign(), alpha=decay)

    def _compute_update(self, number: int, parameter: Learnable, rate: float) -> None:
        """Turn the parameter's diff into what will be subtracted from it."""
        diff, history = parameter.blob.diff_tensor(), self.history[number]
        diff.mul_(rate).add_(history, alpha=self.param.momentum)
        history.copy_(diff)

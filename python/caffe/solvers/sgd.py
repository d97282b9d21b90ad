"""Stochastic gradient descent with momentum, and what all rules of its family share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from caffe import glog
from caffe.errors import SolverError
from caffe.solvers.registry import register
from caffe.solvers.solver import Solver
from caffe.wiring import Learnable

PIECE = 2**19
"""Numbers of a parameter that a CPU updates at a time: with gradient and history they stay in its cache."""

Rate = float | torch.Tensor
"""A tensor, without axes, where the iteration that it is for has been captured."""


@dataclass
class Alike:
    """Parameters that are updated with one rate and one decay.

    Attributes:
        data, diffs: their values and gradients.
        histories: what the rule remembers of each, one list a kind.
    """

    rate: Rate
    decay: float
    data: list[torch.Tensor]
    diffs: list[torch.Tensor]
    histories: list[list[torch.Tensor]]

    def pieces(self) -> Iterator[Alike]:
        """The same, up to `PIECE` numbers at a time: parts of large parameters, several small ones together."""
        rows, room = list[tuple[torch.Tensor, ...]](), PIECE
        for arrays in zip(self.data, self.diffs, *self.histories, strict=True):
            size = arrays[0].numel()
            if size > room and rows:
                yield self._of(rows)
                rows, room = [], PIECE
            if size > PIECE:
                yield from (self._of([part]) for part in zip(*(a.view(-1).split(PIECE) for a in arrays), strict=True))
            else:
                rows.append(arrays)
                room -= size
        if rows:
            yield self._of(rows)

    def _of(self, rows: list[tuple[torch.Tensor, ...]]) -> Alike:
        data, diffs, *histories = map(list, zip(*rows, strict=True))
        return Alike(self.rate, self.decay, data, diffs, histories)


@register("SGD")
class SGDSolver(Solver):
    """V = momentum · V + rate · gradient; W −= V. The rate is inside V, as Caffe has it.

    Order of an update: clip by the gradients' joint L2 norm, divide by iter_size, add the weight decay,
    apply the rule.
    """

    histories = 1  # arrays a parameter that the rule remembers
    remembers_gradients: ClassVar[bool] = False  # whether a history goes on where the rate is 0
    norm: torch.Tensor | None = None
    """Joint L2 norm of the last gradients before they were clipped, no axes, on the device; None where they are not."""

    def _pre_solve(self) -> None:
        shapes = [p.blob.shape for p in self.net.learnable] * self.histories
        self.history = [torch.zeros(shape, device=self.net.device) for shape in shapes]
        if self.param.regularization_type not in ("L1", "L2"):
            raise SolverError(f"Unknown regularization type: {self.param.regularization_type} (known types: L1, L2)")
        self._resting = self._frozen()

    def restore(self, state_file: str) -> None:
        """Go on from a ``.solverstate``, with its history."""
        super().restore(state_file)
        # what was frozen after it had learned goes on by its momentum, as in Caffe
        histories = [self.history[number :: len(self.net.learnable)] for number in range(len(self.net.learnable))]
        self._resting = {n for n in self._frozen() if not any(values.any() for values in histories[n])}

    def _frozen(self) -> set[int]:
        """Parameters that an update leaves as they are, history included, where that is zero and no gradient comes."""
        remembered = self.param.weight_decay if self.remembers_gradients else 0
        learnable = enumerate(self.net.learnable)
        return {number for number, p in learnable if not (p.lr_mult or remembered * p.decay_mult)}

    def apply_update(self) -> None:
        """Update every learnable parameter from its gradient; afterwards its diff holds what was subtracted.

        That is one iteration, whoever calls it.
        """
        self.clip_gradients()
        self.log_update()
        self.update(self.rates())
        self.iter += 1

    def log_update(self) -> None:
        """Log the rate where the iteration is one to display, and that gradients were clipped."""
        super().log_update()
        limit, norm = self.param.clip_gradients, 0.0 if self.norm is None else float(self.norm)
        if norm > limit >= 0:
            glog.info(
                "sgd_solver.cpp:99",
                f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g}) "
                f"by scale factor {limit / norm:g}",
            )

    def rates(self) -> dict[float, float]:
        """Rate of this iteration for each lr_mult."""
        lr, correction = self.lr, self._correction()
        return {p.lr_mult: lr * p.lr_mult * correction for p in self.net.learnable}

    def _correction(self) -> float:
        """What the rule multiplies all rates by in this iteration."""
        return 1.0

    @torch.no_grad()
    def update(self, rates: Mapping[float, Rate]) -> None:
        """Update from gradients that are clipped, with these rates for each lr_mult."""
        on_cpu = self.net.device.type == "cpu"
        for group in self._alike(rates):
            for alike in group.pieces() if on_cpu else [group]:
                self._normalize(alike)
                self._regularize(alike)
                self._compute_update(alike)
                torch._foreach_sub_(alike.data, alike.diffs)

    def _alike(self, rates: Mapping[float, Rate]) -> Iterator[Alike]:
        """Parameters in groups, which a GPU updates with a few calls."""
        count, groups = len(self.net.learnable), dict[object, list[tuple[int, Learnable]]]()
        for number, parameter in enumerate(self.net.learnable):
            if number in self._resting and not parameter.blob.has_diff:
                continue
            kind = parameter.lr_mult, parameter.decay_mult
            groups.setdefault(kind, []).append((number, parameter))
        for group in groups.values():
            first = group[0][1]
            yield Alike(
                rates[first.lr_mult],
                self.param.weight_decay * first.decay_mult,
                [p.blob.data_tensor() for _, p in group],
                [p.blob.diff_tensor() for _, p in group],
                [[self.history[number + kind * count] for number, _ in group] for kind in range(self.histories)],
            )

    @torch.no_grad()
    def clip_gradients(self) -> None:
        """Scale all gradients down to a joint L2 norm of the solver's ``clip_gradients``, where theirs is larger."""
        limit = self.param.clip_gradients
        diffs = [p.blob.diff_tensor() for p in self.net.learnable if p.blob.has_diff]
        if limit < 0 or not diffs:
            return
        on_cpu = self.net.device.type == "cpu"
        parts = [part for d in diffs for part in (d.view(-1).split(PIECE) if on_cpu else [d])]
        self.norm = torch.stack([part.square().sum() for part in parts]).sum().sqrt() / self.net.gradient_scale
        torch._foreach_mul_(diffs, (limit / self.norm).where(self.norm > limit, 1))

    def _normalize(self, alike: Alike) -> None:
        parts = self.param.iter_size * self.net.gradient_scale
        if parts != 1:
            torch._foreach_mul_(alike.diffs, 1 / parts)

    def _regularize(self, alike: Alike) -> None:
        if alike.decay:
            l2 = self.param.regularization_type == "L2"
            torch._foreach_add_(alike.diffs, alike.data if l2 else torch._foreach_sign(alike.data), alpha=alike.decay)

    def _compute_update(self, alike: Alike) -> None:
        """Turn the diffs into what will be subtracted from the parameters."""
        (history,) = alike.histories
        torch._foreach_mul_(alike.diffs, alike.rate)
        torch._foreach_add_(alike.diffs, history, alpha=self.param.momentum)
        torch._foreach_copy_(history, alike.diffs)

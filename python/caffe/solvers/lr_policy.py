"""Learning rates: each policy is a pure function of the solver's settings and the iteration."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, islice

from caffe import glog
from caffe.errors import SolverError
from caffe.proto.caffe_pb2 import SolverParameter

Resumed = tuple[int, int]
"""Iteration and current_step of the solverstate that a run goes on from."""

Policy = Callable[[SolverParameter, int, Resumed], float]

START: Resumed = (0, 0)


def rate(param: SolverParameter, iteration: int, resumed: Resumed = START) -> float:
    """Learning rate at ``iteration``, before each parameter's lr_mult.

    Raises:
        SolverError: the policy is unknown (`check` says so before a run).
    """
    return _policy(param)(param, iteration, resumed)


def current_step(param: SolverParameter, iteration: int, resumed: Resumed = START) -> int:
    """How many drops there have been up to ``iteration``."""
    first, step = resumed
    if param.lr_policy == "step":
        return iteration // param.stepsize
    if param.lr_policy == "multistep":
        # one drop an iteration at most, in the order they are written, after those that a resumed run had
        drops = accumulate(param.stepvalue[step:], lambda last, value: max(last + 1, value), initial=first - 1)
        return step + sum(iteration >= drop for drop in islice(drops, 1, None))
    return step


def fixed(p: SolverParameter, iteration: int, resumed: Resumed = START) -> float:
    """base_lr."""
    return p.base_lr


def step(p: SolverParameter, iteration: int, resumed: Resumed = START) -> float:
    """base_lr · gamma^floor(iteration / stepsize)."""
    return p.base_lr * p.gamma ** current_step(p, iteration)


def exp(p: SolverParameter, iteration: int, resumed: Resumed = START) -> float:
    """base_lr · gamma^iteration."""
    return p.base_lr * p.gamma**iteration


def inv(p: SolverParameter, iteration: int, resumed: Resumed = START) -> float:
    """base_lr · (1 + gamma · iteration)^−power."""
    return p.base_lr * (1 + p.gamma * iteration) ** -p.power


def multistep(p: SolverParameter, iteration: int, resumed: Resumed = START) -> float:
    """base_lr · gamma^(number of stepvalues reached)."""
    return p.base_lr * p.gamma ** current_step(p, iteration, resumed)


def poly(p: SolverParameter, iteration: int, resumed: Resumed = START) -> float:
    """base_lr · (1 − iteration / max_iter)^power."""
    return p.base_lr * (1 - iteration / p.max_iter) ** p.power


def sigmoid(p: SolverParameter, iteration: int, resumed: Resumed = START) -> float:
    """base_lr / (1 + exp(−gamma · (iteration − stepsize)))."""
    return p.base_lr / (1 + math.exp(-p.gamma * (iteration - p.stepsize)))


POLICIES: dict[str, Policy] = {f.__name__: f for f in (exp, fixed, inv, multistep, poly, sigmoid, step)}

# what each policy works with; left out, it reads as 0, which Caffe takes
_USES: dict[str, tuple[str, ...]] = {
    "step": ("gamma",),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma",),
    "poly": ("power",),
    "sigmoid": ("gamma", "stepsize"),
}


def _policy(param: SolverParameter) -> Policy:
    if param.lr_policy not in POLICIES:
        raise SolverError(
            f"Unknown learning rate policy: {param.lr_policy or '(lr_policy is not set)'} "
            f"(known policies: {', '.join(sorted(POLICIES))})"
        )
    return POLICIES[param.lr_policy]


def check(param: SolverParameter) -> None:
    """Raise SolverError where the policy is unknown or cannot be computed; warn where a setting is left out."""
    _policy(param)
    if param.lr_policy == "step" and param.stepsize <= 0:
        raise SolverError(
            f"Check failed: this->param_.stepsize() > 0 ({param.stepsize} vs. 0) lr_policy 'step' needs stepsize, "
            "the number of iterations between two drops of the rate"
        )
    if param.lr_policy in ("step", "exp", "inv", "multistep") and param.gamma < 0:
        raise SolverError(
            f"Check failed: this->param_.gamma() >= 0 ({param.gamma:g} vs. 0) lr_policy '{param.lr_policy}' multiplies "
            "the rate by powers of gamma, or of what grows with it; 0.1 is usual"
        )
    if param.lr_policy == "poly" and param.max_iter <= 0:
        raise SolverError("lr_policy 'poly' needs max_iter: the rate falls to 0 there")
    if list(param.stepvalue) != sorted(param.stepvalue):
        glog.warning("sgd_solver.cpp:27", f"stepvalue does not rise: {list(param.stepvalue)}; as in Caffe, each waits.")
    missing = [name for name in _USES.get(param.lr_policy, ()) if not param.HasField(name)]
    if missing:
        glog.warning("sgd_solver.cpp:27", f"lr_policy '{param.lr_policy}' without {' and '.join(missing)}: taken as 0.")

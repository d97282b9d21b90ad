"""Learning rates: each policy is a pure function of the solver's settings and the iteration."""

from __future__ import annotations

import math
from collections.abc import Callable

from caffe.errors import SolverError
from caffe.proto.caffe_pb2 import SolverParameter

Policy = Callable[[SolverParameter, int], float]


def rate(param: SolverParameter, iteration: int) -> float:
    """Learning rate at ``iteration``, before each parameter's lr_mult.

    Raises:
        SolverError: the policy is unknown (`check` says so before a run).
    """
    return _policy(param)(param, iteration)


def current_step(param: SolverParameter, iteration: int) -> int:
    """How many drops lie behind ``iteration``: what a solverstate stores as current_step."""
    if param.lr_policy == "step":
        return iteration // param.stepsize
    if param.lr_policy == "multistep":
        return sum(iteration >= value for value in param.stepvalue)
    return 0


def fixed(p: SolverParameter, iteration: int) -> float:
    """base_lr."""
    return p.base_lr


def step(p: SolverParameter, iteration: int) -> float:
    """base_lr · gamma^floor(iteration / stepsize)."""
    return p.base_lr * p.gamma ** current_step(p, iteration)


def exp(p: SolverParameter, iteration: int) -> float:
    """base_lr · gamma^iteration."""
    return p.base_lr * p.gamma**iteration


def inv(p: SolverParameter, iteration: int) -> float:
    """base_lr · (1 + gamma · iteration)^−power."""
    return p.base_lr * (1 + p.gamma * iteration) ** -p.power


def multistep(p: SolverParameter, iteration: int) -> float:
    """base_lr · gamma^(number of stepvalues reached)."""
    return p.base_lr * p.gamma ** current_step(p, iteration)


def poly(p: SolverParameter, iteration: int) -> float:
    """base_lr · (1 − iteration / max_iter)^power."""
    return p.base_lr * (1 - iteration / p.max_iter) ** p.power


def sigmoid(p: SolverParameter, iteration: int) -> float:
    """base_lr / (1 + exp(−gamma · (iteration − stepsize)))."""
    return p.base_lr / (1 + math.exp(-p.gamma * (iteration - p.stepsize)))


POLICIES: dict[str, Policy] = {f.__name__: f for f in (exp, fixed, inv, multistep, poly, sigmoid, step)}

# what each policy cannot do without; a field that is left out reads as 0 and would give nonsense silently
_NEEDS: dict[str, tuple[str, ...]] = {
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma",),
    "poly": ("power", "max_iter"),
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
    """Raise SolverError where the policy is unknown or lacks a setting."""
    _policy(param)
    missing = [name for name in _NEEDS.get(param.lr_policy, ()) if not param.HasField(name)]
    if missing:
        raise SolverError(
            f"Check failed: lr_policy '{param.lr_policy}' needs {' and '.join(missing)}, which the solver "
            "file does not give"
        )
    if param.lr_policy == "step" and param.stepsize <= 0:
        raise SolverError(f"Check failed: this->param_.stepsize() > 0 ({param.stepsize} vs. 0) ")
    if list(param.stepvalue) != sorted(param.stepvalue):
        raise SolverError(f"stepvalue must rise: it is {list(param.stepvalue)}")

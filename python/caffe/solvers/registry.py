"""Solver types by name: a class is registered beside its update rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from caffe.errors import SolverError

if TYPE_CHECKING:
    from caffe.solvers.solver import Solver

_types: dict[str, type[Solver]] = {}


def register(name: str) -> Callable[[type[Solver]], type[Solver]]:
    """Class decorator: make the class answer to ``type: "name"`` in a solver file."""

    def decorate(cls: type[Solver]) -> type[Solver]:
        cls.type = name
        _types[name] = cls
        return cls

    return decorate


def solver_class(name: str) -> type[Solver]:
    """The class for a solver file's ``type``; an unknown type lists what is known."""
    if name not in _types:
        raise SolverError(
            f"Check failed: registry.count(type) == 1 (0 vs. 1) Unknown solver type: {name} "
            f"(known types: {', '.join(sorted(_types))})"
        )
    return _types[name]

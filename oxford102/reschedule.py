"""A solver's schedule carried over to another number of pictures, and the text of its file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from oxford102.errors import ToolError
from oxford102.prototxt import without_fractions

POLICIES = ("fixed", "step", "multistep", "poly", "exp", "inv", "sigmoid")
_GROUPS = (("net",), ("test_iter", "test_interval"), (), ("display", "snapshot", "snapshot_prefix"))
_FIRST = ("iter_size", "base_lr", "lr_policy", "gamma", "power", "stepsize", "stepvalue", "max_iter", "momentum")


@dataclass(frozen=True)
class Passes:
    """How often a training sees its pictures: so many of them, a batch of all GPUs, all its iterations."""

    pictures: int
    batch: int
    iterations: int

    @property
    def epochs(self) -> float:
        """How often it sees each picture."""
        return self.iterations * self.batch / self.pictures


def new_iterations(old: Passes, pictures: int, epochs: float | None) -> int:
    """As many iterations as `epochs` of the new pictures take; without, as many epochs as before.

    Then, a larger set gets no more iterations than before: what a net needs does not grow with the pictures.
    """
    wanted = (epochs or old.epochs) * pictures / old.batch
    return round_off(wanted if epochs else min(wanted, old.iterations))


def round_off(value: float) -> int:
    """A whole number above 0 of two digits and zeros: 1997.5 becomes 2,000."""
    digits = max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 0
    return max(1, round(value / 10**digits) * 10**digits)


def round_down(value: float) -> int:
    """The largest 1, 2 or 5 with zeros that is not above a value, for what comes again and again; at least 1."""
    power = 10 ** math.floor(math.log10(max(value, 1)))
    return max(digit * power for digit in (1, 2, 5) if digit * power <= max(value, 1))


def reschedule(solver: Any, max_iter: int) -> None:
    """Stretch or squeeze the whole schedule of a SolverParameter to `max_iter` iterations.

    The rate is the same at the same share of the way. Raises ToolError for a policy that is not Caffe's.
    """
    if solver.lr_policy not in POLICIES:
        raise ToolError(f"lr_policy '{solver.lr_policy}' is unknown; expected one of {', '.join(POLICIES)}")
    factor = max_iter / solver.max_iter
    for name, most in (("test_interval", 100), ("display", max_iter), ("snapshot", 20)):
        if getattr(solver, name):
            setattr(solver, name, round_down(max(getattr(solver, name) * factor, max_iter / most)))
    if solver.stepsize:
        solver.stepsize = round_off(solver.stepsize * factor)
    solver.stepvalue[:] = [round_off(value * factor) for value in solver.stepvalue]
    if solver.lr_policy in ("inv", "sigmoid"):
        solver.gamma /= factor
    if solver.lr_policy == "exp":
        solver.gamma **= 1 / factor
    solver.max_iter = max_iter


def solver_text(solver: Any, header: Sequence[str], testing: str, training: str) -> str:
    """A SolverParameter as text, in groups; two of them have a comment."""
    fields = {field.name: (field, value) for field, value in solver.ListFields()}
    named = {name for group in _GROUPS for name in group}
    rest = sorted(fields.keys() - named, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST)))
    lines = [f"# {line}" for line in header]
    for group, comment in zip(_GROUPS, ("", testing, training, ""), strict=True):
        lines += ["", f"# {comment}"] if comment else [""] if group and group != ("net",) else []
        lines += [line for name in group or rest if name in fields for line in _lines(*fields[name])]
    return "\n".join(lines) + "\n"


def _lines(field: Any, value: Any) -> list[str]:
    out = io.StringIO()
    for item in value if field.is_repeated else (value,):
        text_format.PrintField(field, item, out)
    return without_fractions(out.getvalue()).splitlines()

"""What may watch a run: the solver calls each extension when its time comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from caffe.solvers.solver import Solver

Outputs = dict[str, list[float]]
"""Name of a net's output -> its values, means over the batches of a test."""


class Extension:
    """Does nothing at any time; subclasses say what they do when."""

    def started(self, solver: Solver) -> None:
        """The solver stands at the iteration it starts from."""

    def computed(self, solver: Solver, loss: torch.Tensor) -> None:
        """The gradients of an iteration are there, its update is not done yet."""

    def displayed(self, solver: Solver, loss: float, outputs: Outputs) -> None:
        """The train net's outputs were logged."""

    def tested(self, solver: Solver, number: int, outputs: Outputs) -> None:
        """Test net ``number`` was run and its outputs logged."""

    def updated(self, solver: Solver) -> None:
        """An iteration is done, and ``solver.iter`` counts it."""

    def saving(self, solver: Solver) -> None:
        """A snapshot of the solver as it stands is about to be written; an error keeps it from being."""

    def saved(self, solver: Solver) -> None:
        """A snapshot of the solver as it stands is on the disk."""

    def finished(self, solver: Solver) -> None:
        """The run has ended, well or not."""

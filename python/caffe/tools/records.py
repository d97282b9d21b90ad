"""A run's numbers in files for other programs: a table (``-csv``) and TensorBoard's events (``-tensorboard``)."""

from __future__ import annotations

import csv
import io
import time
from itertools import chain
from pathlib import Path

from caffe import glog
from caffe.errors import SolverError
from caffe.net import Net
from caffe.proto.binary import whole_file
from caffe.solvers.extension import Extension, Outputs
from caffe.solvers.solver import Solver


def _columns(kind: str, net: Net) -> list[str]:
    return list(_named(kind, {name: [0.0] * net.blobs[name].count for name in net.outputs}))


def _named(kind: str, outputs: Outputs) -> dict[str, float]:
    """``kind/output``, with a number behind where the output has several values."""
    return {
        f"{kind}/{name}[{i}]" if len(row) > 1 else f"{kind}/{name}": value
        for name, row in outputs.items()
        for i, value in enumerate(row)
    }


def _test(number: int) -> str:
    return f"test{number}" if number else "test"


class _Numbers(Extension):
    """Hands on every number as ``name: value``; subclasses write them."""

    def put(self, iteration: int, values: dict[str, float]) -> None:
        """Take numbers of an iteration."""
        raise NotImplementedError(f"{type(self).__name__} must take the numbers")

    def displayed(self, solver: Solver, loss: float, outputs: Outputs) -> None:
        """Hand on the train net's."""
        self.put(solver.iter, {"lr": float(f"{solver.lr:g}"), "loss": loss, **_named("train", outputs)})

    def tested(self, solver: Solver, number: int, outputs: Outputs) -> None:
        """Hand on a test net's."""
        self.put(solver.iter, _named(_test(number), outputs))


class CsvFile(_Numbers):
    """Writes a table with a row for each iteration that was displayed or tested; what is not known is left empty.

    ``seconds`` count from the start of the process that wrote the row.

    A resumed run goes on with the file of the run before, less the rows from its own first iteration on.

    Args:
        path: the file.
        resumes: whether the file may be there even where the run begins with iteration 0.

    Raises:
        SolverError: the file is there though the run starts anew, or has other columns.
    """

    def __init__(self, path: str, resumes: bool = False) -> None:
        self._path = Path(path)
        self._resumes = resumes
        self._row: dict[str, str | float] = {}

    def started(self, solver: Solver) -> None:
        """Write the names of the columns, and keep the rows of the run before."""
        tests = chain.from_iterable(_columns(_test(i), net) for i, net in enumerate(solver.test_nets))
        self._columns = ["iteration", "seconds", "lr", "loss", *_columns("train", solver.net), *tests]
        self._began = time.monotonic()
        kept = self._kept(solver.iter) if self._path.exists() else []
        before = io.StringIO(newline="")
        table = csv.DictWriter(before, self._columns)
        table.writeheader()
        table.writerows(kept)
        with whole_file(str(self._path)) as file:
            file.write(before.getvalue().encode())
        self._file = self._path.open("a", newline="", buffering=1)
        self._writer = csv.DictWriter(self._file, self._columns)

    def _kept(self, iteration: int) -> list[dict[str, str]]:
        if not (iteration or self._resumes):
            raise SolverError(f"-csv {self._path} is there already: name another, or remove it")
        with self._path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        if list(reader.fieldnames or []) != self._columns:
            raise SolverError(f"-csv {self._path} is a table of another run (its columns differ): name another")
        whole = [row for row in rows if None not in row.values() and row["iteration"].isdecimal()]
        return [row for row in whole if int(row["iteration"]) < iteration]

    def put(self, iteration: int, values: dict[str, float]) -> None:
        """Add numbers to the iteration's row; the row before it is complete and written."""
        if self._row.get("iteration") != iteration:
            self._flush()
            self._row = {"iteration": iteration, "seconds": f"{time.monotonic() - self._began:.3f}"}
        self._row |= {name: f"{value:.9g}" for name, value in values.items()}

    def _flush(self) -> None:
        try:
            if self._row:
                self._writer.writerow(self._row)
        except OSError as problem:
            glog.error("solver.cpp:239", f"A row of {self._path} is lost, training goes on: {problem}")

    def finished(self, solver: Solver) -> None:
        """Write the last row."""
        self._flush()
        if hasattr(self, "_file"):
            self._file.close()


class TensorBoard(_Numbers):
    """Writes scalars into an event file of a folder, for ``tensorboard --logdir``.

    Raises:
        SolverError: the package for it is not installed.
    """

    def __init__(self, folder: str) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise SolverError("-tensorboard needs the package tensorboardX: pip install tensorboardX") from None
        self._folder, self._make = folder, SummaryWriter

    def started(self, solver: Solver) -> None:
        """Open the file; what an earlier run wrote from here on is not shown any more."""
        self._writer = self._make(self._folder, purge_step=solver.iter or None)

    def put(self, iteration: int, values: dict[str, float]) -> None:
        """Write the numbers."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)

    def finished(self, solver: Solver) -> None:
        """Write what is left."""
        if hasattr(self, "_writer"):
            self._writer.close()

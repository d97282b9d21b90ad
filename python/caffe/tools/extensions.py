"""What ``caffe train`` adds to a solver: it stops where numbers overflow, prunes snapshots, shows where it stands."""

from __future__ import annotations

import sys
import time

import torch
from tqdm import tqdm

from caffe import glog
from caffe.errors import SolverError
from caffe.net import Net
from caffe.solvers import snapshot
from caffe.solvers.extension import Extension, Outputs
from caffe.solvers.solver import Solver


class FiniteLoss(Extension):
    """Stops a run whose loss is no number any more, before that spoils the weights, or its snapshots.

    On a GPU, where a look at the loss makes the device wait, it looks every `every_on_gpu` iterations.

    Raises:
        SolverError: names the layer where it began, the newest snapshot and what may help.
    """

    every_on_gpu = 20

    def computed(self, solver: Solver, loss: torch.Tensor) -> None:
        """Look at the loss."""
        if loss.is_cuda and solver.iter % self.every_on_gpu:
            return
        if not torch.isfinite(loss):
            raise self._stop(solver, f"loss = {float(loss):g}")

    def saving(self, solver: Solver) -> None:
        """Look at the parameters: what is written must be good to go on from."""
        if not all(parameter.blob.data_tensor().isfinite().all() for parameter in solver.net.learnable):
            raise self._stop(solver, "no snapshot is written of parameters that are no numbers")

    @staticmethod
    def _stop(solver: Solver, why: str) -> SolverError:
        saved = snapshot.newest_whole(solver.param.snapshot_prefix)
        resume = f"The newest whole snapshot is {saved}." if saved else "There is no snapshot yet."
        return SolverError(f"Iteration {solver.iter}: {why}. {diagnosis(solver)} {resume}")


def diagnosis(solver: Solver) -> str:
    """Where the first number that is not finite stands in the train net, and what may help."""
    net, rate = solver.net, f"base_lr ({solver.param.base_lr:g}; the rate now is {solver.lr:g})"
    for number, layer in enumerate(net.wired):
        where = f"layer '{layer.name}' ({layer.type})"
        wrong = [k for k, blob in enumerate(layer.blobs) if not blob.data_tensor().isfinite().all()]
        if wrong:
            return (
                f"It began in the parameters of {where}: param {wrong[0]} is no longer finite, so an earlier update "
                f"was too large. Lower {rate}, set clip_gradients, or raise momentum and rate step by step."
            )
        for top in net._top_ids(number):
            name = net._blob_names[top]
            if net._blobs[top].data_tensor().isfinite().all():
                continue
            if layer.is_data:
                return f"It began in the data: blob '{name}' of {where}. Check the data, the mean and the scale."
            return (
                f"It began in the values of {where}, blob '{name}', whose parameters and bottoms are finite. "
                f"Lower {rate}, and look at the scale of the data and the fillers of the layers before."
            )
    return (
        f"All values and parameters of the last batch are finite, the sum is not. Lower {rate}. On a GPU a "
        "label that is no class reads like this from its batch on: `caffe train -check` names it."
    )


class Keep(Extension):
    """Removes all snapshots but the newest ``count``."""

    def __init__(self, count: int) -> None:
        self._count = count

    def saved(self, solver: Solver) -> None:
        """Prune."""
        try:
            snapshot.prune(solver.param.snapshot_prefix, self._count)
        except OSError as problem:
            glog.error("solver.cpp:464", f"An old snapshot stays, training goes on: {problem}")


class StatusLine(Extension):
    """One line at the foot of a terminal: iteration, images a second, time left, loss, best test output.

    Log lines go above it.
    """

    seconds = 0.5
    """Between two looks at the loss."""

    def started(self, solver: Solver) -> None:
        """Draw the line."""
        self._bar = tqdm(
            total=solver.param.max_iter,
            initial=solver.iter,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            bar_format="Iteration {n_fmt}/{total_fmt} |{bar:20}|{postfix}",
        )
        self._images = batch_size(solver.net) * solver.param.iter_size
        self._began = (time.monotonic(), solver.iter)
        self._looked = 0.0
        self._loss = ""
        self._best: tuple[float, str] | None = None
        glog.write_to_terminal = self._above

    @staticmethod
    def _above(text: str) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            glog.to_stderr(text)

    def computed(self, solver: Solver, loss: torch.Tensor) -> None:
        """Look at the loss now and then."""
        if time.monotonic() - self._looked >= self.seconds:
            self._looked = time.monotonic()
            self._loss = f"loss {float(loss):.4g}"

    def updated(self, solver: Solver) -> None:
        """Move on."""
        then, first = self._began
        rate = (solver.iter - first) / max(time.monotonic() - then, 1e-9)
        left = tqdm.format_interval((solver.param.max_iter - solver.iter) / rate)
        speed = f"{rate * self._images:.3g} images/s" if self._images else f"{rate:.3g} iterations/s"
        parts = [speed, f"ETA {left}", self._loss, self._best[1] if self._best else ""]
        self._bar.set_postfix_str("  ".join(filter(None, parts)), refresh=False)
        self._bar.update()

    def tested(self, solver: Solver, number: int, outputs: Outputs) -> None:
        """Note the best value of the first test net's first measure."""
        if number:
            return
        name, sign = measure(solver.test_nets[0], outputs)
        value = outputs[name][0] if name else float("nan")
        if value == value and (self._best is None or sign * value > self._best[0]):
            self._best = sign * value, f"best {name} {value:.4g} at {solver.iter}"

    def finished(self, solver: Solver) -> None:
        """Take the line away."""
        glog.write_to_terminal = glog.to_stderr
        if hasattr(self, "_bar"):
            self._bar.close()


def batch_size(net: Net) -> int:
    """Items in a batch of the net's first data layer; 0 where it has none."""
    tops = [net.top_names[layer.name] for layer in net.wired if layer.is_data]
    return net.blobs[tops[0][0]].shape[0] if tops else 0


def measure(net: Net, outputs: Outputs) -> tuple[str, int]:
    """Name of the output to judge a net by and whether more (1) or less (-1) is better.

    The first that does not count in the loss and is not called an error or a loss, else the first of all.
    """
    good = [n for n in outputs if not net.blob_loss_weights[n] and not {"loss", "error"} & set(n.lower().split("_"))]
    return (good[0], 1) if good else (next(iter(outputs), ""), -1)

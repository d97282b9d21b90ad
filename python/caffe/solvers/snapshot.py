"""Snapshots: ``PREFIX_iter_N.caffemodel`` with the weights, ``.solverstate`` with what else a run needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from caffe import glog, weights
from caffe.errors import SolverError
from caffe.proto import binary, hdf5
from caffe.proto.caffe_pb2 import SolverParameter
from caffe.solvers import lr_policy

if TYPE_CHECKING:
    from caffe.solvers.sgd import SGDSolver


def check_prefix(param: SolverParameter) -> None:
    """Make the folder of the snapshots, so that a run does not find out at its first snapshot.

    Raises:
        SolverError: the folder cannot be made or written to.
    """
    folder = Path(param.snapshot_prefix).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{Path(param.snapshot_prefix).name}.probe"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        raise SolverError(
            f"Cannot write to snapshot prefix '{param.snapshot_prefix}'.  Make sure that the directory exists "
            f"and is writable: {problem}"
        ) from problem


def write(solver: SGDSolver) -> str:
    """Write both files, whole or not at all; return the name of the ``.solverstate``."""
    stem = f"{solver.param.snapshot_prefix}_iter_{solver.iter}"
    step = lr_policy.current_step(solver.param, solver.iter)
    arrays = [h.cpu().numpy() for h in solver.history]
    diff = solver.param.snapshot_diff
    if solver.param.snapshot_format == SolverParameter.HDF5:
        model, state = f"{stem}.caffemodel.h5", f"{stem}.solverstate.h5"
        glog.info("solver.cpp:474", f"Snapshotting to HDF5 file {model}")
        solver.net.save_hdf5(model, diff)
        glog.info("sgd_solver.cpp:294", f"Snapshotting solver state to HDF5 file {state}")
        hdf5.write_state(state, solver.iter, model, step, arrays)
    else:
        model, state = f"{stem}.caffemodel", f"{stem}.solverstate"
        glog.info("solver.cpp:464", f"Snapshotting to binary proto file {model}")
        weights.save(solver.net, model, diff)
        glog.info("sgd_solver.cpp:284", f"Snapshotting solver state to binary proto file {state}")
        binary.write_state(state, solver.iter, model, step, arrays)
    return state


def restore(solver: SGDSolver, path: str) -> None:
    """Go on where the ``.solverstate`` (``.h5`` by its suffix) stopped: iteration, history, the weights it names.

    Raises:
        FormatError: the file is missing or not a solverstate.
        SolverError: it belongs to another net or another rule.
    """
    if path.endswith(".h5"):
        iteration, learned_net, _, arrays = hdf5.read_state(path)
    else:
        iteration, learned_net, _, blobs = binary.read_state(path)
        arrays = [blob.data.reshape(blob.shape) for blob in blobs]
    if learned_net:
        solver.net.copy_from(_beside(learned_net, path))
    if len(arrays) != len(solver.history):
        raise SolverError(
            f"{path}: Check failed: state.history_size() == history_.size() ({len(arrays)} vs. "
            f"{len(solver.history)}) Incorrect length of history blobs. It was written by another solver type "
            "or for another net; resume with the solver file of that run"
        )
    glog.info("sgd_solver.cpp:336", "SGDSolver: restoring history")
    for number, (target, source) in enumerate(zip(solver.history, arrays, strict=True)):
        if target.numel() != source.size:
            raise SolverError(
                f"{path}: history blob {number} has shape {list(source.shape)}, the net's parameter "
                f"{list(target.shape)}; resume with the net of that run"
            )
        target.copy_(torch.as_tensor(source).view(target.shape))
    solver.iter = iteration


def _beside(learned_net: str, state: str) -> str:
    """The named model, or, where a run's folder has moved, the file of that name beside its state."""
    moved = Path(state).parent / Path(learned_net).name
    return str(moved) if not Path(learned_net).exists() and moved.exists() else learned_net

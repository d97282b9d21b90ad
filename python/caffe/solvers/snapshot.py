"""Snapshots: ``PREFIX_iter_N.caffemodel`` with the weights, ``.solverstate`` with what else a run needs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from caffe import glog, weights
from caffe.errors import CaffeError, SolverError
from caffe.proto import binary, hdf5
from caffe.proto.caffe_pb2 import SolverParameter
from caffe.solvers import lr_policy, runstate

if TYPE_CHECKING:
    from caffe.net import Net
    from caffe.solvers.sgd import SGDSolver


def check_names(param: SolverParameter, net: Net) -> None:
    """Raise WeightsError where the net's snapshots could not be written in the format that is asked for."""
    if param.snapshot_format == SolverParameter.HDF5:
        weights.check_names(net)


def check_prefix(param: SolverParameter) -> None:
    """Make the folder of the snapshots, so that a run does not find out at its first snapshot.

    Raises:
        SolverError: the folder cannot be made or written to.
    """
    folder = Path(param.snapshot_prefix).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(param.snapshot_prefix)
        probe = folder / f".{Path(param.snapshot_prefix).name}.{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as problem:
        raise SolverError(
            f"Cannot write to snapshot prefix '{param.snapshot_prefix}'.  Make sure that the directory exists "
            f"and is writable: {problem}"
        ) from problem


def _remove_leftovers(prefix: str) -> None:
    """Remove what killed processes had half written under temporary names."""
    pattern = re.compile(rf"\.{re.escape(Path(prefix).name)}_iter_\d+\.\w+(\.h5)?\.(\d+)\.tmp")
    for path in Path(prefix).parent.glob(".*.tmp"):
        match = pattern.fullmatch(path.name)
        if match and not _is_alive(int(match[2])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def write(solver: SGDSolver) -> None:
    """Write the weights, what an exact resumption needs, and the state, each file whole or not at all.

    The state comes last: where it is, all is.

    Raises:
        WriteError: the disk is full, or the folder gone.
    """
    stem = f"{solver.param.snapshot_prefix}_iter_{solver.iter}"
    # as BVLC stores it: of the last iteration that is done
    step = lr_policy.current_step(solver.param, solver.iter - 1, solver.resumed) if solver.iter else 0
    arrays = [h.cpu().numpy() for h in solver.history]
    diff = solver.param.snapshot_diff
    if solver.param.snapshot_format == SolverParameter.HDF5:
        model, state = f"{stem}.caffemodel.h5", f"{stem}.solverstate.h5"
        glog.info("solver.cpp:474", f"Snapshotting to HDF5 file {model}")
        weights.save_hdf5(solver.net, model, diff)
        runstate.write(solver, state)
        glog.info("sgd_solver.cpp:296", f"Snapshotting solver state to HDF5 file {state}")
        hdf5.write_state(state, solver.iter, model, step, arrays)
    else:
        model, state = f"{stem}.caffemodel", f"{stem}.solverstate"
        glog.info("solver.cpp:464", f"Snapshotting to binary proto file {model}")
        weights.save(solver.net, model, diff)
        runstate.write(solver, state)
        glog.info("sgd_solver.cpp:284", f"Snapshotting solver state to binary proto file {state}")
        binary.write_state(state, solver.iter, model, step, arrays)


def states(prefix: str) -> list[tuple[int, Path]]:
    """Iteration and file of every ``.solverstate`` with that snapshot_prefix, the oldest first."""
    folder, name = Path(prefix).parent, re.escape(Path(prefix).name)
    pattern = re.compile(rf"{name}_iter_(\d+)\.solverstate(\.h5)?")
    matches = ((pattern.fullmatch(path.name), path) for path in folder.glob("*.solverstate*"))
    return sorted((int(match[1]), path) for match, path in matches if match)


def newest_whole(prefix: str) -> str | None:
    """The newest ``.solverstate`` that can be read together with the weights it names; None where there is none.

    Newer ones that cannot are logged.
    """
    for _, path in reversed(states(prefix)):
        try:
            _, learned_net, _, _ = _read(str(path))
            _check_weights(_beside(learned_net, str(path)))
        except CaffeError as problem:
            glog.warning("solver.cpp:508", f"Passing over the snapshot {path}: {problem}")
        else:
            return str(path)
    return None


def _read(path: str) -> tuple[int, str, int, list[np.ndarray]]:
    """Iteration, path of the weights, current step and history of a ``.solverstate`` or ``.solverstate.h5``."""
    return (hdf5 if path.endswith(".h5") else binary).read_state(path)


def _check_weights(path: str) -> None:
    if path.endswith(".h5"):
        with hdf5.reading(path):
            return
    binary.read_weights(path)


def prune(prefix: str, keep: int) -> None:
    """Remove the files of all snapshots with that prefix but the newest ``keep``."""
    for _, path in states(prefix)[:-keep]:
        stem = str(path).removesuffix(".h5").removesuffix(".solverstate")
        # the state first: where it is, all is
        for file in (path, runstate.path_beside(str(path)), *(Path(f"{stem}.caffemodel{s}") for s in ("", ".h5"))):
            file.unlink(missing_ok=True)


def restore(solver: SGDSolver, path: str) -> None:
    """Go on where the ``.solverstate`` (``.h5`` by its suffix) stopped: iteration, history, the weights it names.

    Raises:
        FormatError: the file is missing or not a solverstate.
        SolverError: it belongs to another net or another rule.
    """
    iteration, learned_net, step, arrays = _read(path)
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
    solver.iter, solver.resumed = iteration, (iteration, step)


def _beside(learned_net: str, state: str) -> str:
    """The named model, or, where a run's folder has moved, the file of that name beside its state."""
    moved = Path(state).parent / Path(learned_net).name
    return str(moved) if not Path(learned_net).exists() and moved.exists() else learned_net

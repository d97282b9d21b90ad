"""caffe train -solver solver.prototxt -weights pretrained-weights.caffemodel -gpu 0."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace

from caffe import device, glog
from caffe.errors import SolverError
from caffe.proto.caffe_pb2 import SolverParameter
from caffe.proto.text import read_solver
from caffe.solvers import sgd, snapshot
from caffe.solvers.captured import capture_iterations
from caffe.solvers.extension import Extension
from caffe.solvers.group import Group, open_group
from caffe.solvers.solver import Action, Solver, make_solver
from caffe.tools import check
from caffe.tools.device_flag import TRAIN_LINE, choose, gpus
from caffe.tools.extensions import FiniteLoss, Keep, StatusLine
from caffe.tools.launch import launch
from caffe.tools.records import CsvFile, TensorBoard

INTERRUPTED = 130
SAME_STOP = 0.5
"""Seconds within which two signals that stop a run are one."""


def work(options: SimpleNamespace) -> int:
    """Train; the exit status is 130 where a signal stopped the run."""
    effects = {
        name: _effect(getattr(options, f"{name.lower()}_effect"), f"{name.lower()}_effect")
        for name in ("SIGINT", "SIGHUP")
    }
    _check(options)
    if os.environ.get("RANK", "0") != "0":
        glog.init_log(3)  # of several processes one logs, and who fails
    param = read_solver(options.solver)
    param.train_state.level = options.level
    param.train_state.stage.extend(options.stage.split(","))
    gpu = options.gpu or _gpu_of(param)
    if gpu and not options.check and "RANK" not in os.environ and len(gpus(gpu)) > 1:
        for number in gpus(gpu):
            device.set_device(number)  # is it there?
        return launch(sys.argv[1:], len(gpus(gpu)))
    choose(gpu, options.precision, 197, TRAIN_LINE)
    if options.snapshot or options.weights:
        del param.weights[:]
    if options.weights:
        param.weights.append(options.weights)
    if options.check:
        return check.work(param, options.solver)
    with _signals(effects) as received, open_group(device.current()) as group:
        if group:
            group.prepare(param)
        extensions = _extensions(options) if not group or group.rank == 0 else [FiniteLoss()]
        solver = make_solver(param)
        solver.poll = received.take
        solver.keeps_blobs = False
        solver.extensions = extensions
        try:
            _run(solver, options.snapshot or _newest(options, param), group)
        finally:
            solver.close()
    return INTERRUPTED if received.stopped else 0


def _run(solver: Solver, snapshot: str, group: Group | None) -> None:
    if snapshot:
        glog.info("caffe.cpp:235", f"Resuming from {snapshot}")
        solver.restore(snapshot)
    if group:
        group.join(solver)
    elif solver.net.device.type == "cuda" and isinstance(solver, sgd.SGDSolver):
        capture_iterations(solver)
    glog.info("caffe.cpp:239", "Starting Optimization")
    solver.solve()
    glog.info("caffe.cpp:250", "Optimization Done.")


def _extensions(options: SimpleNamespace) -> list[Extension]:
    """What the flags ask for to watch the run."""
    found: list[Extension] = [FiniteLoss()]
    if options.keep:
        found.append(Keep(options.keep))
    if options.csv:
        found.append(CsvFile(options.csv, options.resume))
    if options.tensorboard:
        found.append(TensorBoard(options.tensorboard))
    if sys.stderr.isatty():
        found.append(StatusLine())
    return found


def _newest(options: SimpleNamespace, param: SolverParameter) -> str:
    """The state that -resume goes on from; empty where the run starts."""
    if not options.resume:
        return ""
    newest = snapshot.newest_whole(param.snapshot_prefix)
    if newest is None:
        glog.info("caffe.cpp:235", f"No snapshot of {param.snapshot_prefix} to resume from, starting anew")
    return newest or ""


def _check(options: SimpleNamespace) -> None:
    if not options.solver:
        raise SolverError(
            "Check failed: FLAGS_solver.size() > 0 (0 vs. 0) Need a solver definition to train. "
            "Name one with -solver solver.prototxt"
        )
    if options.snapshot and options.weights:
        raise SolverError(
            "Check failed: !FLAGS_snapshot.size() || !FLAGS_weights.size() Give a snapshot to resume training "
            "or weights to finetune but not both."
        )
    if options.snapshot and options.resume:
        raise SolverError("-resume looks for the newest snapshot itself: give -snapshot or -resume, not both")
    if options.keep < 0:
        raise SolverError(f"-keep {options.keep}: it is a number of snapshots, 0 for all")
    if options.snapshot and not Path(options.snapshot).is_file():
        raise SolverError(f"Check failed: fd != -1 (-1 vs. -1) File not found: {options.snapshot}")
    for name in filter(None, map(str.strip, options.weights.split(",") if not options.check else ())):
        if not Path(name).exists():
            raise SolverError(
                f"Check failed: file_hid >= 0 (-1 vs. 0) Couldn't open {name}: File not found: {name}; relative paths "
                f"start at {Path.cwd()}, and `python bootstrap.py` gets the pretrained weights"
            )


def _gpu_of(param: SolverParameter) -> str:
    """The GPU that the solver file asks for; without one here, a warning and the CPU."""
    if not param.HasField("solver_mode") or param.solver_mode != SolverParameter.GPU:
        return ""
    if device.gpu_available():
        return str(param.device_id)
    glog.warning(
        "caffe.cpp:187", "The solver asks for solver_mode: GPU, but there is no CUDA device here: running on the CPU."
    )
    return ""


def _effect(text: str, flag: str) -> Action:
    try:
        return Action(text)
    except ValueError:
        known = ", ".join(action.value for action in Action)
        raise SolverError(f'Invalid signal effect "{text}" was specified by -{flag} (known: {known})') from None


class _Received:
    """What the last signal asked for, until the solver has taken it."""

    def __init__(self) -> None:
        self.actions: set[Action] = set()
        self.stopped = False
        self._when = 0.0

    def take(self) -> Action:
        """Give an action once, a snapshot before a stop."""
        for action in (Action.SNAPSHOT, Action.STOP):
            if action in self.actions:
                self.actions.discard(action)
                return action
        return Action.NONE

    def put(self, action: Action) -> None:
        """Note an action; a second stop does not wait for the iteration to end.

        One that follows at once is the same, sent to a run's every process and handed on by the first of them.
        """
        if action is Action.STOP:
            if self.stopped and time.monotonic() - self._when > SAME_STOP:
                raise KeyboardInterrupt
            if not self.stopped:
                self.stopped, self._when = True, time.monotonic()
        self.actions.add(action)


@contextmanager
def _signals(effects: dict[str, Action]) -> Iterator[_Received]:
    """Let SIGINT, SIGHUP and SIGTERM, which stops, leave their effect where the solver polls for it."""
    received, own = _Received(), os.getpid()
    effects = effects | {"SIGTERM": Action.STOP}

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() == own:
            received.put(effects[signal.Signals(number).name])
        elif number == signal.SIGTERM:  # a process that a Python layer has forked: it goes on until it is told to end
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    earlier = {name: signal.signal(getattr(signal, name), handle) for name in effects if hasattr(signal, name)}
    try:
        yield received
    finally:
        for name, handler in earlier.items():
            signal.signal(getattr(signal, name), handler)

"""Training through pycaffe, with the time that each layer takes: the work of train.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oxford102.errors import ToolError, told


def train(solver_file: Path, snapshot: Path | None, gpus: Sequence[int], timing: bool) -> None:
    """Train until the solver's max_iter, from `snapshot` (a .solverstate) where one is given.

    Without `gpus` the first GPU is used, or the CPU where there is none. With `timing`, each displayed iteration
    logs milliseconds: of every layer forward and backward, and of all between the update before and the next.
    Raises ToolError for files that are not there or do not fit, a GPU that is not there, and several GPUs.
    """
    for path in filter(None, (solver_file, snapshot)):
        if not path.is_file():
            raise ToolError(f"{path}: no such file")
    if len(gpus) > 1:
        raise ToolError(f"--gpus {' '.join(map(str, gpus))}: training runs on one GPU; name one")
    import caffe  # here, so that asking for --help does not load the runtime

    with told(str(solver_file), RuntimeError, ValueError):
        caffe.init_log(0)
        caffe.log(f"Using device {_choose(caffe, gpus)}")
        solver = caffe.get_solver(str(solver_file))
        if timing:
            log_times(solver, caffe.Timer, caffe.log)
        solver.solve(str(snapshot)) if snapshot else solver.solve()


def _choose(caffe: Any, gpus: Sequence[int]) -> str:
    """Make nets on the GPU asked for, or on what is there; give its name for the log."""
    try:
        caffe.set_device(gpus[0] if gpus else 0)
        caffe.set_mode_gpu()
    except RuntimeError:
        if gpus:
            raise
        caffe.set_mode_cpu()
        return "CPU"
    return f"GPU {gpus[0] if gpus else 0}"


def log_times(solver: Any, timer: Callable[[], Any], log: Callable[[str], None]) -> None:
    """Let a solver log, at each displayed iteration, how long its layers and the whole iteration took."""
    names = list(solver.net.layer_dict)
    forward, backward = ([timer() for _ in names] for _ in range(2))
    total = timer()
    net = solver.net
    net.before_forward(lambda layer: forward[layer].start())
    net.after_forward(lambda layer: forward[layer].stop())
    net.before_backward(lambda layer: backward[layer].start())
    net.after_backward(lambda layer: backward[layer].stop())

    def show() -> None:
        total.stop()
        if solver.param.display and solver.iter % solver.param.display == 0:
            rows = [f"forw {i:3d} {name:>8} : {forward[i].ms:.2f}" for i, name in enumerate(names)]
            rows += [f"back {i:3d} {name:>8} : {backward[i].ms:.2f}" for i, name in reversed([*enumerate(names)])]
            log("\n".join(["", *rows, f"solver total: {total.ms:.2f}"]))

    solver.add_callback(total.start, show)

"""caffe time -model net.prototxt -iterations 10."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import compress
from types import SimpleNamespace

import torch

from caffe import glog, onednn
from caffe.costs import Cost, costs
from caffe.errors import NetError
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST, TRAIN
from caffe.timer import Timer
from caffe.tools.cost_table import figure, shapes, table
from caffe.tools.device_flag import choose

PHASES = {"": TRAIN, "TRAIN": TRAIN, "TEST": TEST}

PEAK_ROWS = {"cpu": 2048, "cuda": 8192}
"""Rows of the square matrices whose product measures the machine's peak."""

TITLES = ("layer", "type", "output", "params", "FLOPs", "bytes", "fwd ms", "bwd ms", "% peak")


def work(options: SimpleNamespace) -> int:
    """Time a net layer by layer: Caffe's report goes to the log, the table to standard output."""
    if not options.model:
        raise NetError("Check failed: FLAGS_model.size() > 0 (0 vs. 0) Need a model definition to time.")
    if options.phase not in PHASES:
        raise NetError(f'phase must be "TRAIN" or "TEST", -phase is "{options.phase}"')
    if options.iterations < 1:
        raise NetError(f"-iterations {options.iterations}: at least one iteration is needed")
    choose(options.gpu, options.precision, 343, 336)
    phase, stages = PHASES[options.phase], options.stage.split(",")
    net = Net(options.model, phase, options.level, stages, options.weights or None)
    try:
        forward, backward = _benchmark(net, options.iterations)
        print(_table(net, forward, backward))
    finally:
        net.close()
    return 0


def _benchmark(net: Net, iterations: int) -> tuple[list[float], list[float]]:
    """Run the net and log Caffe's report; give each layer's mean milliseconds, forward and backward."""
    glog.info("caffe.cpp:351", "Performing Forward")
    glog.info("caffe.cpp:356", f"Initial loss: {float(net.run_forward()):g}")
    glog.info("caffe.cpp:357", "Performing Backward")
    net.run_backward(keep_diffs=False)
    glog.info("caffe.cpp:365", "*** Benchmark begins ***")
    glog.info("caffe.cpp:366", f"Testing for {iterations} iterations.")
    layers = range(len(net.wired))
    forward, backward, passes = [0.0 for _ in layers], [0.0 for _ in layers], [0.0, 0.0]
    total, both = Timer(), Timer()
    total.start()
    for j in range(1, iterations + 1):
        net.clear_param_diffs()  # as the solver does, outside of what is timed
        both.start()
        passes[0] += _timed(_each, layers, net.run_forward, forward)
        passes[1] += _timed(_each, reversed(layers), partial(net.run_backward, keep_diffs=False), backward)
        glog.info("caffe.cpp:394", f"Iteration: {j} forward-backward time: {_whole(net, both.ms):g} ms.")
    whole = _whole(net, total.ms)
    forward, backward, passes = ([ms / iterations for ms in sums] for sums in (forward, backward, passes))
    _report(net, forward, backward, passes)
    glog.info("caffe.cpp:412", f"Average Forward-Backward: {whole / iterations:g} ms.")
    glog.info("caffe.cpp:414", f"Total Time: {whole:g} ms.")
    glog.info("caffe.cpp:415", "*** Benchmark ends ***")
    return forward, backward


def _each(layers: Iterable[int], run: Callable[[int, int], object], sums: list[float]) -> None:
    """Run the layers one by one and add the milliseconds of each to its sum."""
    for i in layers:
        sums[i] += _timed(run, i, i)


def _timed(action: Callable[..., object], *arguments: object) -> float:
    """Milliseconds that the call takes."""
    timer = Timer()
    timer.start()
    action(*arguments)
    return timer.ms


def _whole(net: Net, ms: float) -> float:
    """Caffe's clock for whole passes has whole milliseconds on a CPU."""
    return int(ms) if net.device.type == "cpu" else ms


def _report(net: Net, forward: Sequence[float], backward: Sequence[float], passes: Sequence[float]) -> None:
    glog.info("caffe.cpp:397", "Average time per layer: ")
    for layer, ahead, back in zip(net.wired, forward, backward, strict=True):
        glog.info("caffe.cpp:400", f"{layer.name:>10}\tforward: {ahead:g} ms.")
        glog.info("caffe.cpp:403", f"{layer.name:>10}\tbackward: {back:g} ms.")
    glog.info("caffe.cpp:408", f"Average Forward pass: {passes[0]:g} ms.")
    glog.info("caffe.cpp:410", f"Average Backward pass: {passes[1]:g} ms.")


def _table(net: Net, forward: Sequence[float], backward: Sequence[float]) -> str:
    """Give the layers' costs, times and share of the machine's peak, and below them the net's."""
    peak, rows, needs = _peak(net.device), costs(net), net._wiring.needs_backward
    lines: list[Sequence[str]] = []
    for cost, ahead, back, trains in zip(rows, forward, backward, needs, strict=True):
        names = (cost.name, cost.type, shapes(cost.tops))
        lines.append((*names, *_figures([cost], ahead, back if trains else None, peak)))
    whole = sum(compress(backward, needs)) if any(needs) else None
    lines += [(), ("total", "", "", *_figures(rows, sum(forward), whole, peak))]
    size = PEAK_ROWS[net.device.type]
    return (
        f"{table(TITLES, lines, left=(0, 1, 2))}\n"
        "FLOPs of the forward pass; a multiplication with an addition is two. Bytes: bottoms, tops and parameters.\n"
        f"Peak: {figure(peak)}FLOP/s, measured with the float32 product of two {size} x {size} matrices "
        f"on {_place(net.device)}."
    )


def _figures(rows: Sequence[Cost], forward: float, backward: float | None, peak: float) -> tuple[str, ...]:
    """Sum up the rows; a share of the peak stands where something is computed, a time back where that is done."""
    parameters, flops, moved = (sum(getattr(row, name) for row in rows) for name in ("parameters", "flops", "bytes"))
    return (
        f"{parameters:,}" if parameters else "-",
        figure(flops),
        figure(moved),
        f"{forward:.3f}",
        "-" if backward is None else f"{backward:.3f}",
        f"{100 * flops / (forward / 1000) / peak:.1f}" if flops else "-",
    )


def _place(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"the CPU, {threads} thread{'s' * (threads > 1)}"


def _peak(device: torch.device) -> float:
    """Operations a second of a large matrix product, the best of five."""
    n = PEAK_ROWS[device.type]
    a, b = torch.rand(2, n, n, device=device)
    return 2 * n**3 / min(_timed(onednn.linear, a, b) / 1000 for _ in range(5))

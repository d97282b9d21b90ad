"""Training on a GPU beside plain PyTorch, eager and compiled: time, memory, share of the device's peak.

    python bench/gpu.py [-h] [--precision P] [--batch N] [MODEL ...]

Ours trains as ``caffe train -gpu 0`` does, on pictures from JPEGs that were decoded in the epoch before; the plain
loops have one batch on the device that is ready. All multiply in the same precision, keep weights in float32,
channels_last, and take turns. The peak is that of a large matrix product in that precision; an iteration counts as
three forward passes. Memory is the most that PyTorch had allocated. ``--device cpu`` only shows that the script runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from nets import listed, photographs, solver
from plain import training_step
from timing import medians

import caffe
from caffe import device as devices
from caffe.costs import costs
from caffe.solvers.captured import capture_iterations

NETS = {"CaffeNet": "6 h", "VGG16": "2 days", "ResNet50": "16 h"}  # with what the article took for its iterations
ITERATIONS = 50_000  # of the article
SIDE = 8192  # of the matrices whose product is the peak


def main(options: argparse.Namespace) -> None:
    """Print a table."""
    device = torch.device(options.device)
    devices.set_precision(options.precision)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            sys.exit("gpu.py: PyTorch sees no CUDA device; --device cpu shows that the script runs")
        caffe.set_mode_gpu()
        torch.backends.cudnn.benchmark = True
        print(torch.cuda.get_device_name(), "torch", torch.__version__)
    print(f"a training iteration of {options.batch} pictures, {options.precision}")
    for model in options.models or NETS:
        with tempfile.TemporaryDirectory() as folder:
            print(row(model, Path(folder), device, options), flush=True)


def row(model: str, folder: Path, device: torch.device, options: argparse.Namespace) -> str:
    """What there is to say of a model."""
    n, half = options.batch, devices.half()
    made: list[caffe.SGDSolver] = []

    def ours() -> Callable[[], object]:
        made.append(solver(model, n, folder, listed(photographs(folder, 2 * n), folder)))
        if device.type == "cuda":
            capture_iterations(made[0])
        return lambda: made[0].step(1)

    step, memory = measured(ours, device)
    operations = 3 * sum(cost.flops for cost in costs(made[0].net))
    side = made[0].net.blobs["data"].shape[2]
    pictures = torch.randint(-120, 120, (n, 3, side, side), device=device).float()
    labels = torch.randint(102, (n,), device=device)
    matrix = torch.randn(options.side, options.side, device=device, dtype=half or torch.float32)
    eager, eager_memory = measured(lambda: training_step(model, pictures, labels, half), device)
    compiled, compiled_memory = measured(lambda: training_step(model, pictures, labels, half, compiled=True), device)

    def turn(step: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(options.steps):
                step()
            wait(device)

        return run

    turns = [turn(step) for step in (step, eager, compiled, lambda: matrix @ matrix)]
    seconds = [taken / options.steps for taken in medians(turns)]
    share = operations / seconds[0] / (2 * options.side**3 / seconds[3])
    made[0].close()
    hours = seconds[0] * ITERATIONS / 3600
    return (
        f"  {model}: {1000 * seconds[0]:.2f} ms; {seconds[0] / seconds[1]:.2f} of eager PyTorch's "
        f"({1000 * seconds[1]:.2f} ms), {seconds[0] / seconds[2]:.2f} of compiled ({1000 * seconds[2]:.2f} ms); "
        f"{share:.0%} of the peak; {memory:.1f} GB (eager {eager_memory:.1f}, compiled {compiled_memory:.1f}); "
        f"{ITERATIONS} iterations in {hours:.2f} h (the article's: {NETS[model]})"
    )


def measured(make: Callable[[], Callable[[], object]], device: torch.device) -> tuple[Callable[[], object], float]:
    """A step that is warm, and the GB that making and warming it took at most."""
    before = 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    step = make()
    for _ in range(6):
        step()
    wait(device)
    return step, (torch.cuda.max_memory_allocated() - before) / 1e9 if device.type == "cuda" else 0.0


def wait(device: torch.device) -> None:
    """Let the device end what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"some of {', '.join(NETS)}; all where none is named"
    )
    parser.add_argument("--precision", choices=devices.PRECISIONS, default="bf16", help="how ours multiplies")
    parser.add_argument("--batch", type=int, default=50, help="pictures an iteration")
    parser.add_argument("--steps", type=int, default=20, help="iterations a turn")
    parser.add_argument("--side", type=int, default=SIDE, help="of the matrices whose product is the peak")
    parser.add_argument("--device", default="cuda", help="where to train")
    chosen = parser.parse_args()
    if unknown := set(chosen.models) - set(NETS):
        parser.error(f"{' '.join(sorted(unknown))}: the models are {', '.join(NETS)}")
    main(chosen)

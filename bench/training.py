"""A training iteration of ours beside a plain PyTorch loop: time, memory, and the share of the machine's peak.

    python bench/training.py [MODEL ...]

Both have random pictures in memory, float32, channels_last, SGD with momentum and weight decay. Each runs in a process
of its own, as a user would run it, and they take turns; printed is the ratio of the medians. The peak is that of a
large matrix product, which takes its turn too; an iteration counts as three forward passes. Memory is the most that
a process ever had, less what it had once all was imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # who waits for his turn must not spin on the other's core

import torch
from nets import solver
from plain import training_step
from timing import medians, peak

from caffe.costs import costs

NETS = {"CaffeNet": 50, "VGG16": 8, "ResNet50": 16, "SqueezeNet": 32}  # with pictures a batch
SIDE = 2048  # of the matrices whose product is the peak


def step_of(side: str, model: str, folder: Path) -> Callable[[], object]:
    """What a side does in its turn; the first line on standard output is its operations, 0 where nobody asks."""
    if side == "ours":
        made = solver(model, NETS[model], folder)
        print(3 * sum(cost.flops for cost in costs(made.net)), flush=True)
        return lambda: made.step(1)
    if side == "plain":
        print(0, flush=True)
        crop = 227 if model in ("CaffeNet", "SqueezeNet") else 224
        pictures = torch.randint(-120, 120, (NETS[model], 3, crop, crop)).float()
        return training_step(model, pictures, torch.randint(102, (NETS[model],)))
    print(2 * SIDE**3, flush=True)
    matrix = torch.randn(SIDE, SIDE)
    return lambda: matrix @ matrix


def work(side: str, model: str) -> None:
    """Do a step for each line of standard input; at last, tell the memory that it took."""
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        step = step_of(side, model, Path(folder))
        for _ in sys.stdin:
            step()
            print("done", flush=True)
        print(peak() - before)


class Worker:
    """A side in a process of its own."""

    def __init__(self, side: str, model: str) -> None:
        command = [sys.executable, __file__, model, side]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.operations = float(self._read())
        self.step()  # memory is fetched, kernels are chosen

    def _read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def step(self) -> None:
        """Let it do one step and wait for its end."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        if not self._read():
            sys.exit("a side has ended before its time; what it says is above")

    def memory(self) -> float:
        """End it; the memory that it took, in bytes."""
        assert self.process.stdin
        self.process.stdin.close()
        return float(self._read())


def main(models: list[str]) -> None:
    """Print the ratios."""
    print("a training iteration beside a plain PyTorch loop's (float32, channels_last, eager)")
    for model in models or NETS:
        sides = ours, plain, product = [Worker(side, model) for side in ("ours", "plain", "product")]
        seconds = medians([side.step for side in sides])
        share = (ours.operations / seconds[0]) / (product.operations / seconds[2])
        space = ours.memory() / plain.memory()
        product.memory()
        print(
            f"  {model}, {NETS[model]} pictures a batch: {seconds[0] / seconds[1]:.2f} of its time, {space:.2f} of its "
            f"memory; {share:.0%} of the machine's peak",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[2:3] and sys.argv[2] in ("ours", "plain", "product"):
        work(sys.argv[2], sys.argv[1])
    else:
        main(sys.argv[1:])

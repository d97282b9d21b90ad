"""A training iteration of ours beside a plain PyTorch loop: time, memory, and the share of the machine's peak.

    python bench/training.py [MODEL ...]

Both train in float32, channels_last, SGD with momentum and weight decay. Ours reads pictures as ``caffe train`` does,
from JPEGs that it decoded in the epoch before; the plain loop has one batch of random pictures, transformed already.
Each runs in a process of its own, as a user would run it, and they take turns; printed is the ratio of the medians. The
peak is that of a large matrix product, which takes its turn too; an iteration counts as three forward passes. Ours with
``-precision bf16`` takes turns as well. Memory is the most that a process ever had, less what it had once all was
imported. Where BVLC_CAFFE in the environment names BVLC's caffe, its ``caffe time`` of the same net takes turns with
ours too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from nets import listed, photographs, solver, training_net
from plain import training_step
from timing import medians, or_help, peak
from worker import Worker, serve

from caffe.costs import costs
from caffe.device import set_precision
from caffe.onednn import linear

SIDES = ("ours", "plain", "product", "half")
NETS = {"CaffeNet": 50, "VGG16": 8, "ResNet50": 16, "SqueezeNet": 32}  # with pictures a batch
BVLC = os.environ.get("BVLC_CAFFE", "")
SIDE = 2048  # of the matrices whose product is the peak


def step_of(side: str, model: str, folder: Path) -> tuple[int, Callable[[], object]]:
    """What a side does in its turn, and its operations, 0 where nobody asks."""
    if side in ("ours", "half"):
        set_precision("bf16" if side == "half" else "fp32")
        made = solver(model, NETS[model], folder, listed(photographs(folder, 2 * NETS[model]), folder))
        return 3 * sum(cost.flops for cost in costs(made.net)), lambda: made.step(1)
    if side == "plain":
        crop = 227 if model in ("CaffeNet", "SqueezeNet") else 224
        pictures = torch.randint(-120, 120, (NETS[model], 3, crop, crop)).float()
        return 0, training_step(model, pictures, torch.randint(102, (NETS[model],)))
    matrix = torch.randn(SIDE, SIDE)
    return 2 * SIDE**3, lambda: linear(matrix, matrix)


def work(side: str, model: str) -> None:
    """Do a step whenever asked; at last, tell the memory that it took."""
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        operations, step = step_of(side, model, Path(folder))
        serve(step, operations, lambda: peak() - before)


def bvlc(model: str, ours: Worker) -> str:
    """What a turn of ours takes, as a share of what BVLC's ``caffe time`` tells of the same net."""
    if not BVLC:
        return ""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        net = Path(folder) / "net.prototxt"
        net.write_text(str(training_net(model, NETS[model])))
        for _ in range(3):
            (seconds,) = medians([ours.step], 1)
            command = [BVLC, "time", "-model", str(net), "-iterations", "3"]
            log = subprocess.run(command, env={**os.environ, "GLOG_minloglevel": "0"}, capture_output=True, text=True)
            told = re.search(r"Average Forward-Backward: ([\d.e+]+) ms", log.stderr)
            if not told:
                sys.exit(f"{' '.join(command)} tells no time:\n{log.stderr[-1000:]}")
            ratios.append(1000 * seconds / float(told[1]))
    return f"; {median(ratios):.2f} of BVLC's time, which updates no weights"


def main(models: list[str]) -> None:
    """Print the ratios."""
    print("a training iteration beside a plain PyTorch loop's (float32, channels_last, eager)")
    if not BVLC:
        print("  without BVLC Caffe: BVLC_CAFFE in the environment names no caffe")
    for model in models or NETS:
        sides = ours, plain, product, half = [Worker(model, side) for side in SIDES]
        seconds = medians([side.step for side in sides])
        share = (float(ours.first) / seconds[0]) / (float(product.first) / seconds[2])
        beside_bvlc = bvlc(model, ours)
        space = float(ours.end()) / float(plain.end())
        product.end()
        half.end()
        print(
            f"  {model}, {NETS[model]} pictures a batch: {seconds[0] / seconds[1]:.2f} of its time, {space:.2f} of its "
            f"memory; {share:.0%} of the machine's peak; bf16 takes {seconds[3] / seconds[0]:.2f} of that{beside_bvlc}",
            flush=True,
        )


if __name__ == "__main__":
    or_help(__doc__)
    if sys.argv[2:3] and sys.argv[2] in SIDES:
        work(sys.argv[2], sys.argv[1])
    else:
        main(sys.argv[1:])

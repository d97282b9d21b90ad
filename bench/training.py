"""A training iteration of ours beside a plain PyTorch loop: time, memory, and the share of the machine's peak.

    python bench/training.py [MODEL ...]

Both have the same random pictures in memory, float32, channels_last, SGD with momentum and weight decay. They take
turns in one process; printed is the ratio of the medians. The peak is that of a large matrix product, measured in
turn with them; an iteration counts as three forward passes. Memory is the most that a process of its own ever had,
less what it had once all was loaded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from nets import solver
from plain import training_step
from timing import medians
from weights import peak

NETS = {"CaffeNet": 50, "VGG16": 8, "ResNet50": 16, "SqueezeNet": 32}  # with pictures a batch
MACS = {"CaffeNet": 720.7e6, "VGG16": 15.47e9, "ResNet50": 3.86e9, "SqueezeNet": 0.86e9}  # a picture, forward
SIDE = 2048  # of the matrices whose product is the peak


def ours(model: str, folder: Path) -> Callable[[], object]:
    """An iteration of our solver."""
    made = solver(model, NETS[model], folder)
    return lambda: made.step(1)


def plain(model: str) -> Callable[[], object]:
    """An iteration of the plain loop."""
    crop = 227 if model in ("CaffeNet", "SqueezeNet") else 224
    pictures = torch.randint(-120, 120, (NETS[model], 3, crop, crop)).float()
    return training_step(model, pictures, torch.randint(102, (NETS[model],)))


def memory(model: str, side: str) -> float:
    """What three iterations take at most, in a process of their own, in bytes."""
    child = subprocess.run([sys.executable, __file__, model, side], check=True, stdout=subprocess.PIPE, text=True)
    return float(child.stdout)


def measure_memory(model: str, side: str, folder: Path) -> float:
    """The same, in this process."""
    before = peak()
    step = ours(model, folder) if side == "ours" else plain(model)
    for _ in range(3):
        step()
    return peak() - before


def main(models: list[str], folder: Path) -> None:
    """Print the ratios."""
    print("a training iteration beside a plain PyTorch loop's (float32, channels_last, eager)")
    matrix = torch.randn(SIDE, SIDE)
    for model in models or NETS:
        steps = [ours(model, folder), plain(model), lambda: matrix @ matrix]
        for step in steps:
            step()  # memory is fetched, kernels are chosen
        mine, theirs, product = medians(steps)
        share = 3 * MACS[model] * NETS[model] / mine / (SIDE**3 / product)
        space = memory(model, "ours") / memory(model, "plain")
        print(
            f"  {model}, {NETS[model]} pictures a batch: {mine / theirs:.2f} of its time, {space:.2f} of its memory; "
            f"{share:.0%} of the machine's peak",
            flush=True,
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        if sys.argv[2:3] in (["ours"], ["plain"]):
            print(measure_memory(sys.argv[1], sys.argv[2], Path(name)))
        else:
            main(sys.argv[1:], Path(name))

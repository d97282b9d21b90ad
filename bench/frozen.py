"""What freezing the convolutions saves: an iteration of each frozen variant beside its net's.

    python bench/frozen.py

Forward, backward and update with random pictures in memory. A frozen layer still runs forward; nothing runs back
through it. Printed are the ratios of the medians, and how much of an iteration the forward pass is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from nets import solver
from timing import medians, or_help

NETS = (("CaffeNet", 50), ("VGG16", 4), ("SqueezeNet", 32))  # with pictures a batch


def compare(model: str, batch: int, folder: Path) -> tuple[float, float]:
    """The frozen variant's iteration and the net's forward pass, as shares of the net's iteration."""
    plain, frozen = (solver(variant, batch, folder) for variant in (model, f"{model}-frozen"))
    runs = (lambda: plain.step(1), lambda: frozen.step(1), lambda: plain.net.forward())
    for run in runs:
        run()  # memory is fetched, kernels are chosen
    whole, part, forward = medians(runs)
    return part / whole, forward / whole


def main() -> int:
    """Print the ratios."""
    print("a frozen variant's iteration, as a share of its net's")
    for model, batch in NETS:
        with tempfile.TemporaryDirectory() as folder:
            part, forward = compare(model, batch, Path(folder))
        print(f"  {model}, {batch} pictures a batch: {part:.2f} (the net's forward pass alone: {forward:.2f})")
    return 0


if __name__ == "__main__":
    or_help(__doc__)
    sys.exit(main())

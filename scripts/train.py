"""Train a net through Caffe's Python interface, on a GPU or on the CPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import exit_status
from oxford102.training import train

EPILOG = """The log goes to standard error, snapshots where the solver says. `caffe train` has more flags.

examples:
  python scripts/train.py --solver models/CaffeNet/solver.prototxt 2> training.log
  python scripts/train.py --solver solver.prototxt --snapshot caffenet_iter_10000.solverstate --gpus 0
  python scripts/train.py --solver solver.prototxt --timing     logs the milliseconds of each layer, too
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    cli.add_argument("--solver", type=Path, required=True, help="the solver's prototxt")
    cli.add_argument("--snapshot", type=Path, metavar="STATE", help="a .solverstate to go on from")
    what = "number of the GPU (the first; the CPU where there is no GPU)"
    cli.add_argument("--gpus", type=int, nargs="+", default=[], metavar="ID", help=what)
    cli.add_argument("--timing", action="store_true", help="log how long each layer takes")
    return cli.parse_args()


if __name__ == "__main__":
    args = parse_arguments()
    sys.exit(exit_status("train.py", lambda: train(args.solver, args.snapshot, args.gpus, args.timing)))

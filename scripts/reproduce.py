"""Reproduce a result: data, weights, training, validation and test accuracy of a folder of models/.

A row in results/results.csv and the table of README.md tell it. What is done already is skipped: after Ctrl-C the
same command goes on. Training is what the comment at the top of the folder's solver.prototxt says, its log lies in
logs/ of the folder; accuracies are those of the last weights, not of the best.

  python scripts/reproduce.py CaffeNet --gpu 0
  python scripts/reproduce.py models/Flowers17-SqueezeNet --data flowers17
  python scripts/reproduce.py --table           only draw README.md's table anew
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from oxford102.errors import exit_status
from oxford102.model_folder import find_model

ROOT = Path(__file__).resolve().parents[1]


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("model", nargs="?", metavar="MODEL", help="a folder of models/, by its name, or any other")
    cli.add_argument("--gpu", default="", metavar="N", help="train and test there (default: on the CPU)")
    cli.add_argument("--weights", type=Path, metavar="FILE", help="start from these, not from those of the solver file")
    cli.add_argument("--data", default="", metavar="NAME", help="what to call the data (the name of their folder)")
    cli.add_argument("--table", action="store_true", help="draw README.md's table from results/results.csv; no more")
    args = cli.parse_args()
    if not args.table and not args.model:
        cli.error("which MODEL? One of models/, as CaffeNet")
    return args


def work(args: argparse.Namespace) -> None:
    """Draw the table, or reproduce the model."""
    from oxford102.reproduce import Job, reproduce  # here, so that --help does not wait for the runtime
    from oxford102.results import draw

    if args.table:
        return draw(ROOT / "README.md", ROOT / "results" / "results.csv")
    reproduce(Job(find_model(args.model, ROOT / "models"), ROOT, args.gpu, args.weights, args.data))


if __name__ == "__main__":
    arguments = parse_arguments()
    for name in ("SIGTERM", "SIGHUP"):
        if signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(getattr(signal, name), signal.default_int_handler)
    sys.exit(exit_status("reproduce.py", lambda: work(arguments)))

"""Parse a training log into two tables, LOG.train and LOG.test, as Caffe's parse_log does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import exit_status
from oxford102.log_tables import write_tables

EPILOG = """columns:
  NumIters, Seconds (since the training began), LearningRate, then the net's outputs by their names

examples:
  python scripts/parse_log.py training.log .                    writes ./training.log.train and ./training.log.test
  python scripts/parse_log.py training.log tables --delimiter ';' --verbose
"""


def character(text: str) -> str:
    """One character that can part columns."""
    if len(text) != 1 or text in '\r\n"':
        raise argparse.ArgumentTypeError(f"'{text}' is not one character that can part columns; give , or ';'")
    return text


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    what = "Parse a Caffe training log into two CSV files, one of training and one of testing."
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=what, epilog=EPILOG, formatter_class=raw)
    parser.add_argument("logfile_path", type=Path, metavar="LOG", help="what `caffe train` wrote to standard error")
    parser.add_argument("output_dir", type=Path, metavar="DIR", help="the folder that the tables go to")
    parser.add_argument("--verbose", action="store_true", help="print the names of the written files")
    parser.add_argument(
        "--delimiter", type=character, default=",", metavar="C", help="the character between columns (,)"
    )
    return parser.parse_args()


def write(arguments: argparse.Namespace) -> None:
    """Write the tables; tell of one that has no lines."""
    for path, written in write_tables(arguments.logfile_path, arguments.output_dir, arguments.delimiter):
        if written and arguments.verbose:
            print(f"Wrote {path}")
        if not written:
            print(f"Not writing {path}; no lines to write", file=sys.stdout if arguments.verbose else sys.stderr)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("parse_log.py", lambda: write(arguments)))

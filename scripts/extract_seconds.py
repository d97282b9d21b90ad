"""Write the seconds since the training began for each line of a log that names an iteration, one a line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import exit_status
from oxford102.log_tables import write_seconds

EPILOG = """Midnight and the turn of a year between two lines are counted right; the log may tell years or not.

examples:
  python scripts/extract_seconds.py training.log seconds.txt
  grep '] Solving ' training.log > aux.txt; grep ', loss = ' training.log >> aux.txt
  python scripts/extract_seconds.py aux.txt seconds.txt         only of the lines that tell a loss
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    parser.add_argument("input_file", type=Path, metavar="LOG", help="what `caffe train` wrote to standard error")
    parser.add_argument("output_file", type=Path, metavar="OUT", help="the file to write")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("extract_seconds.py", lambda: write_seconds(arguments.input_file, arguments.output_file)))

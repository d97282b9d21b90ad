"""Look at the data: how many pictures of each class the lists have, and a sheet of samples with their names."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.arguments import whole
from oxford102.errors import exit_status
from oxford102.show import Job, show

EPILOG = """Writes histogram.png and samples.png (pictures of the first list, cut to squares). Warns of picture
files that are in two lists, under the same or another name: what a net has learnt by heart is no test.

examples:
  python scripts/show_data.py data/mine -o shots
  python scripts/show_data.py data -o shots --seed 2       other samples
  python scripts/show_data.py train.txt valid.txt -o shots --labels names.txt
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    cli.add_argument("sources", nargs="+", type=Path, metavar="DATA", help="a data folder, or lists of 'path label'")
    cli.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where the drawings go")
    cli.add_argument("--labels", type=Path, metavar="FILE", help="the names, one a line (labels.txt beside the lists)")
    cli.add_argument("--seed", type=whole, default=777, metavar="N", help="decides which samples are shown (777)")
    cli.add_argument("--force", action="store_true", help="replace drawings that are there")
    return cli.parse_args()


if __name__ == "__main__":
    a = parse_arguments()
    job = Job(a.sources, a.output, a.labels, a.seed, a.force)
    sys.exit(exit_status("show_data.py", lambda: show(job)))

"""Make a data folder for Caffe from your own pictures: lists, names of the classes, a report on bad pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.arguments import whole
from oxford102.dataset import Job, check_shares, make_dataset
from oxford102.errors import ToolError, exit_status

EPILOG = """SOURCE is a folder with a folder of pictures per class, or a .csv file of path,label (a label is a name or a
number; paths are relative to the file). The pictures stay where they are; OUT gets train.txt, valid.txt and
test.txt (a path and a label a line), labels.txt (the names, by label) and report.csv.

Pictures that are broken, tiny, or the same as another pixel by pixel are left out, so that no picture is in two
lists; of equal ones with different labels, all are. What merely looks alike is not found. Files whose name tells
another format, and odd ones (CMYK, transparent, 16 bits, turned by EXIF …) are told and kept.

examples:
  python scripts/make_dataset.py flowers -o data/mine                       half, a quarter and a quarter of each class
  python scripts/make_dataset.py flowers -o data/mine --split 0.8 0.1 0.1
  python scripts/make_dataset.py flowers.csv -o data/mine --count 40 20 20  so many pictures of each class
  python scripts/make_dataset.py flowers -o data/mine --lmdb --mean         databases and a mean picture, too

Then: python scripts/show_data.py data/mine -o shots
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    cli.add_argument("source", type=Path, metavar="SOURCE", help="the pictures")
    cli.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="the data folder to make")
    sizes, three = cli.add_mutually_exclusive_group(), ("TRAIN", "VALID", "TEST")
    what = "fractions of each class (0.5 0.25 0.25); TEST may be 0"
    sizes.add_argument("--split", nargs=3, type=float, default=(0.5, 0.25, 0.25), metavar=three, help=what)
    sizes.add_argument("--count", nargs=3, type=whole, metavar=three, help="so many of each class, no more")
    cli.add_argument("--seed", type=whole, default=777, metavar="N", help="decides which pictures go where (777)")
    cli.add_argument("--min-side", type=whole, default=32, metavar="N", help="fewer pixels a side are tiny (32)")
    cli.add_argument("--strict", action="store_true", help="stop where any picture is bad or misnamed; write nothing")
    cli.add_argument("--lmdb", action="store_true", help="also write an LMDB of each list, at 256x256")
    cli.add_argument("--mean", action="store_true", help="also write the training pictures' mean, at 256x256")
    cli.add_argument("--force", action="store_true", help="replace the data set that is in OUT")
    args = cli.parse_args()
    try:
        check_shares(args.count or args.split, bool(args.count))
    except ToolError as error:
        cli.error(str(error))
    return args


if __name__ == "__main__":
    a = parse_arguments()
    sizes = (a.count or a.split, bool(a.count))
    job = Job(a.source, a.output, *sizes, a.seed, a.min_side, a.strict, a.lmdb, a.mean, a.force)
    sys.exit(exit_status("make_dataset.py", lambda: make_dataset(job)))

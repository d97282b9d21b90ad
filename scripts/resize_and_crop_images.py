"""Resize pictures to a side length and crop the square at their centre, for convert_imageset and the like."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.arguments import count
from oxford102.errors import exit_status
from oxford102.resize import LIBRARIES, read_names, resize_and_crop

EPILOG = """Pictures keep their names and folders. One that cannot be read is told and left out; then the status is 1.

examples:
  python scripts/resize_and_crop_images.py --input=names.txt --input_folder=jpg/ --output_folder=jpg256/
  python scripts/resize_and_crop_images.py --input='lists/*.txt' --input_folder=jpg/ --output_folder=jpg224/ \\
      --output_side_length=224 --image_lib=pil --num_clients=4
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw, allow_abbrev=False)
    what = "list of paths in the input folder, one a line; a pattern with * names several lists"
    cli.add_argument("--input", required=True, metavar="LIST", help=what)
    cli.add_argument("--input_folder", type=Path, required=True, metavar="DIR", help="the folder of the pictures")
    cli.add_argument("--output_folder", type=Path, required=True, metavar="DIR", help="where the squares go")
    cli.add_argument("--output_side_length", type=count, default=256, metavar="N", help="pixels of a side (256)")
    what = "opencv, bilinear and faster, or pil, Lanczos and always JPEG (opencv)"
    cli.add_argument("--image_lib", type=str.lower, choices=tuple(LIBRARIES), default="opencv", help=what)
    cli.add_argument("--num_clients", type=count, default=0, metavar="N", help="threads (one a core)")
    return cli.parse_args()


def work(args: argparse.Namespace) -> None:
    """Read the list and resize its pictures."""
    names = read_names(args.input, args.input_folder)
    side, threads = args.output_side_length, args.num_clients
    resize_and_crop(names, args.input_folder, args.output_folder, args.image_lib, side, threads)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("resize_and_crop_images.py", lambda: work(arguments)))

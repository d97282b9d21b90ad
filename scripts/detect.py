"""Score windows of pictures with a trained net, as R-CNN does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.arguments import whole
from oxford102.errors import exit_status
from oxford102.score import add_net_flags, detect

EPILOG = """input and output:
  --crop_mode list               IN.csv with a first line that names filename,xmin,ymin,xmax,ymax, then a window a line
  --crop_mode selective_search   IN.txt with a picture's name a line; needs selective_search_ijcv_with_python and MATLAB
  OUT.csv   filename,ymin,xmin,ymax,xmax,class0,class1 ... a window a line
  OUT.h5    the arrays filename [n], window [n, 4] and prediction [n, classes], for h5py and others
            (no pandas table, which Caffe's detect.py wrote)

examples (N stands for --model_def models/SqueezeNet/deploy_imagenet.prototxt --pretrained_model squeezenet.caffemodel):
  python scripts/detect.py windows.csv scores.csv --crop_mode list N
  python scripts/detect.py windows.csv scores.h5 --crop_mode list --context_pad 0 --gpu N
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    cli.add_argument("input_file", type=Path, metavar="IN", help="a .csv file of windows or a .txt file of pictures")
    cli.add_argument("output_file", type=Path, metavar="OUT", help="the .csv or .h5 file to write")
    add_net_flags(cli)
    modes = ("list", "selective_search")
    what = "where the windows come from (selective_search)"
    cli.add_argument("--crop_mode", choices=modes, default="selective_search", help=what)
    what = "pixels of a window's surroundings on each side of the net's input (16)"
    cli.add_argument("--context_pad", type=whole, default=16, metavar="N", help=what)
    return cli.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("detect.py", lambda: detect(arguments)))

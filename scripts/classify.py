"""Score pictures with a trained net, and write the scores as a .npy file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import exit_status
from oxford102.score import add_net_flags, classify, height_and_width

EPILOG = """OUT.npy holds [pictures, classes] of float32, a folder's pictures in the order of their names.
With --center_only each picture has the shape of the net's output.
A picture is resized to --images_dim; the scores of ten crops are averaged: corners, centre, and these mirrored.

examples (N stands for --model_def models/SqueezeNet/deploy_imagenet.prototxt --pretrained_model squeezenet.caffemodel):
  python scripts/classify.py rose.jpg scores.npy N
  python scripts/classify.py holiday/ scores.npy N --ext png --gpu
  python scripts/classify.py pictures.npy scores.npy N --center_only --mean_file '' --images_dim 227,227

predict.py tells names and probabilities.
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    cli.add_argument(
        "input_file", type=Path, metavar="IN", help="a picture, a folder, or .npy [n, h, w, k], RGB, 0 to 1"
    )
    cli.add_argument("output_file", type=Path, metavar="OUT", help="the .npy file to write")
    add_net_flags(cli)
    cli.add_argument("--center_only", action="store_true", help="score the centre crop, not ten crops")
    what = "height,width that pictures are resized to (256,256)"
    cli.add_argument("--images_dim", type=height_and_width, default="256,256", metavar="H,W", help=what)
    cli.add_argument("--ext", default="jpg", help="ending of a folder's pictures (jpg)")
    return cli.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("classify.py", lambda: classify(arguments)))

"""Name the flower in a picture: `python predict.py img.jpg deploy.prototxt model.caffemodel mean.npy 227`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from oxford102.arguments import count
from oxford102.classify import predict
from oxford102.errors import exit_status

EXAMPLES = """examples (C stands for models/CaffeNet):
  python predict.py rose.jpg C/deploy.prototxt C/snapshots/caffenet_iter_50000.caffemodel data/imagenet_mean.npy 227
  python predict.py rose.jpg models/VGG16/deploy.prototxt vgg.caffemodel 103.939,116.779,123.68 224 --output rose.pdf
  python predict.py holiday/ C/deploy.prototxt flowers.caffemodel data/imagenet_mean.binaryproto 227 --output table.csv
  python predict.py a.jpg b.jpg C/deploy.prototxt flowers.caffemodel data/imagenet_mean.npy 227 --top 3 --json
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    what = "Name the flower in a picture, or in many: the most probable classes, and the picture with its title."
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser("predict.py", description=what, epilog=EXAMPLES, formatter_class=raw)
    cli.add_argument("images", nargs="+", type=Path, help="pictures, or folders of them")
    cli.add_argument("deploy", type=Path, help="the net for prediction, a prototxt")
    cli.add_argument("model", type=Path, help="its trained weights, a caffemodel")
    cli.add_argument("mean", help="a mean picture (.npy or .binaryproto), or the values blue,green,red")
    cli.add_argument("size", type=count, help="side of the net's input in pixels, as 227")
    cli.add_argument("--top", type=count, default=5, metavar="N", help="how many classes to tell (5)")
    cli.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line (data/labels.txt)")
    cli.add_argument("--output", type=Path, metavar="FILE", help="the picture (<name>-prediction.png); .csv for many")
    cli.add_argument("--center-only", action="store_true", help="look at the centre crop, not at ten crops")
    cli.add_argument("--resize", type=count, default=256, metavar="N", help="squeeze pictures to N x N first (256)")
    cli.add_argument("--gpu", type=int, metavar="ID", help="compute on this device, not on the CPU")
    cli.add_argument("--show", action="store_true", help="open the picture when it is drawn")
    cli.add_argument("--json", action="store_true", help="print JSON instead of text")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and predict: 0, 1 after an error, 2 for usage, 130 after Ctrl-C."""
    args = parser().parse_intermixed_args(argv)
    return exit_status("predict.py", lambda: predict(args))


if __name__ == "__main__":
    sys.exit(main())

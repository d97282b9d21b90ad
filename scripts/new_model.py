"""Make a model folder for your own classes from one of models/: new last layer, your lists, a fitting schedule."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.arguments import above_zero, count
from oxford102.errors import exit_status
from oxford102.model_folder import find_model

MODELS = Path(__file__).resolve().parents[1] / "models"
EPILOG = """MODEL is the name of a folder in models/, or any folder with solver, train_val, test and deploy prototxts.
DATA is what make_dataset.py made: train.txt, valid.txt, test.txt, labels.txt.

The last layer gets a new name, so that it starts at random whatever weights are given, and an output per class. It
ends with the folder's name: in Flowers17-CaffeNet, fc8_oxford_102 becomes fc8_flowers17. The solver takes as many
epochs as MODEL's, but no more iterations; rates, tests and snapshots come at the same shares of the way. Each
validation picture is seen once. Weights are not copied: the commands in the new files name MODEL's.

examples:
  python scripts/new_model.py CaffeNet --data data/mine -o models/Flowers17-CaffeNet
  python scripts/new_model.py CaffeNet --classes 17 --data data/mine -o models/Flowers17-CaffeNet --epochs 100
  python scripts/new_model.py SqueezeNet --data data/mine -o models/Small --resize 144 --crop 127 --iterations 900

Then: cd models/Flowers17-CaffeNet, and the commands of its README.md
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    cli.add_argument("model", metavar="MODEL", help="which model to start from")
    cli.add_argument("--data", type=Path, required=True, metavar="DATA", help="the data folder")
    cli.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="the folder to write")
    cli.add_argument("--classes", type=int, metavar="N", help="how many (what labels.txt has)")
    length = cli.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=above_zero, metavar="N", help="how often training sees each picture")
    length.add_argument("--iterations", type=count, metavar="N", help="how many iterations training takes")
    cli.add_argument("--resize", type=count, metavar="SIDE", help="pixels that pictures are squeezed to (MODEL's)")
    cli.add_argument("--crop", type=count, metavar="SIDE", help="pixels of the crops, the net's input (MODEL's)")
    cli.add_argument("--force", action="store_true", help="replace the files of OUT; snapshots stay")
    return cli.parse_args()


def work(args: argparse.Namespace) -> None:
    """Find the model and make the folder."""
    import caffe  # here, so that --help does not wait for the runtime
    from oxford102.new_model import Job, new_model

    caffe.init_log(2)  # nets are only made to see whether the crop fits
    flags = {name: value for name, value in vars(args).items() if name != "model"}
    new_model(Job(find_model(args.model, MODELS), **flags))


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("new_model.py", lambda: work(arguments)))

"""Show a net as a table: each layer's shapes, parameters, rates and cost. Nothing is run, no data is read.

python scripts/summarize.py models/CaffeNet/train_val.prototxt
python scripts/summarize.py models/CaffeNet/deploy.prototxt --phase TEST --batch 1
python scripts/summarize.py lenet_train_test.prototxt --shape 1,28,28

"rates" are the lr_mult of each parameter blob, with the decay_mult behind a stroke where it is not 1, and with the
name of a shared one before. FLOPs are those of a forward pass; a multiplication with an addition is two.
"""

from __future__ import annotations

import argparse
import sys

from caffe import glog
from caffe.errors import CaffeError
from caffe.tools.summarize import summarize
from oxford102.arguments import count


def sizes(text: str) -> tuple[int, ...]:
    """Read whole numbers above 0, divided by commas or the letter x."""
    values = tuple(int(word) for word in text.replace("x", ",").split(","))
    if min(values) < 1:
        raise ValueError(text)
    return values


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", metavar="NET.prototxt")
    parser.add_argument("--phase", choices=("TRAIN", "TEST"), default="TRAIN", help="which layers the net has (TRAIN)")
    parser.add_argument("--batch", type=count, metavar="N", help="items in a batch (what the prototxt says)")
    about = "shape of an item of a data layer (crop_size, or new_height and new_width; 3 channels, or 1 of grey ones)"
    parser.add_argument("--shape", type=sizes, metavar="C,H,W", help=about)
    return parser.parse_args()


def main() -> int:
    """Print the table; 1 where the net is wrong."""
    arguments = parse_arguments()
    glog.init_log(2)  # the table says it all
    try:
        print(summarize(arguments.net, arguments.phase, arguments.batch, arguments.shape))
    except (CaffeError, OSError) as problem:
        print(f"summarize.py: error: {' '.join(str(problem).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

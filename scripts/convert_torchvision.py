"""Convert torchvision's VGG-16 or ResNet-50 to a caffemodel, for when no mirror has Caffe's own.

    python scripts/convert_torchvision.py resnet50.pth -o models/ResNet50-v1.5/pretrained-weights.caffemodel
    python scripts/convert_torchvision.py vgg16.pth -o models/VGG16/pretrained-weights.caffemodel

The files are published at https://download.pytorch.org/models/ (vgg16-397923af.pth, resnet50-0676ba61.pth and
resnet50-11ad3fa6.pth); which of the two nets it is, the file tells. Nothing in it is run: it is read as tensors only.

The scores are torchvision's, from pictures in Caffe's form: blue, green, red of 0 to 255, less the mean 103.53,
116.28, 123.675. So the mean_value of models/VGG16 must be changed to these; those of models/ResNet50-v1.5 are.
torchvision's ResNet-50 has its strides elsewhere than the file for models/ResNet50, and does not fit there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import exit_status
from oxford102.from_torchvision import convert


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, metavar="FILE.pth", help="the state_dict that torchvision publishes")
    what = "the file to write (FILE.caffemodel beside it)"
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.caffemodel", help=what)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    output = arguments.output or arguments.weights.with_suffix(".caffemodel")
    sys.exit(exit_status("convert_torchvision.py", lambda: convert(arguments.weights, output)))

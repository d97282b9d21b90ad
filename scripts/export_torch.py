"""Write the weights of a caffemodel as a PyTorch state_dict (safetensors), under Caffe's layer names.

    python scripts/export_torch.py models/CaffeNet/deploy.prototxt flowers.caffemodel -o flowers.safetensors

and then, in Python,

    state = safetensors.torch.load_file("flowers.safetensors")
    with safetensors.safe_open("flowers.safetensors", "pt") as file:
        print(file.metadata()["prototxt"])                              # the net that the weights belong to

| layer         | keys                                   | torch.nn                                              |
|---------------|----------------------------------------|-------------------------------------------------------|
| Convolution   | conv1.weight, conv1.bias               | Conv2d of the same group, stride, pad and dilation    |
| Deconvolution | up.weight, up.bias                     | ConvTranspose2d                                       |
| InnerProduct  | fc6.weight, fc6.bias                   | Linear, behind a Flatten                              |
| BatchNorm     | bn1.running_mean, bn1.running_var      | BatchNorm2d(affine=False, eps=1e-5), in eval()        |
| Scale         | scale1.weight, scale1.bias             | the weight and bias of the BatchNorm2d before it      |
| PReLU, Embed  | relu1.weight; word.weight, word.bias   | PReLU; Embedding, the bias added                      |
| any other     | lstm.blob0, lstm.blob1, ...            | as Caffe keeps them                                   |

Shapes are torch's already. The running values are divided by BatchNorm's scale factor. What differs and is in no
weight: pictures come as blue, green, red of 0 to 255, less the mean; Caffe's Pooling is ceil_mode=True unless
its round_mode is FLOOR; its LRN is LocalResponseNorm of the same alpha, beta, k and size.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import exit_status
from oxford102.to_torch import export


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", type=Path, metavar="DEPLOY.prototxt", help="the net for prediction")
    parser.add_argument("weights", type=Path, metavar="FILE.caffemodel", help="its weights")
    what = "the file to write (FILE.safetensors beside the weights)"
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.safetensors", help=what)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    output = arguments.output or arguments.weights.with_suffix(".safetensors")
    sys.exit(exit_status("export_torch.py", lambda: export(arguments.net, arguments.weights, output)))

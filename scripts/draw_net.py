"""Draw a net as a graph: boxes are layers, octagons are blobs."""

from __future__ import annotations

import argparse
import sys

import caffe
from caffe.draw import draw_net_to_file
from caffe.proto.text import read_net
from oxford102.errors import ToolError, exit_status

PHASES = {"TRAIN": caffe.TRAIN, "TEST": caffe.TEST, "ALL": None}
EPILOG = """Needs the pydot package (pip install pydot) and, but for .dot files, Graphviz with its dot command.

examples:
  python scripts/draw_net.py models/CaffeNet/deploy.prototxt caffenet.png
  python scripts/draw_net.py models/CaffeNet/train_val.prototxt caffenet.svg --rankdir TB --phase TRAIN --display_lrm
  python scripts/draw_net.py models/CaffeNet/deploy.prototxt caffenet.dot; dot -Tpdf caffenet.dot > caffenet.pdf
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    cli.add_argument("input_net_proto_file", metavar="NET", help="the net's prototxt, of any age")
    cli.add_argument("output_image_file", metavar="OUT", help="the picture: .png, .svg, .pdf, .dot and others of dot")
    what = "where the graph runs to: LR, RL, TB or BT (LR)"
    cli.add_argument("--rankdir", default="LR", choices=("LR", "RL", "TB", "BT"), help=what)
    cli.add_argument("--phase", default="ALL", choices=tuple(PHASES), help="the phase that is drawn (ALL)")
    cli.add_argument("--display_lrm", action="store_true", help="show the lr_mult of layers that learn")
    return cli.parse_args()


def draw(arguments: argparse.Namespace) -> None:
    """Read the net and draw it."""
    caffe.init_log(2)  # the log of layers that the phase leaves out
    try:
        net = read_net(arguments.input_net_proto_file)
        print(f"Drawing net to {arguments.output_image_file}")
        phase = PHASES[arguments.phase]
        draw_net_to_file(net, arguments.output_image_file, arguments.rankdir, phase, arguments.display_lrm)
    except caffe.CaffeError as error:
        raise ToolError(" ".join(str(error).split())) from error


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("draw_net.py", lambda: draw(arguments)))

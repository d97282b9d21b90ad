"""Draw validation accuracy and training loss of one or several trainings from their Caffe logs.

python scripts/plot_curves.py train.log -o curves.png
python scripts/plot_curves.py caffenet.log vgg16.log --labels CaffeNet VGG-16 -o curves.pdf
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import ToolError, exit_status
from oxford102.log_parser import read_log
from oxford102.plots import draw_curves, save_figure


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "logs", nargs="+", type=Path, metavar="LOG", help="what `caffe train` wrote to its standard error"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("curves.png"), help=".png, .svg or .pdf file (curves.png)"
    )
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="one label a log (the files' names)")
    parser.add_argument("--output-name", metavar="NAME", help="test output to draw (the one named like an accuracy)")
    return parser.parse_args()


def plot(arguments: argparse.Namespace) -> None:
    """Read the logs, draw them, write the picture and print its name."""
    labels = arguments.labels or [path.stem for path in arguments.logs]
    if len(labels) != len(arguments.logs):
        raise ToolError(f"{len(labels)} labels for {len(arguments.logs)} logs; give one label a log after --labels")
    if len(set(labels)) != len(labels):
        raise ToolError(f"the labels {', '.join(labels)} are not all different; give others with --labels")
    runs = dict(zip(labels, map(read_log, arguments.logs), strict=True))
    save_figure(draw_curves(runs, arguments.output_name), arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("plot_curves.py", lambda: plot(arguments)))

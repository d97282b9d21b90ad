"""Draw one of Caffe's eight charts of training logs, by its number."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import ToolError, exit_status
from oxford102.log_parser import read_log
from oxford102.plots import CHARTS, draw_chart, save_figure

EPILOG = (
    "chart types:\n"
    + "\n".join(f"  {number}: {title} against {along}" for number, (title, along) in enumerate(CHARTS))
    + """

examples:
  python scripts/plot_training_log.py 0 accuracy.png training.log
  python scripts/plot_training_log.py 6 loss.png scratch.log frozen.log finetuned.log

plot_curves.py draws accuracy and loss side by side.
"""
)


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    what = "Draw one of Caffe's charts of training logs: test accuracy, test loss, learning rate or training loss."
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=what, epilog=EPILOG, formatter_class=raw)
    parser.add_argument("type", type=int, choices=range(len(CHARTS)), metavar="TYPE", help="0 to 7, see below")
    parser.add_argument("output", type=Path, metavar="PNG", help="the picture: .png, or .svg or .pdf")
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="what `caffe train` wrote, a curve each")
    return parser.parse_args()


def plot(arguments: argparse.Namespace) -> None:
    """Read the logs, draw the chart, write it and print its name."""
    runs = {path.name.removesuffix(".log"): read_log(path) for path in arguments.logs}
    if len(runs) < len(arguments.logs):  # files of one name in several folders
        runs = {str(path): read_log(path) for path in arguments.logs}
    if len(runs) < len(arguments.logs):
        raise ToolError("the same log is given twice; give each once")
    save_figure(draw_chart(arguments.type, runs), arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("plot_training_log.py", lambda: plot(arguments)))

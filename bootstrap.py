"""Fetch the Oxford-102 flowers and the pretrained weights, and make them ready: `python bootstrap.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from oxford102.catalog import DEMO, MODELS, OXFORD102, TORCHVISION, all_assets
from oxford102.download import Ways
from oxford102.errors import exit_status
from oxford102.prepare import Job, prepare

EXAMPLES = """examples:
  python bootstrap.py                         the three Oxford files and the weights, into data/ and models/
  python bootstrap.py --demo                  a small set of drawn flowers, into data/demo; needs no network
  python bootstrap.py --source ~/Downloads    take the three Oxford files from a folder
  python bootstrap.py --mirror http://nas/ml  ask there first for every file
  python bootstrap.py --models CaffeNet       the weights of one model only
  python bootstrap.py --torchvision resnet50  torchvision's weights, to be converted, and no others
  python bootstrap.py --no-models --lmdb      no weights; databases beside the lists

An interrupted download goes on where it stopped. Downloads are kept in $OXFORD102_CACHE (~/.cache/oxford102) for all
checkouts; a file put by hand there, or at its place in data/ or models/, is verified and taken.
"""
MODELS_FOLDER = Path(__file__).resolve().parent / "models"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    what = "Fetch the Oxford-102 flowers and the pretrained weights, and make them ready for Caffe."
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser("bootstrap.py", description=what, epilog=EXAMPLES, formatter_class=raw)
    files, weights = cli.add_mutually_exclusive_group(), cli.add_mutually_exclusive_group()
    files.add_argument("--demo", action="store_true", help="draw and use the demo set; no weights by default")
    files.add_argument("--source", metavar="DIR_OR_URL", help="take the three Oxford files from there")
    cli.add_argument("--mirror", metavar="URL", type=web_address, help="a place to ask first, for every file")
    cli.add_argument("--offline", action="store_true", help="use what is here; name all that is missing")
    cli.add_argument("--unverified", action="store_true", help="take files whose hash differs, with a warning")
    weights.add_argument("--models", nargs="+", choices=MODELS, help="whose weights to fetch (default: all)")
    weights.add_argument("--no-models", dest="models", action="store_const", const=[], help="fetch no weights")
    cli.add_argument("--torchvision", nargs="+", choices=TORCHVISION, default=[], help="its weights, to be converted")
    cli.add_argument("--data", metavar="DIR", type=Path, help="where to put it (data; the demo: data/demo)")
    cli.add_argument("--lmdb", action="store_true", help="also write an LMDB of each list, at 256x256")
    cli.add_argument(
        "--list", action="store_true", help="print every file's size, hash, licence and places; do nothing"
    )
    return cli


def web_address(text: str) -> str:
    """A URL that starts with http:// or https://."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"'{text}' is not a URL: expected http://… or https://…")
    return text


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if args.list:
        return print(*all_assets(), sep="\n\n")
    here = [] if args.demo or args.torchvision else [name for name in MODELS if (MODELS_FOLDER / name).is_dir()]
    weights = [MODELS[name] for name in (here if args.models is None else args.models)]
    data = args.data or Path("data/demo" if args.demo else "data")
    ways = Ways(args.mirror, args.offline, args.unverified)
    dataset = DEMO if args.demo else OXFORD102
    prepare(Job(dataset, data, args.source, ways, args.lmdb, weights, args.torchvision, MODELS_FOLDER))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and prepare the data: 0, 1 after an error, 2 for usage, 130 after Ctrl-C."""
    args = parser().parse_args(argv)
    return exit_status("bootstrap.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())

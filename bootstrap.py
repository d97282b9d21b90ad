"""Fetch the Oxford-102 flowers and the pretrained weights, and make them ready for Caffe.

  python bootstrap.py                         the three Oxford files and the weights, into data/ and models/
  python bootstrap.py --demo                  a small set of drawn flowers, into data/demo; needs no network
  python bootstrap.py --source ~/Downloads    take the three Oxford files from a folder
  python bootstrap.py --mirror http://nas/ml  ask there first for every file
  python bootstrap.py --torchvision resnet50  torchvision's weights, to be converted, and no others
  python bootstrap.py --no-models --lmdb      no weights; databases beside the lists
  python bootstrap.py --no-data --models VGG16  one model's weights, nothing else

An interrupted download goes on where it stopped. Downloads are kept in $OXFORD102_CACHE (~/.cache/oxford102) for all
checkouts; a file put by hand there, or at its place in data/ or models/, is verified and taken.
"""

import argparse
import sys
from pathlib import Path

from oxford102.arguments import web_address
from oxford102.catalog import DEMO, MODELS, OXFORD102, TORCHVISION, all_assets
from oxford102.download import Ways
from oxford102.errors import exit_status
from oxford102.prepare import Job, prepare, prepare_weights

FOLDER = Path(__file__).resolve().parent / "models"


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    files, weights = cli.add_mutually_exclusive_group(), cli.add_mutually_exclusive_group()
    files.add_argument("--demo", action="store_true", help="draw and use the demo set; no weights by default")
    files.add_argument("--source", metavar="DIR_OR_URL", help="take the three Oxford files from there")
    files.add_argument("--no-data", action="store_true", help="bring weights alone: no pictures, no lists")
    cli.add_argument("--mirror", metavar="URL", type=web_address, help="a place to ask first, for every file")
    cli.add_argument("--offline", action="store_true", help="use what is here; name all that is missing")
    cli.add_argument("--unverified", action="store_true", help="take files whose hash differs, with a warning")
    weights.add_argument("--models", nargs="+", choices=MODELS, help="whose weights to fetch (default: all)")
    weights.add_argument("--no-models", dest="models", action="store_const", const=[], help="fetch no weights")
    cli.add_argument("--torchvision", nargs="+", choices=TORCHVISION, default=[], help="its weights, to be converted")
    cli.add_argument("--data", metavar="DIR", type=Path, help="where to put it (data; the demo: data/demo)")
    cli.add_argument("--lmdb", action="store_true", help="also write an LMDB of each list, at 256x256")
    cli.add_argument("--list", action="store_true", help="print all files, their hashes and places; do nothing")
    return cli.parse_args()


def run(args: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if args.list:
        return print(*all_assets(), sep="\n\n")
    here = [] if args.demo or args.torchvision else [name for name in MODELS if (FOLDER / name).is_dir()]
    weights = [MODELS[name] for name in (here if args.models is None else args.models)]
    data = args.data or Path("data/demo" if args.demo else "data")
    dataset, ways = DEMO if args.demo else OXFORD102, Ways(args.mirror, args.offline, args.unverified)
    job = Job(dataset, data, args.source, ways, args.lmdb, weights, args.torchvision, FOLDER)
    (prepare_weights if args.no_data else prepare)(job)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("bootstrap.py", lambda: run(arguments)))

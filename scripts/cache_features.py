"""Compute the frozen part of a model once for all crops of its pictures, and write a small net that trains the rest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.arguments import whole
from oxford102.errors import exit_status
from oxford102.model_folder import find_model

MODELS = Path(__file__).resolve().parents[1] / "models"
EPILOG = """MODEL is the name of a folder in models/, or any folder with solver.prototxt and the net that it names.

Layers whose lr_mult is 0 give the same features at every iteration. OUT gets them in an LMDB (or HDF5 files), and
train_val.prototxt, solver.prototxt and README.md to train the layers above BLOB with the model's own schedule. Layers
keep their names, so what they learn goes into the model's test and deploy prototxts: README.md tells how.

Training sees ten crops, the corners, the centre and these mirrored, where the model takes them at random places.
Dropout below BLOB is off; above it, it works as ever.

examples:
  python scripts/cache_features.py CaffeNet-frozen
  python scripts/cache_features.py CaffeNet-frozen --upto conv5 --crops centre --hdf5 -o /scratch/conv5
  python scripts/cache_features.py SqueezeNet-frozen -gpu 0
"""


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=raw)
    cli.add_argument("model", metavar="MODEL", help="which model")
    cli.add_argument("--upto", metavar="BLOB", help="where to cut (the last blob before a layer learns)")
    cli.add_argument("--weights", type=Path, metavar="FILE", help="weights of the frozen part (solver.prototxt's)")
    cli.add_argument("-o", "--output", type=Path, metavar="OUT", help="the folder to write (MODEL-cached)")
    cli.add_argument("--crops", choices=("five", "centre"), default="five", help="corners and centre, or centre (five)")
    cli.add_argument("--no-mirror", action="store_true", help="leave the mirrored crops out")
    cli.add_argument("--hdf5", action="store_true", help="store HDF5 files, not an LMDB")
    cli.add_argument("--seed", type=whole, default=0, metavar="N", help="decides the order of the crops (0)")
    cli.add_argument("--gpu", "-gpu", type=whole, metavar="N", help="compute on this device, not on the CPU")
    cli.add_argument("--force", action="store_true", help="replace what was cached in OUT; snapshots stay")
    return cli.parse_args()


def work(args: argparse.Namespace) -> None:
    """Find the model and cache its features."""
    from oxford102.feature_cache import Job, cache_features  # here, so that --help does not wait for the runtime

    model = find_model(args.model, MODELS)
    output = args.output or model.with_name(f"{model.name}-cached")
    how = (args.crops == "five", not args.no_mirror, args.hdf5, args.seed, args.gpu, args.force)
    cache_features(Job(model, output, args.upto, args.weights, *how))


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("cache_features.py", lambda: work(arguments)))

"""Write the prototxt files of models/ from the short definitions in oxford102/model_nets.py and model_files.py.

    python scripts/make_models.py
    python scripts/make_models.py -o /tmp/models        elsewhere, to compare

Change a net or a recipe there, run this, and every file that it is in agrees again. models/Demo is not among them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from oxford102.errors import exit_status
from oxford102.files import write_whole

MODELS = Path(__file__).resolve().parents[1] / "models"


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=MODELS, metavar="DIR", help="folder (models)")
    return parser.parse_args()


def make(folder: Path) -> None:
    """Write what differs, and say what that was."""
    from oxford102.model_files import model_files  # here, so that --help does not wait for the runtime

    for name, text in model_files():
        path = folder / name
        if path.is_file() and path.read_text() == text:
            continue
        snapshots = path.parent / "snapshots"  # BVLC Caffe makes none
        snapshots.mkdir(parents=True, exist_ok=True)
        (snapshots / ".gitkeep").touch()
        write_whole(path, text.encode())
        print(path)


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(exit_status("make_models.py", lambda: make(arguments.output)))

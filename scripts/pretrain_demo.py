"""Make the weights that the demo fine-tunes: models/Demo/pretrained-weights.caffemodel.

    python scripts/pretrain_demo.py

Draws 5,280 pictures of 120 other species (40 genera, three siblings each) into data/demo-pretraining, and
trains models/Demo/pretrain_train_val.prototxt on them: some five minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from oxford102.databases import find_tool
from oxford102.demo_flowers import draw_many
from oxford102.demo_petals import MARKS, Centre, Ring, Species
from oxford102.errors import ToolError, exit_status
from oxford102.files import write_whole
from oxford102.lists import Entry, write_list
from oxford102.splits import picture_name

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "Demo"
GENERA, SIBLINGS = 40, 3
PICTURES, HELD_BACK = 44, 4  # of each species; the latter for validation


def random_genus(rng: np.random.Generator) -> Species:
    """A flower of any shape and any colour but a leaf's."""
    hue, value = float(rng.uniform(-0.55, 0.22)), float(rng.uniform(0.5, 1))
    ink = (rng.uniform(0.6, 0.95), rng.uniform(0.15, 0.5)) if value > 0.7 else (0.15, 1.0)
    centre = Centre(
        radius=rng.uniform(0.07, 0.28),
        colour=(rng.uniform(0.05, 0.25), 0.7, rng.uniform(0.3, 0.95)),
        florets=rng.random() < 0.7,
        stamens=int(rng.choice((0, 0, 5, 9, 20))),
        reach=rng.uniform(0.25, 0.5),
    )
    return Species(
        rings=_random_rings(rng),
        centre=centre,
        body=(hue, rng.uniform(0.1, 0.9), value),
        throat=(hue + rng.normal(0, 0.08), rng.uniform(0.2, 0.9), rng.uniform(0.4, 1)),
        ink=(hue + rng.normal(0, 0.12), *ink),
        belly=rng.uniform(0.4, 0.72),
        point=rng.uniform(0.32, 0.95),
        notch=rng.choice((0, 0, 0.1)),
        ruffle=rng.choice((0, 0, 0.05)),
    )


def _random_rings(rng: np.random.Generator) -> tuple[Ring, ...]:
    """One to four rings, each shorter and steeper than the one around it."""
    petals = int(rng.choice((3, 4, 5, 6, 8, 11, 14, 18)))
    rings = [Ring(petals, 1, min(rng.uniform(3.2, 6.5) / petals, 1.1), rng.uniform(0, 30))]
    for _ in range(rng.integers(0, 4)):
        outer = rings[-1]
        petals = max(3, outer.petals - int(rng.integers(0, 3)))
        length, rise = outer.length * rng.uniform(0.68, 0.95), outer.rise + rng.uniform(8, 20)
        rings.append(Ring(petals, length, outer.width, rise))
    return tuple(rings)


def species(seed: int) -> list[Species]:
    """The species of the pretraining set: siblings differ in the pattern of their petals."""
    rng = np.random.default_rng(seed)
    genera = [random_genus(rng) for _ in range(GENERA)]
    return [replace(genus, mark=mark) for genus in genera for mark in rng.permutation(MARKS)[:SIBLINGS]]


def draw_set(folder: Path, seed: int) -> None:
    """Draw the pictures, and list them in train.txt and valid.txt."""
    kinds = species(seed)
    labels = np.repeat(np.arange(len(kinds)), PICTURES)
    folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[Entry]] = {"train": [], "valid": []}
    for number, (content, label) in enumerate(zip(draw_many(kinds, labels, seed), labels, strict=True)):
        path = folder / picture_name(number + 1)
        path.write_bytes(content)
        lists["valid" if number % PICTURES < HELD_BACK else "train"].append(Entry(path, label))
    for name, entries in lists.items():
        write_list(folder / f"{name}.txt", entries)


def pretrain(seed: int) -> None:
    """Draw, train, and put the weights in their place."""
    draw_set(ROOT / "data" / "demo-pretraining", seed)
    command = [find_tool("caffe"), "train", "-solver", "pretrain_solver.prototxt"]
    if subprocess.run(command, cwd=MODEL).returncode:
        raise ToolError("caffe train failed; its last line says why")
    snapshots = (MODEL / "snapshots").glob("pretraining_iter_*.caffemodel")
    newest = max(snapshots, key=lambda path: path.stat().st_mtime)
    write_whole(MODEL / "pretrained-weights.caffemodel", newest.read_bytes())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the species and their pictures (1)")
    arguments = parser.parse_args()
    sys.exit(exit_status("pretrain_demo.py", lambda: pretrain(arguments.seed)))

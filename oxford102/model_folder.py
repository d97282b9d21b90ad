"""Model folders, those of models/ and anybody's: found by name, and the command in the comment of a solver file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


def find_model(name: str, models: Path) -> Path:
    """The folder of `models` that has this name, else the one at this path; where there is none, as in `models`.

    `.` and the like are told by their real names, which name what is made from them.
    """
    ours, theirs = models / name, Path(name)
    if (ours / "solver.prototxt").is_file() or not theirs.is_dir():
        return ours
    return theirs if theirs.name not in ("", "..") else theirs.resolve()


def those_beside(folder: Path, pattern: str = "*") -> str:
    """The end of a message about a folder that is no model: those beside it that are; "" where there are none."""
    known = ", ".join(sorted(path.parent.name for path in folder.parent.glob(f"{pattern}/solver.prototxt")))
    return f"; there are {known}" if known else ""


@dataclass(frozen=True)
class Command:
    """What the comment of a solver file says: its weights, as a path, and its GPUs."""

    weights: Path | None
    gpu: str

    @property
    def gpus(self) -> int:
        """How many GPUs."""
        return len(self.gpu.split(",")) if self.gpu else 1


def read_command(path: Path) -> Command:
    """The weights and GPUs in the comment of a solver file; a pretrained-weights.caffemodel beside it else."""
    comment = "\n".join(re.findall(r"#.*", path.read_text("utf-8")))
    weights, gpu = (re.search(rf"-{flag}[ =]('[^']*'|\S+)", comment) for flag in ("weights", "gpu"))
    if weights:
        named = weights[1].strip("'")
        return Command(Path(os.path.normpath(path.parent / named)), gpu[1] if gpu else "")
    beside = path.parent / "pretrained-weights.caffemodel"
    told = "caffe train" in comment  # a command without weights trains from scratch
    return Command(beside if beside.is_file() and not told else None, gpu[1] if gpu else "")

"""The official split into train, valid and test, and the order of its lists."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oxford102.errors import ToolError
from oxford102.files import mat_row, read_mat

SEED = 777
# The variables of setid.mat, in the order in which the lists are shuffled.
VARIABLES = {"train": "trnid", "test": "tstid", "valid": "valid"}

Splits = dict[str, NDArray[np.int64]]


def read_splits(path: Path, sizes: Mapping[str, int], images: int) -> Splits:
    """The 1-based picture numbers of train, valid and test, in the file's order.

    Raises ToolError unless each has its size in `sizes`, lies in 1..`images`, and no picture is named twice.
    """
    variables = read_mat(path)
    splits = {name: mat_row(path, variables, variable) for name, variable in VARIABLES.items()}
    for name, numbers in splits.items():
        where = f"{path}: '{VARIABLES[name]}' ({name})"
        if len(numbers) != sizes[name]:
            raise ToolError(f"{where} names {len(numbers):,} pictures, expected {sizes[name]:,}; get the official file")
        outside = numbers[(numbers < 1) | (numbers > images)]
        if len(outside):
            raise ToolError(f"{where} names picture {outside[0]}, expected 1 to {images:,}; get the official file")
        if len(np.unique(numbers)) != len(numbers):
            raise ToolError(f"{where} names a picture twice; get the official file")
    for one, other in combinations(splits, 2):
        common = np.intersect1d(splits[one], splits[other])
        if len(common):
            raise ToolError(f"{path}: picture {common[0]} is in {one} and in {other}; get the official file")
    return splits


def shuffled(splits: Splits) -> Splits:
    """The splits in the order of the lists: one legacy generator runs through train, test and valid."""
    generator = np.random.RandomState(SEED)
    return {name: generator.permutation(splits[name]) for name in VARIABLES}


def picture_name(number: int) -> str:
    """The file name of a picture: `image_00001.jpg`."""
    return f"image_{number:05d}.jpg"

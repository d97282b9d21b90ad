"""Files and folders that appear whole or not at all, hashes, and the rows of numbers in MATLAB files."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from oxford102.errors import ToolError


def part_of(path: Path) -> Path:
    """Where a file or folder grows until it is whole: beside its place, with `.part` added to the name."""
    return path.with_name(path.name + ".part")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, to be filled and put there; what is left of it at the end is removed."""
    part = part_of(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_folder(path: Path) -> None:
    """Raise ToolError where there is no folder for the file `path`."""
    if not path.parent.is_dir():
        raise ToolError(f"{path}: there is no folder {path.parent}; make it first")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or all of the new one; raises ToolError without its folder.

    What a link points to is written, and a device as it is.
    """
    check_folder(path)
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_mat(path: Path) -> dict[str, object]:
    """The variables of a MATLAB file; raises ToolError where it is none."""
    content = path.read_bytes()
    try:
        variables = loadmat(io.BytesIO(content))
    except Exception as error:  # scipy raises a dozen kinds on a file that is something else
        raise ToolError(f"{path} is not a MATLAB file ({error}); delete it and get the official one") from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def mat_row(path: Path, variables: dict[str, object], name: str) -> NDArray[np.int64]:
    """The whole numbers of one variable of the MATLAB file `path`, as one row."""
    if name not in variables:
        raise ToolError(
            f"{path} has no variable '{name}', only {', '.join(variables) or 'none'}; get the official file"
        )
    row = np.ravel(np.asarray(variables[name]))
    if row.dtype.kind not in "uif" or not (np.abs(row) < 2**53).all() or not np.array_equal(row, np.rint(row)):
        raise ToolError(f"{path}: '{name}' holds something else than whole numbers; get the official file")
    return row.astype(np.int64)

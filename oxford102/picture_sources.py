"""Which pictures there are and what they show: from a folder with a folder per class, or from a table."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from oxford102.errors import ToolError
from oxford102.inspect_pictures import Finding, Picture

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_HEADER = ("path", "file", "filename", "image", "picture")


class Found(NamedTuple):
    """The pictures, what is wrong with those that have no class, and the files that are none by their suffix."""

    pictures: list[Picture]
    findings: list[Finding]
    others: Counter[str]  # by suffix


def find(source: Path) -> Found:
    """All pictures of a folder of class folders, or of a .csv file of `path,label`; see `in_folder`, `in_table`."""
    if source.is_dir():
        return in_folder(source)
    if source.suffix.lower() != ".csv":
        what = "is no folder, and no .csv file" if source.exists() else "does not exist"
        raise ToolError(f"{source} {what}; give a folder with a folder per class, or a CSV of path,label")
    return in_table(source)


def in_folder(folder: Path) -> Found:
    """Pictures of FOLDER/class/…, at any depth and through links, in the order of their names.

    Hidden files and folders do not count. Raises ToolError without class folders, and where they are splits.
    """
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
    if not classes:
        raise ToolError(f"{folder} holds no folders; expected one per class, or give a CSV of path,label")
    if {name.lower() for name in classes} <= _PARTS:
        raise ToolError(
            f"{folder} holds {', '.join(classes)}: splits, not classes; give a folder with a folder per class "
            "(the splits are made here), or name all pictures in a CSV of path,label"
        )
    root = Path(os.path.abspath(folder))  # noqa: PTH100  (links stay as they are named)
    paths = [path for name in ("", *classes) for path in _files(root / name, deep=name != "")]
    others = Counter(path.suffix.lower() or path.name for path in paths if path.suffix.lower() not in SUFFIXES)
    pictures, findings = [], []
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            continue
        name = path.relative_to(root)
        if len(name.parts) > 1:
            pictures.append(Picture(path, str(name), name.parts[0]))
        else:
            findings.append(Finding(Picture(path, str(name), ""), "no class", "lies beside the class folders"))
    return Found(pictures, findings, others)


def _files(top: Path, deep: bool) -> Iterator[Path]:
    """The files of a folder, sorted; `deep` goes into its folders, into each only once whatever the links."""

    def refuse(error: OSError) -> None:
        raise error

    seen = set()
    for here, folders, files in os.walk(top, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if deep and name[0] != ".")
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(here, name) for name in sorted(files) if name[0] != ".")


def in_table(table: Path) -> Found:
    """Pictures of a CSV file, in its order: two columns, or those headed path (or file, image …) and label.

    Paths are relative to the table's folder; labels are names or numbers. Raises ToolError for a line that has
    none. Pictures that are not there are findings later, when they are read.
    """
    with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
        except csv.Error as error:
            raise ToolError(f"{table} is not a CSV file: {error}") from error
    if not rows:
        raise ToolError(f"{table} is empty; expected lines path,label")
    path_at, label_at, width = _columns(table, rows[0][1])
    pictures = []
    for number, row in rows if width == 0 else rows[1:]:
        if len(row) != (width or 2) or not row[path_at].strip() or not row[label_at].strip():
            raise ToolError(f"{table}, row {number}: expected path,label, got '{','.join(row)}'")
        name, label = row[path_at].strip(), row[label_at].strip()
        pictures.append(Picture(Path(os.path.abspath(table.parent / name)), name, label))  # noqa: PTH100
    return Found(pictures, [], Counter())


def _columns(table: Path, first: Sequence[str]) -> tuple[int, int, int]:
    """Where path and label stand and how many columns there are; 0, 1 and 0 for a table without a header."""
    header = [cell.strip().lower() for cell in first]
    path_at = next((header.index(word) for word in _HEADER if word in header), None)
    if path_at is None:
        return 0, 1, 0
    if "label" not in header:
        raise ToolError(f"{table}: the header '{','.join(first)}' has no column 'label'")
    return path_at, header.index("label"), len(header)

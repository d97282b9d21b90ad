"""Lists of pictures as Caffe's ImageData layer reads them, and the file of their classes' names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from oxford102.errors import ToolError
from oxford102.files import write_whole

SPLITS = ("train", "valid", "test")
"""The lists of a data folder are train.txt, valid.txt and test.txt."""


class Entry(NamedTuple):
    """One line of a list: a picture and its 0-based label."""

    path: Path
    label: int


def read_list(path: Path) -> list[Entry]:
    """The lines `path label` of a list; the label follows the last blank. Raises ToolError where one is otherwise."""
    if not path.is_file():
        raise ToolError(f"{path}: no such list; expected a file with lines 'path label'")
    lines = path.read_text("utf-8-sig", errors="surrogateescape").split("\n")
    entries = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise ToolError(f"{path}: the list is empty; expected lines 'path label'")
    return entries


def _entry(path: Path, number: int, line: str) -> Entry:
    picture, blank, label = line.rstrip("\r").rpartition(" ")
    if not blank or not label.isdecimal():
        raise ToolError(f"{path}, line {number}: expected 'path label' with a number above -1, got '{line.strip()}'")
    return Entry(Path(picture), int(label))


def list_text(entries: Iterable[Entry]) -> str:
    """The lines `path label` of a list."""
    return "".join(f"{entry.path} {entry.label}\n" for entry in entries)


def write_list(path: Path, entries: Iterable[Entry]) -> None:
    """Write a list, whole or not at all."""
    write_whole(path, os.fsencode(list_text(entries)))


def read_names(path: Path) -> list[str]:
    """The names of the classes, one a line in the order of the labels; raises ToolError without any."""
    if not path.is_file():
        raise ToolError(f"{path}: no such file; expected the names of the classes, one a line")
    lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ToolError(f"{path} is empty; expected the names of the classes, one a line")
    return names

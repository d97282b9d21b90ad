"""LMDBs of the lists, written by Caffe's own convert_imageset."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import lmdb

from oxford102.errors import ToolError
from oxford102.files import part_of
from oxford102.mean import SIDE


def find_tool(name: str) -> str:
    """The command beside this Python, else on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise ToolError(f"the command {name} is not found; run make setup, or put Caffe's build/tools on PATH")
    return found


def write_database(listing: Path, database: Path) -> None:
    """Write the pictures of a list of absolute paths as an LMDB of 256x256 Datums, in the list's order.

    Raises ToolError with the tool's last line where it fails or leaves a picture out.
    """
    part = part_of(database)
    shutil.rmtree(part, ignore_errors=True)
    size = [f"-resize_height={SIDE}", f"-resize_width={SIDE}"]
    command = [find_tool("convert_imageset"), *size, "/", str(listing), str(part)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    last = (done.stdout.strip().splitlines() or ["it printed nothing"])[-1]
    if done.returncode:
        raise ToolError(f"{database}: convert_imageset ended with status {done.returncode}: {last}")
    with lmdb.open(str(part), readonly=True, lock=False) as environment:
        entries = environment.stat()["entries"]
    wanted = listing.read_bytes().count(b"\n")
    if entries != wanted:
        raise ToolError(f"{database}: convert_imageset wrote {entries:,} of {wanted:,} pictures: {last}")
    if database.exists():
        shutil.rmtree(database)
    part.replace(database)
    print(f"{database}: {entries:,} pictures")

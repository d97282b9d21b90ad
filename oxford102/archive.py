"""Unpack the archive of pictures: beside its place first, never outside of it, all pictures or none."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from tqdm import tqdm

from oxford102.errors import ToolError
from oxford102.files import new_folder
from oxford102.splits import picture_name

SLACK = 1 << 16  # bytes a picture that an archive may grow by, beside twice its size
DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


def unpack_pictures(archive: Path, folder: Path, images: int) -> None:
    """Put the archive's jpg/image_00001.jpg … in `folder`, which is replaced as a whole.

    Raises ToolError where the archive is damaged, does not hold exactly the pictures 1..`images`, or has a
    member that is neither a file nor a folder below the place it is unpacked to.
    """
    with new_folder(folder) as part:
        _extract(archive, part, images)
        _check_names(archive, part / "jpg", images)
        if folder.exists():
            shutil.rmtree(folder)
        (part / "jpg").replace(folder)


def is_complete(folder: Path, images: int) -> bool:
    """Whether the folder holds the pictures 1..`images` and nothing else."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} == _names(images)


def _names(images: int) -> set[str]:
    return {picture_name(number) for number in range(1, images + 1)}


def _extract(archive: Path, target: Path, images: int) -> None:
    try:
        with gzip.open(archive) as file:
            stream = _Bounded(archive, cast(BinaryIO, file), images)
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as tar:
                # Patched Pythons only; `_check_member` is as strict about what this archive may hold.
                tar.extraction_filter = getattr(tarfile, "data_filter", None)
                for member in tqdm(tar, desc="unpacking", unit=" files", disable=None):
                    _check_member(archive, member)
                    tar.extract(member, target)
            while stream.read(1 << 20):  # to its very end, where gzip compares the sum
                pass
    except DAMAGED as error:
        raise ToolError(f"{archive} is damaged or cut short ({error}); delete it and get it again") from error
    except OSError as error:
        raise ToolError(f"{target}: {error.strerror or error}, while unpacking {archive.name}") from error


class _Bounded:
    """Reads an archive, up to what photographs can become: they hardly shrink when they are packed."""

    def __init__(self, archive: Path, file: BinaryIO, images: int) -> None:
        self.archive, self.file = archive, file
        self.left = 2 * archive.stat().st_size + SLACK * images

    def read(self, size: int) -> bytes:
        block = self.file.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise ToolError(f"{self.archive} unpacks to far more than it should; get the official archive")
        return block


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ToolError(f"{archive}: '{member.name}' would land outside its folder; get the official archive")
    if not (member.isfile() or member.isdir()):
        raise ToolError(f"{archive}: '{member.name}' is a link or a device; get the official archive")


def _check_names(archive: Path, folder: Path, images: int) -> None:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    expected = _names(images)
    if found == expected:
        return
    missing, strange = sorted(expected - found), sorted(found - expected)
    what = f"jpg/{missing[0]} is missing" if missing else f"jpg/{strange[0]} does not belong there"
    raise ToolError(
        f"{archive} holds {len(found & expected):,} of {images:,} pictures and {len(strange):,} other files: "
        f"{what}; get the official archive"
    )

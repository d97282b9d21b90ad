"""The folder of verified downloads that all checkouts of a user share, and how its files get into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from oxford102.errors import ToolError


def cache_folder() -> Path:
    """`$OXFORD102_CACHE`, else `oxford102` in the XDG cache folder (`~/.cache`); it need not exist yet."""
    if chosen := os.environ.get("OXFORD102_CACHE"):
        return Path(chosen).expanduser().absolute()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():  # the specification ignores any other
        return xdg / "oxford102"
    try:
        return Path.home() / ".cache" / "oxford102"
    except RuntimeError as error:
        raise ToolError("there is no home folder for the cache; set OXFORD102_CACHE to a folder") from error


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`, alone among all processes and threads; calls `waiting` where that takes a while.

    The system drops the lock of a killed process; the file stays, empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def place(stored: Path, target: Path) -> None:
    """Make a stored file appear at `target`, replacing what is there: a hard link where the filesystem allows it,
    a symbolic link to another filesystem, a copy where there are no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stored, part = stored.resolve(), target.with_name(f"{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        _link(stored, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)  # a rename onto another link of the same file leaves both


def _link(stored: Path, part: Path) -> None:
    for link in (os.link, os.symlink):
        try:
            return link(stored, part)
        except OSError:
            continue
    shutil.copyfile(stored, part)


@dataclass(frozen=True)
class Need:
    """Room that a file or folder will take: `size` bytes on the filesystem of `folder`."""

    what: str
    folder: Path
    size: int


def check_room(needs: Iterable[Need], cure: str = "choose other disks with --data and OXFORD102_CACHE") -> None:
    """Raise ToolError where a filesystem has less room than is needed on it; `cure` is what helps beside more room."""
    disks: dict[int, list[Need]] = {}
    for need in needs:
        disks.setdefault(_existing(need.folder).stat().st_dev, []).append(need)
    for wanted in disks.values():
        folder = _existing(wanted[0].folder)
        free, total = shutil.disk_usage(folder).free, sum(need.size for need in wanted)
        if total > free:
            parts = ", ".join(f"{need.what} {_megabytes(need.size)}" for need in wanted if need.size >= 500_000)
            raise ToolError(
                f"{folder}: {_megabytes(free)} are free, {_megabytes(total)} are needed ({parts}); make room, or {cure}"
            )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"

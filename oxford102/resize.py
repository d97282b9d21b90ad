"""Pictures resized so that their shorter side fits, and cropped to a square at the centre."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from oxford102.errors import ToolError
from oxford102.files import write_whole

Resize = Callable[[bytes, str, int], bytes]  # a picture's file, the suffix of its name, side -> file


def by_opencv(content: bytes, suffix: str, side: int) -> bytes:
    """Bilinear, by OpenCV: the shorter side becomes `side`, the longer is rounded down, and so is the crop's place."""
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if picture is None:
        raise ValueError("no picture that OpenCV can read")
    height, width = picture.shape[:2]
    new_height, new_width = (side * height // width, side) if height > width else (side, side * width // height)
    top, left = (new_height - side) // 2, (new_width - side) // 2
    square = cv2.resize(picture, (new_width, new_height))[top : top + side, left : left + side]
    return cv2.imencode(suffix, square)[1].tobytes()


def by_pil(content: bytes, suffix: str, side: int) -> bytes:
    """Lanczos, by PIL: the square is cropped, then resized; always a JPEG of quality 75, whatever its name."""
    with Image.open(io.BytesIO(content)) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        square = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    square.save(file, "JPEG", quality=75)
    return file.getvalue()


LIBRARIES: dict[str, Resize] = {"opencv": by_opencv, "pil": by_pil}


def read_names(pattern: str, folder: Path) -> list[str]:
    """The pictures of list files, one a line, as paths in `folder`; a label after the name is left out.

    Raises ToolError where no file matches the pattern, a file is empty, or a picture lies outside of `folder`.
    """
    files = sorted(glob(pattern))  # noqa: PTH207  (the pattern may begin with a folder of its own)
    if not files:
        raise ToolError(f"{pattern}: no such list; give with --input a file with one picture's path a line")
    lines = [line.strip() for file in files for line in Path(file).read_text("utf-8", "surrogateescape").splitlines()]
    names = dict.fromkeys(_inside(line, folder) for line in lines if line)
    if not names:
        raise ToolError(f"{pattern}: the list is empty; give one picture's path a line")
    return list(names)


def _inside(line: str, folder: Path) -> str:
    name = re.sub(r"\s+-?\d+$", "", line).removeprefix(f"{folder}/").lstrip("/")
    if ".." in Path(name).parts:
        raise ToolError(f"{line}: lies outside of {folder}; give paths relative to --input_folder")
    return name


def resize_and_crop(names: Sequence[str], source: Path, target: Path, library: str, side: int, threads: int) -> None:
    """Write each picture source/name as a square target/name of `side` pixels; a bad one is told and left out.

    Raises ToolError where the folders are the same or `source` is none, and at the end where pictures were left out.
    """
    if not source.is_dir():
        raise ToolError(f"{source}: no such folder; give with --input_folder the one that holds the pictures")
    if source.resolve() == target.resolve():
        raise ToolError(f"{target} holds the pictures themselves; give another --output_folder")
    resize = LIBRARIES[library]

    def work(name: str) -> str | None:
        try:
            content = resize((source / name).read_bytes(), Path(name).suffix, side)
        except (OSError, ValueError, cv2.error, Image.DecompressionBombError) as error:
            return f"{source / name}: {getattr(error, 'strerror', None) or ' '.join(str(error).split())}"
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(target / name, content)
        return None

    cv2.setNumThreads(0)  # OpenCV would split each picture again
    bad = 0
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for problem in tqdm(pool.map(work, names), total=len(names), unit=" pictures", disable=None):
            if problem:
                bad += 1
                tqdm.write(problem, file=sys.stderr)
    print(f"{len(names) - bad} pictures of {side}x{side} pixels are in {target}")
    if bad:
        raise ToolError(f"{bad} of {len(names)} pictures could not be resized, see above; the others are done")

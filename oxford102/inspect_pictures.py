"""What is wrong with pictures, or odd: each is read, decoded as Caffe will, and compared with the others.

Two pictures are duplicates where they decode to the same pixels; pictures that only look alike are not found.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

FATAL = ("broken", "tiny", "duplicate", "two labels", "misnamed", "no class")
"""What a strict check stops at; the rest is good to know."""
SKIPPED = ("broken", "tiny", "duplicate", "two labels", "no class")
_SAME = {"MPO": "JPEG"}  # a JPEG with a second picture behind it, which telephones write
_ORIENTATION = 0x0112  # the EXIF tag


class Picture(NamedTuple):
    """A picture file, the name that tables give it, and its class."""

    path: Path
    name: str
    label: str


class Finding(NamedTuple):
    """A line of the report: a picture, the problem in a word or two, and the particulars."""

    picture: Picture
    problem: str
    detail: str

    @property
    def skipped(self) -> bool:
        """Whether the picture is left out for it."""
        return self.problem in SKIPPED


class _Look(NamedTuple):
    digest: bytes | None  # of the pixels; None where the picture is left out
    findings: list[Finding]


def inspect(pictures: Sequence[Picture], min_side: int) -> tuple[list[Picture], list[Finding]]:
    """The pictures to keep, in their order, and all that was found about any of them.

    Left out are pictures that do not decode or whose shorter side has less than `min_side` pixels, all but
    the first of equal ones, and every one of equal pictures that have different labels.
    """
    cv2.setNumThreads(0)  # OpenCV would split each picture again
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # PIL's, of large pictures and strange metadata
        looking = pool.map(lambda picture: _look(picture, min_side), pictures)
        looks = list(tqdm(looking, "checking", len(pictures), unit=" pictures", disable=None))
    findings = [finding for look in looks for finding in look.findings]
    repeated = _duplicates(pictures, [look.digest for look in looks])
    good = [number for number, look in enumerate(looks) if look.digest is not None and number not in repeated]
    return [pictures[number] for number in good], [*findings, *repeated.values()]


def _look(picture: Picture, min_side: int) -> _Look:
    """Read and decode one picture."""
    try:
        content = picture.path.read_bytes()
        notes = [Finding(picture, *note) for note in _described(content, picture.path.suffix)]
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, ValueError, SyntaxError, cv2.error, Image.DecompressionBombError) as error:
        text = getattr(error, "strerror", None) or " ".join(str(error).split())
        return _Look(None, [Finding(picture, "broken", text)])
    if pixels is None:
        return _Look(None, [*notes, Finding(picture, "broken", "no picture that OpenCV, and so Caffe, can read")])
    height, width = pixels.shape[:2]
    if min(height, width) < min_side:
        return _Look(None, [*notes, Finding(picture, "tiny", f"{width}x{height} pixels, at least {min_side} wanted")])
    return _Look(hashlib.blake2b(pixels.tobytes(), digest_size=16, salt=f"{height}".encode()).digest(), notes)


def _described(content: bytes, suffix: str) -> Iterator[tuple[str, str]]:
    """Problems and particulars by what PIL knows of the file; raises OSError and others where it is broken."""
    if not content:
        raise OSError("the file is empty")
    try:
        picture = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        return  # OpenCV knows some formats that PIL does not
    with picture:
        kind = _SAME.get(picture.format or "", picture.format)
        promised = Image.registered_extensions().get(suffix.lower())
        if promised and _SAME.get(promised, promised) != kind:
            yield "misnamed", f"is a {kind} file, its name says {promised}"
        yield from _colours(picture)
        turn = picture.getexif().get(_ORIENTATION, 1)
        if turn in range(2, 9):
            yield "turned", f"EXIF orientation {turn}: OpenCV sets it upright, Caffe with OpenCV 2 or 3.0 does not"
        if kind != "JPEG" and getattr(picture, "n_frames", 1) > 1:
            yield "several pictures", "an animation or many pages: only the first is used"
        picture.draft(None, (picture.width // 8, picture.height // 8))  # a JPEG decodes faster at an eighth
        picture.load()  # unlike OpenCV, PIL raises where the file ends too soon


def _colours(picture: Image.Image) -> Iterator[tuple[str, str]]:
    tiles = getattr(picture, "tile", None)  # how the pixels are stored, where PIL decodes them itself
    layout = f"{picture.mode} {tiles[0].args}" if tiles else picture.mode
    if re.search(r"^I|;16", layout):
        yield "16 bits", "the upper 8 bits of each value are used"
    if picture.mode == "CMYK":
        yield "CMYK", "made BGR without a colour profile: colours may be off"
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        yield "transparent", "transparent parts show the colour that is stored below, often black"
    elif picture.mode == "P":
        yield "palette", "made BGR by its table of colours"


def _duplicates(pictures: Sequence[Picture], digests: Sequence[bytes | None]) -> dict[int, Finding]:
    """What is left out because others have the same pixels, {number of the picture: finding}."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for number, digest in enumerate(digests):
        if digest is not None:
            groups[digest].append(number)
    findings = {}
    for group in groups.values():
        labels = sorted({pictures[number].label for number in group})
        for number in group:
            picture = pictures[number]
            other = next((pictures[n] for n in group if pictures[n].label != picture.label), pictures[group[0]])
            detail = f"same pixels as {other.name}"
            if len(labels) > 1:
                findings[number] = Finding(
                    picture, "two labels", f"{detail}, but the labels are {' and '.join(labels)}"
                )
            elif number != group[0]:
                findings[number] = Finding(picture, "duplicate", detail)
    return findings

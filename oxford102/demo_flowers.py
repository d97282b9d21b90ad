"""The demo data set: 24 invented flowers, drawn on the spot and packed like the official Oxford-102 files.

Three species to a genus: siblings share their shape and most of their colours, and differ in the pattern of
their petals, so that telling them apart takes more than colour.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.io import savemat

from oxford102.demo_drawing import draw
from oxford102.demo_petals import Centre, Ring, Species
from oxford102.files import write_whole
from oxford102.splits import VARIABLES, picture_name

SEED = 102
_PER_CLASS = {"train": 10, "valid": 5, "test": 15}

_PINWHEEL = Species(
    rings=(Ring(5, 1, 0.85, 15),), centre=Centre(0.12, (0.15, 0.8, 0.9), stamens=9),
    body=(0.93, 0.5, 0.95), throat=(0.95, 0.75, 0.6), ink=(0.93, 0.9, 0.42), belly=0.66, point=0.4, notch=0.13,
)  # fmt: skip
_SUNWHEEL = Species(
    rings=(Ring(15, 1, 0.27, 4), Ring(13, 0.82, 0.3, 18)), centre=Centre(0.27, (0.1, 0.9, 0.6)),
    body=(0.135, 0.75, 1.0), throat=(0.1, 0.85, 0.9), ink=(0.02, 0.85, 0.5), belly=0.6, point=0.5,
)  # fmt: skip
_LANTERN = Species(
    rings=(Ring(3, 1, 0.46, 8), Ring(3, 0.95, 0.5, 22)),
    centre=Centre(0.07, (0.2, 0.5, 0.6), florets=False, stamens=6, reach=0.5, anthers=(0.05, 0.8, 0.4)),
    body=(0.06, 0.82, 0.98), throat=(0.13, 0.8, 0.95), ink=(0.0, 0.85, 0.36), belly=0.48, point=0.8,
)  # fmt: skip
_SILK = Species(
    rings=(Ring(4, 1, 1.1, 18),),
    centre=Centre(0.12, (0.27, 0.5, 0.4), stamens=22, reach=0.27, anthers=(0.7, 0.4, 0.25)),
    body=(0.005, 0.86, 0.9), throat=(0.99, 0.85, 0.55), ink=(0.93, 0.7, 0.16), belly=0.72, point=0.32, ruffle=0.06,
)  # fmt: skip
_POOLSTAR = Species(
    rings=(Ring(11, 1, 0.42, 2), Ring(10, 0.8, 0.44, 26), Ring(8, 0.55, 0.46, 48)),
    centre=Centre(0.15, (0.14, 0.85, 0.9)),
    body=(0.77, 0.3, 0.95), throat=(0.8, 0.2, 1.0), ink=(0.8, 0.8, 0.5), belly=0.5, point=0.72,
)  # fmt: skip
_SKYCUP = Species(
    rings=(Ring(5, 1, 0.95, 30),), centre=Centre(0.13, (0.17, 0.3, 0.95), stamens=5, reach=0.22),
    body=(0.61, 0.62, 0.93), throat=(0.58, 0.25, 1.0), ink=(0.69, 0.9, 0.4), belly=0.64, point=0.45,
)  # fmt: skip
_RUFF = Species(
    rings=(Ring(9, 1, 0.6, 0), Ring(8, 0.8, 0.62, 20), Ring(7, 0.6, 0.64, 38), Ring(5, 0.4, 0.7, 55)),
    centre=Centre(0.09, (0.15, 0.7, 0.8)),
    body=(0.96, 0.8, 0.66), throat=(0.95, 0.85, 0.4), ink=(0.98, 0.12, 1.0), belly=0.68, point=0.42,
)  # fmt: skip
_MOONCROSS = Species(
    rings=(Ring(4, 1, 0.52, 6),), centre=Centre(0.11, (0.24, 0.6, 0.6), stamens=4, reach=0.3),
    body=(0.14, 0.1, 0.99), throat=(0.22, 0.4, 0.85), ink=(0.82, 0.75, 0.5), belly=0.6, point=0.62,
)  # fmt: skip

SPECIES = {
    "striped pinwheel": replace(_PINWHEEL, mark="stripe"),
    "freckled pinwheel": replace(_PINWHEEL, mark="speckles"),
    "laced pinwheel": replace(_PINWHEEL, mark="margin"),
    "plain sunwheel": _SUNWHEEL,
    "brushed sunwheel": replace(_SUNWHEEL, mark="stripe"),
    "ringed sunwheel": replace(_SUNWHEEL, mark="eye"),
    "tiger lantern": replace(_LANTERN, mark="speckles"),
    "ribbon lantern": replace(_LANTERN, mark="stripe"),
    "netted lantern": replace(_LANTERN, mark="veins"),
    "scarlet silk": _SILK,
    "widow's silk": replace(_SILK, mark="eye"),
    "scorched silk": replace(_SILK, mark="margin"),
    "still poolstar": _POOLSTAR,
    "inked poolstar": replace(_POOLSTAR, mark="stripe"),
    "bordered poolstar": replace(_POOLSTAR, mark="margin"),
    "veined skycup": replace(_SKYCUP, mark="veins"),
    "owl-eyed skycup": replace(_SKYCUP, mark="eye"),
    "rainy skycup": replace(_SKYCUP, mark="speckles"),
    "velvet ruff": _RUFF,
    "frosted ruff": replace(_RUFF, mark="margin"),
    "candy ruff": replace(_RUFF, mark="stripe"),
    "dotted mooncross": replace(_MOONCROSS, mark="speckles"),
    "penned mooncross": replace(_MOONCROSS, mark="veins"),
    "crowned mooncross": replace(_MOONCROSS, mark="eye"),
}

CLASS_NAMES = tuple(SPECIES)
CLASSES = len(CLASS_NAMES)
SPLITS = {name: CLASSES * pictures for name, pictures in _PER_CLASS.items()}
IMAGES = sum(SPLITS.values())


def write_archive(folder: Path, seed: int = SEED) -> None:
    """Draw the pictures and write 102flowers.tgz, imagelabels.mat and setid.mat into the folder.

    The same seed gives the same bytes, whatever the number of processor cores.
    """
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.repeat(np.arange(CLASSES), sum(_PER_CLASS.values())))
    pictures = draw_many(list(SPECIES.values()), classes, seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "102flowers.tgz", _tgz(pictures))
    write_whole(folder / "imagelabels.mat", _mat({"labels": classes[None] + 1}))
    write_whole(folder / "setid.mat", _mat(_split(classes, rng)))


def draw_many(species: Sequence[Species], classes: npt.NDArray[np.int64], seed: int) -> list[bytes]:
    """One JPEG for each of ``classes`` [n], indices into the species; drawn on all cores."""
    jobs = [(species[kind], seed, number) for number, kind in enumerate(classes)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(_jpeg, jobs, chunksize=16))


def _jpeg(job: tuple[Species, int, int]) -> bytes:
    species, seed, number = job
    cv2.setNumThreads(1)
    picture = draw(species, np.random.default_rng((seed, number)))
    done, content = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 92))
    if not done:
        raise RuntimeError(f"picture {number} cannot be encoded as JPEG")
    return content.tobytes()


def _split(classes: npt.NDArray[np.int64], rng: np.random.Generator) -> dict[str, npt.NDArray[np.int64]]:
    """The picture numbers of each split, in random order, counted from 1."""
    parts: dict[str, list[int]] = {name: [] for name in _PER_CLASS}
    for kind in range(CLASSES):
        numbers = iter(np.flatnonzero(classes == kind) + 1)
        for name, pictures in _PER_CLASS.items():
            parts[name] += [int(next(numbers)) for _ in range(pictures)]
    return {VARIABLES[name]: rng.permutation(numbers)[None] for name, numbers in parts.items()}


def _tgz(pictures: Sequence[bytes]) -> bytes:
    archive = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=archive, mode="wb", compresslevel=1, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for number, content in enumerate(pictures, 1):
            member = tarfile.TarInfo(f"jpg/{picture_name(number)}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def _mat(variables: dict[str, npt.NDArray[np.int64]]) -> bytes:
    """A MATLAB file; the first 116 bytes are free text, where scipy writes the time of day."""
    stream = io.BytesIO()
    savemat(stream, {name: value.astype(np.uint16) for name, value in variables.items()})
    return b"MATLAB 5.0 MAT-file, demo flowers".ljust(116) + stream.getvalue()[116:]

"""Windows of pictures, as R-CNN trains on them: the file that lists them, how one is cut out, batches of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe.data.cache import Cache
from caffe.data.decode import read_image, resize
from caffe.data.transform import Transform
from caffe.errors import DataError
from caffe.proto.caffe_pb2 import WindowDataParameter

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Windows:
    """What a window file holds.

    Attributes:
        images: path of each picture.
        channels: of the last picture, as Caffe takes it for all.
        foreground, background: int64 [n, 6], rows of image number, label, x1, y1, x2, y2 (corners included).
    """

    images: list[str]
    channels: int
    foreground: np.ndarray
    background: np.ndarray


def read_windows(param: WindowDataParameter) -> Windows:
    """Read ``param.source``: for each picture ``# number``, path, channels, height, width, number of windows, and
    for each window ``class overlap x1 y1 x2 y2``, all parted by white space.

    A window whose overlap is ``fg_threshold`` or more is foreground; below ``bg_threshold`` it is background,
    of class 0; others are left out.

    Raises:
        DataError: the file is missing, empty or cut, or a foreground window has no class above 0.
    """
    try:
        words = Path(param.source).read_text(errors="surrogateescape").split()
    except OSError as problem:
        raise DataError(f"Failed to open window file {param.source}: {problem}") from problem
    if not words:
        raise DataError(f"Window file is empty: {param.source}")
    images: list[str] = []
    rows, at, channels = [], 0, 0
    while at < len(words):
        try:
            path, (channels, _, _, count) = words[at + 2], map(int, words[at + 3 : at + 7])
            own = np.array(words[at + 7 : at + 7 + 6 * count], np.float64).reshape(count, 6)
            if words[at] != "#":
                raise ValueError(f"Check failed: hashtag == # ({words[at]} vs. #)")
        except (ValueError, IndexError) as problem:
            raise DataError(
                f"{param.source}: picture {len(images)} (word {at + 1} of the file) is not '# number path channels "
                f"height width windows' and as many rows 'class overlap x1 y1 x2 y2': {problem}"
            ) from problem
        rows.append(np.insert(own, 0, len(images), axis=1))
        images.append(param.root_folder + path)
        at += 7 + 6 * count
    return _sort(param, images, channels, np.concatenate(rows))


def _sort(param: WindowDataParameter, images: list[str], channels: int, rows: np.ndarray) -> Windows:
    overlap = rows[:, 2].astype(np.float32)
    is_foreground = overlap >= np.float32(param.fg_threshold)
    is_background = ~is_foreground & (overlap < np.float32(param.bg_threshold))
    plain = np.delete(rows, 2, axis=1).astype(np.int64)
    foreground, background = plain[is_foreground], plain[is_background]
    wrong = foreground[foreground[:, 1] <= 0]
    if len(wrong):
        raise DataError(
            f"{param.source}: Check failed: label > 0 ({wrong[0, 1]} vs. 0): {images[wrong[0, 0]]} has a foreground "
            "window of no class; 0 is the background"
        )
    background[:, 1] = 0
    return Windows(images, channels, foreground, background)


def _round(value: np.float32) -> int:
    """Halves away from zero, as C++."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))


@dataclass(frozen=True)
class Cut:
    """Where a window is cut from its picture, and where it goes in the crop.

    Attributes:
        box: x1, y1, x2, y2 in the picture, corners included.
        size: (height, width) that it is warped to.
        top, left, right: pixels of the crop beside it.
    """

    box: Box
    size: tuple[int, int]
    top: int = 0
    left: int = 0
    right: int = 0


def cut(box: Box, image: tuple[int, int], crop: int, context_pad: int, square: bool) -> Cut:
    """Place a window: as it is, or widened so that ``context_pad`` pixels of the crop lie around it.

    Args:
        box: x1, y1, x2, y2, corners included.
        image: (height, width) of the picture.
        crop: side of the crop.
        context_pad: pixels of surroundings in the crop.
        square: take the tightest square around the window instead of stretching it.
    """
    if not (context_pad > 0 or square):
        return Cut(box, (crop, crop))
    x1, y1, x2, y2 = box
    scale = np.float32(crop) / np.float32(crop - 2 * context_pad)
    half = [np.float32((x2 - x1 + 1) / 2), np.float32((y2 - y1 + 1) / 2)]
    centre = [np.float32(x1) + half[0], np.float32(y1) + half[1]]
    if square:
        half = [max(half)] * 2
    kept, sizes, pads = [], [], []
    for middle, reach, length in zip(centre, half, (image[1], image[0]), strict=True):
        first, last = _round(middle - reach * scale), _round(middle + reach * scale)
        before, after = max(0, -first), max(0, last - length + 1)
        factor = np.float32(crop) / np.float32(last - first + 1)
        kept.append((first + before, last - after))
        sizes.append(_round(np.float32(last - after - first - before + 1) * factor))
        pads.append((_round(np.float32(before) * factor), _round(np.float32(after) * factor)))
    (left, right), (top, _) = pads
    (x1, x2), (y1, y2) = kept
    return Cut((x1, y1, x2, y2), (sizes[1], sizes[0]), top, left, right)


@dataclass(frozen=True)
class WindowBatch:
    """Cut, warped and transformed windows.

    Attributes:
        data: [n, channels, crop, crop].
        labels: [n].
        state: the reader's state after this batch.
    """

    data: np.ndarray
    labels: np.ndarray
    state: dict[str, Any]


class WindowReader:
    """Draws windows at random and cuts them out: in each batch the background comes first.

    Args:
        param: says how many, and how to cut them.
        windows: what there is to draw from.
        transform: crop size, mirroring and scale.
        mean: that is taken from each crop; broadcasts to [channels, crop, crop].
        rng: makes the draws.
        shares: this process's number and how many draw: of every so many windows it takes its own.

    Raises:
        DataError: there is nothing to draw from.
    """

    def __init__(
        self,
        param: WindowDataParameter,
        windows: Windows,
        transform: Transform,
        mean: np.ndarray,
        rng: np.random.Generator,
        shares: tuple[int, int] = (0, 1),
    ) -> None:
        self._param, self._windows, self._transform, self._rng = param, windows, transform, rng
        self._mine, self._processes = shares
        self._shape = (windows.channels, transform.crop, transform.crop)
        self._mean = np.broadcast_to(mean, self._shape)
        self._cache: Cache[str] | None = Cache() if param.cache_images else None
        foreground = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))
        self._draws = ((windows.background, param.batch_size - foreground), (windows.foreground, foreground))
        for (rows, count), kind in zip(self._draws, ("background", "foreground"), strict=True):
            if count and not len(rows):
                raise DataError(f"{param.source} has no {kind} window; see fg_threshold, bg_threshold and fg_fraction")

    def read(self) -> WindowBatch:
        """Make the next batch.

        Raises:
            DataError: a picture cannot be read or has other channels, or a window lies outside it.
        """
        drawn = np.concatenate([rows[self._integers(len(rows), n)] for rows, n in self._draws if n])
        mirrored = self._integers(2, len(drawn)) * self._transform.mirror
        data = np.zeros((len(drawn), *self._shape), np.float32)
        for out, row, mirror in zip(data, drawn, mirrored, strict=True):
            x1, y1, x2, y2 = map(int, row[2:])
            self._put(out, self._windows.images[row[0]], (x1, y1, x2, y2), bool(mirror))
        return WindowBatch(data, drawn[:, 1].astype(np.float32), self.state())

    def _integers(self, stop: int, count: int) -> np.ndarray:
        """This process's part of random numbers from 0 to before ``stop``, ``count`` for each process."""
        return self._rng.integers(stop, size=count * self._processes)[self._mine :: self._processes]

    def _put(self, out: np.ndarray, path: str, box: Box, mirror: bool) -> None:
        """Cut one window into ``out`` [channels, crop, crop]."""
        p = self._param
        picture = self._picture(path)
        height, width = picture.shape[:2]
        place = cut(box, (height, width), self._transform.crop, p.context_pad, p.crop_mode == "square")
        x1, y1, x2, y2 = place.box
        if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height) or min(place.size) < 1:
            raise DataError(
                f"{p.source}: Check failed: x2 < cv_img.cols: the window {box} of {path} lies outside the picture, "
                f"which is {width} wide and {height} high"
            )
        left = place.right if mirror else place.left
        # rounding may make it a pixel too large
        rows, columns = min(place.size[0], out.shape[1] - place.top), min(place.size[1], out.shape[2] - left)
        warped = resize(picture[y1 : y2 + 1, x1 : x2 + 1], rows, columns)
        if mirror:
            warped = warped[:, ::-1]
        here = (slice(None), slice(place.top, place.top + rows), slice(left, left + columns))
        out[here] = (warped.transpose(2, 0, 1) - self._mean[here]) * np.float32(p.scale * self._transform.scale)

    def _picture(self, path: str) -> np.ndarray:
        kept = self._cache.get(path) if self._cache is not None else None
        if kept is not None:
            return kept
        picture = read_image(path, color=self._shape[0] != 1)
        if picture.shape[2] != self._shape[0]:
            raise DataError(f"{path} has {picture.shape[2]} channels, the window file says {self._shape[0]}")
        return self._cache.put(path, picture) if self._cache is not None else picture

    def state(self) -> dict[str, Any]:
        """State of the random numbers, in plain values."""
        return {"rng": self._rng.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on drawing from where `state` was taken."""
        self._rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Let go of the pictures."""
        if self._cache is not None:
            self._cache.clear()

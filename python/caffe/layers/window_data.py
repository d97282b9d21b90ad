"""WindowData: windows of pictures, objects and background, as R-CNN trains on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe import glog, rng
from caffe.data.cache import Cache
from caffe.data.decode import read_image, resize
from caffe.data.transform import load_transform
from caffe.errors import DataError
from caffe.layers.base import Layer, Shape
from caffe.layers.registry import register
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
        words = Path(param.source).read_text().split()
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


@register("WindowData")
class WindowData(Layer):
    """Windows drawn at random: ``fg_fraction`` of a batch foreground, the rest, which comes first, background.

    Each is cut, warped to ``transform_param.crop_size``, mirrored at random, less the mean, times the scale
    (``window_data_param.scale`` and ``transform_param.scale`` both count). What lies outside the picture is 0.

    Shapes:
        top[0]: [batch_size, channels, crop_size, crop_size].
        top[1]: [batch_size], labels.
    """

    bottoms = (0, 0)
    tops = (2, 2)
    is_data = True

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.window_data_param
        self._transform = load_transform(self.param.transform_param, self.training)
        crop = self._transform.crop
        if crop <= 0:
            raise self.error("Check failed: crop_size > 0 (0 vs. 0): set transform_param.crop_size")
        if crop <= 2 * p.context_pad:
            raise self.error(f"context_pad {p.context_pad} on both sides leaves nothing of a crop of {crop}")
        if not p.batch_size:
            raise self.error("window_data_param.batch_size must be set and positive")
        if p.crop_mode not in ("warp", "square"):
            raise self.error(f"crop_mode '{p.crop_mode}' is not known; it is warp or square")
        glog.info(
            "window_data_layer.cpp:46",
            f"Window data layer:\n  foreground (object) overlap threshold: {p.fg_threshold:g}\n"
            f"  background (non-object) overlap threshold: {p.bg_threshold:g}\n"
            f"  foreground sampling fraction: {p.fg_fraction:g}",
        )
        self._windows = windows = read_windows(p)
        foreground = int(np.float32(p.batch_size) * np.float32(p.fg_fraction))
        self._draws = ((windows.background, p.batch_size - foreground), (windows.foreground, foreground))
        for (rows, count), kind in zip(self._draws, ("background", "foreground"), strict=True):
            if count and not len(rows):
                raise self.error(f"{p.source} has no {kind} window; see fg_threshold, bg_threshold and fg_fraction")
        self._log()
        self._shape: Shape = (p.batch_size, windows.channels, crop, crop)
        glog.info("window_data_layer.cpp:164", f"output data size: {','.join(map(str, self._shape))}")
        self._mean = self._read_mean()
        self._generator = np.random.default_rng(rng.next_seed())
        self._cache: Cache[str] | None = Cache() if p.cache_images else None

    def _log(self) -> None:
        p, windows = self.param.window_data_param, self._windows
        glog.info("window_data_layer.cpp:135", f"Number of images: {len(windows.images)}")
        labels = np.concatenate([[0], windows.foreground[:, 1], windows.background[:, 1]])
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            glog.info("window_data_layer.cpp:139", f"class {label} has {count - (label == 0)} samples")
        glog.info("window_data_layer.cpp:143", f"Amount of context padding: {p.context_pad}")
        glog.info("window_data_layer.cpp:146", f"Crop mode: {p.crop_mode}")

    def _read_mean(self) -> np.ndarray:
        """Mean of each of the crop's pixels, that broadcasts to [channels, crop, crop]."""
        channels, side = self._shape[1:3]
        values, image = self._transform.mean_values, self._transform.mean_image
        if values is not None:
            if len(values) not in (1, channels):
                raise self.error(
                    "Check failed: mean_values_.size() == 1 || mean_values_.size() == channels Specify either 1 "
                    f"mean_value or as many as channels: {channels}"
                )
            return values.reshape(-1, 1, 1)
        if image is None:
            return np.zeros((1, 1, 1), np.float32)
        first = (image.shape[2] - side) // 2  # of rows too: Caffe has one offset
        middle = image[:, first : first + side, first : first + side]
        if first < 0 or middle.shape != self._shape[1:]:
            raise self.error(f"the mean image {image.shape} is too small for a crop of {side}, or not square")
        return middle

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [self._shape, self._shape[:1]]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        data = np.zeros(self._shape, np.float32)
        drawn = np.concatenate([rows[self._generator.integers(len(rows), size=n)] for rows, n in self._draws if n])
        mirrored = self._generator.integers(2, size=len(drawn)) * self._transform.mirror
        for out, row, mirror in zip(data, drawn, mirrored, strict=True):
            self._put(out, self._windows.images[row[0]], tuple(map(int, row[2:])), bool(mirror))  # type: ignore[arg-type]
        labels = drawn[:, 1].astype(np.float32)
        return [torch.from_numpy(values).to(self.device) for values in (data, labels)]

    def _put(self, out: np.ndarray, path: str, box: Box, mirror: bool) -> None:
        """Cut one window into ``out`` [channels, crop, crop]."""
        p = self.param.window_data_param
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
        mean = np.broadcast_to(self._mean, out.shape)
        out[here] = (warped.transpose(2, 0, 1) - mean[here]) * np.float32(p.scale * self._transform.scale)

    def _picture(self, path: str) -> np.ndarray:
        kept = self._cache.get(path) if self._cache is not None else None
        if kept is not None:
            return kept
        picture = read_image(path, color=self._shape[1] != 1)
        if picture.shape[2] != self._shape[1]:
            raise self.error(f"{path} has {picture.shape[2]} channels, the window file says {self._shape[1]}")
        return self._cache.put(path, picture) if self._cache is not None else picture

    def state(self) -> dict[str, Any]:
        """State of the random numbers, in plain values."""
        return {"rng": self._generator.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on drawing from where `state` was taken."""
        self._generator.bit_generator.state = state["rng"]

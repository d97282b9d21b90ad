"""WindowData: windows of pictures, objects and background, as R-CNN trains on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from caffe import glog, rng
from caffe.data.prefetch import Prefetcher
from caffe.data.transform import Transform, load_transform
from caffe.data.windows import WindowBatch, WindowReader, Windows, read_windows
from caffe.layers.base import ReadingLayer, Shape
from caffe.layers.registry import register


@register("WindowData")
class WindowData(ReadingLayer[WindowBatch]):
    """Windows drawn at random: ``fg_fraction`` of a batch foreground, the rest, which comes first, background.

    Each is cut, warped to ``transform_param.crop_size``, mirrored at random, less the mean, times the scale
    (``window_data_param.scale`` and ``transform_param.scale`` both count). What lies outside the picture is 0.

    Shapes:
        top[0]: [batch_size, channels, crop_size, crop_size].
        top[1]: [batch_size], labels.
    """

    tops = (2, 2)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.window_data_param
        transform = load_transform(self.param.transform_param, self.training)
        crop = transform.crop
        if crop <= 0:
            raise self.error("Check failed: crop_size > 0 (0 vs. 0): set transform_param.crop_size")
        if crop <= 2 * p.context_pad:
            raise self.error(f"context_pad {p.context_pad} on both sides leaves nothing of a crop of {crop}")
        if not p.batch_size:
            raise self.error("window_data_param.batch_size must be set and positive")
        if p.crop_mode not in ("warp", "square"):
            raise self.error(f"crop_mode '{p.crop_mode}' is not known; it is warp or square")
        glog.info(
            "window_data_layer.cpp:53",
            f"Window data layer:\n  foreground (object) overlap threshold: {p.fg_threshold:g}\n"
            f"  background (non-object) overlap threshold: {p.bg_threshold:g}\n"
            f"  foreground sampling fraction: {p.fg_fraction:g}",
        )
        windows = read_windows(p)
        self._log(windows)
        self._shape: Shape = (p.batch_size, windows.channels, crop, crop)
        glog.info("window_data_layer.cpp:180", f"output data size: {','.join(map(str, self._shape))}")
        generator = np.random.default_rng(rng.next_seed())
        reader = WindowReader(p, windows, transform, self._mean_of(transform), generator, self.shares)
        self._prefetcher = Prefetcher(reader, self.param.data_param.prefetch)

    def _log(self, windows: Windows) -> None:
        p = self.param.window_data_param
        glog.info("window_data_layer.cpp:157", f"Number of images: {len(windows.images)}")
        labels = np.concatenate([[0], windows.foreground[:, 1], windows.background[:, 1]])
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            glog.info("window_data_layer.cpp:161", f"class {label} has {count - (label == 0)} samples")
        glog.info("window_data_layer.cpp:165", f"Amount of context padding: {p.context_pad}")
        glog.info("window_data_layer.cpp:168", f"Crop mode: {p.crop_mode}")

    def _mean_of(self, transform: Transform) -> np.ndarray:
        """Mean of each of the crop's pixels, that broadcasts to [channels, crop, crop]."""
        channels, side = self._shape[1:3]
        values, image = transform.mean_values, transform.mean_image
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

    def stage(self) -> tuple[torch.Tensor, ...]:
        batch = self._prefetcher.next()
        return tuple(torch.from_numpy(values).to(self.device) for values in (batch.data, batch.labels))

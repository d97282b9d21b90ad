"""Layers that make their tops from memory: DummyData, MemoryData."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from caffe import glog
from caffe.fillers import check, fill
from caffe.layers.base import BlobLayer, Layer, Shape
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import FillerParameter


@register("DummyData")
class DummyData(BlobLayer):
    """Tops of given shapes, filled by fillers before each pass; a constant one once, so a caller may write to it.

    Shapes:
        top[i]: ``shape[i]`` or the only ``shape``; the older num, channels, height and width likewise.
    """

    bottoms = (0, 0)
    tops = (1, None)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p, tops = self.param.dummy_data_param, len(self.param.top)
        if len(p.data_filler) not in (0, 1, tops):
            raise self.error(
                "Number of data fillers must be 0, 1 or equal to the number of tops: "
                f"{tops}; you specified {len(p.data_filler)} data fillers."
            )
        old: Mapping[str, Any] = {"num": p.num, "channels": p.channels, "height": p.height, "width": p.width}
        fields: Mapping[str, Any] = old if any(old.values()) else {"shape": p.shape}
        if fields is old and p.shape:
            raise self.error("Check failed: 0 == param.shape_size() Both shape and legacy fields were specified")
        for name, given in fields.items():
            if len(given) not in (1, tops):
                raise self.error(f"Must specify '{name}' once, or once per top blob ({tops}); specified {len(given)}.")
        per_top = [[given[i % len(given)] for given in fields.values()] for i in range(tops)]
        self._shapes: list[Shape] = [tuple(row) if fields is old else tuple(row[0].dim) for row in per_top]
        fillers = list(p.data_filler) or [FillerParameter(type="constant")]
        self._fillers = [fillers[i % len(fillers)] for i in range(tops)]
        for blob, shape, filler in zip(self.top, self._shapes, self._fillers, strict=True):
            blob.reshape(*shape)
            check(filler, self.name)
            if filler.type == "constant":
                fill(blob, filler, self.name)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return self._shapes

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        for blob, filler in zip(self.top, self._fillers, strict=True):
            if filler.type != "constant":
                fill(blob, filler, self.name)
        return [blob.data_tensor() for blob in self.top]

    def backward(self, propagate_down: list[bool]) -> None:
        """Do nothing: no gradient goes into a source."""


@register("MemoryData")
class MemoryData(Layer):
    """Arrays of the caller's, a batch at a time and round again; see `caffe.Net.set_input_arrays`.

    Shapes:
        top[0]: [batch_size, channels, height, width].
        top[1]: labels, [batch_size], from the first pass on [batch_size, 1, 1, 1].
    """

    bottoms = (0, 0)
    tops = (2, 2)
    waits = True

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.memory_data_param
        self.shape: Shape = (p.batch_size, p.channels, p.height, p.width)
        if not math.prod(self.shape):
            raise self.error(
                "Check failed: batch_size_ * size_ > 0 (0 vs. 0) batch_size, channels, height, and width must be "
                f"specified and positive in memory_data_param: they are {', '.join(map(str, self.shape))}"
            )
        self._arrays: tuple[np.ndarray, np.ndarray] | None = None
        self._position = 0

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [self.shape, self.shape[:1]]

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Read from these arrays from here on, from their beginning; they are not copied.

        Args:
            data: [n, channels, height, width], float32, C order; n a multiple of the batch size.
            labels: [n] or [n, 1, 1, 1], float32.

        Raises:
            LayerError: an array has another shape, type or order.
        """
        labels = labels.reshape(-1, 1, 1, 1) if labels.ndim == 1 else labels
        for name, array, shape in (("data array", data, self.shape[1:]), ("labels array", labels, (1, 1, 1))):
            self._check(name, array, shape)
        if len(data) != len(labels):
            raise self.error(
                f"data and labels must have the same first dimension: there are {len(data)} and {len(labels)}"
            )
        if len(data) % self.shape[0] or not len(data):
            raise self.error(
                "n must be a multiple of batch size: first dimensions of input arrays must be a multiple of batch "
                f"size, which is {self.shape[0]}; there are {len(data)} items"
            )
        if self.param.HasField("transform_param"):
            glog.warning("memory_data_layer.cpp:91", f"{self.type} does not transform array data on Reset()")
        self._arrays, self._position = (data, labels.reshape(-1)), 0

    def _check(self, name: str, array: np.ndarray, shape: Shape) -> None:
        if not array.flags.c_contiguous:
            raise self.error(f"{name} must be C contiguous: pass it through np.ascontiguousarray")
        if array.ndim != 4:
            raise self.error(f"{name} must be 4-d, its shape is {array.shape}")
        if array.dtype != np.float32:
            raise self.error(f"{name} must be float32, it is {array.dtype}")
        wrong = zip(("number of channels", "height", "width"), array.shape[1:], shape, strict=True)
        for what, got, expected in wrong:
            if got != expected:
                raise self.error(f"{name} has wrong {what}: {got}, it must be {expected}")

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        if self._arrays is None:
            raise self.error(
                "Check failed: data_ MemoryDataLayer needs to be initialized by calling Reset: give it arrays with "
                "net.set_input_arrays(data, labels)"
            )
        start, count = self._position, self.shape[0]
        self._position = (start + count) % len(self._arrays[0])
        # a copy: the blob adopts what it is given, and the arrays stay the caller's
        data, labels = (torch.tensor(array[start : start + count], device=self.device) for array in self._arrays)
        return [data, labels.view(-1, 1, 1, 1)]

"""Layers that bring pictures and records in: ImageData, Data, Input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from caffe import glog, rng
from caffe.data.on_device import Uploaded, Uploader
from caffe.data.prefetch import Batch, Prefetcher, Reader
from caffe.data.sources import Database, ImageList, Source
from caffe.data.transform import cut, load_transform, mean_tensor, output_shape
from caffe.layers.base import Layer, ReadingLayer, Shape
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import LayerParameter

ON_CPU = 2
"""Batches made ahead on a CPU where the net says nothing: Caffe's 4 would only take memory."""


def leaves_to(device: torch.device) -> bool:
    """Whether pictures are left to the device to transform."""
    return device.type == "cuda"


class _Pictures(ReadingLayer[Batch]):
    """What ImageData and Data share: source → prefetcher → transform on the device.

    Shapes:
        top[0]: [n, c, h, w], transformed pictures; h = w = crop_size where one is set.
        top[1]: [n], labels.
    """

    place: ClassVar[str]
    """Caffe's line that logs the size."""

    def _open(self, generator: np.random.Generator) -> Source:
        raise NotImplementedError

    def _batch_size(self) -> int:
        raise NotImplementedError

    def setup(self, bottoms: Sequence[Shape]) -> None:
        """Open the source and read one record for the shape."""
        batch_size = self._batch_size()
        if not 0 < batch_size < 2**31:
            raise self.error(
                f"Check failed: batch_size > 0 ({batch_size} vs. 0) Positive batch size required, below 2^31"
            )
        transform = load_transform(self.param.transform_param, self.training)
        generator = np.random.default_rng(rng.next_seed())
        source = self._open(generator)
        record = source.load(source.peek())
        shape = output_shape(transform, record.pixels.shape, record.key)
        self._shapes: list[Shape] = [(batch_size, *shape), (batch_size,)]
        glog.info(self.place, f"output data size: {','.join(map(str, self._shapes[0]))}")
        on_gpu = leaves_to(self.device)
        self._transform, self._mean = transform, mean_tensor(transform, self.device) if on_gpu else None
        uploader = Uploader(self.device, transform.crop, len(source)) if on_gpu else None
        reader = Reader(source, transform, batch_size, generator, uploader, self.shares)
        ahead = self.param.data_param
        self._prefetcher = Prefetcher(reader, ahead.prefetch if on_gpu or ahead.HasField("prefetch") else ON_CPU)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of the last batch; without crop_size each batch has its pictures' size."""
        return self._shapes[: len(self.param.top)]

    def stage(self) -> tuple[torch.Tensor, ...]:
        batch = self._prefetcher.next()
        return batch.pixels.take() if isinstance(batch.pixels, Uploaded) else (batch.pixels, batch.labels)

    def compute(self, *staged: torch.Tensor) -> list[torch.Tensor]:
        data, labels, *places = staged
        if places:
            data = cut(data, places[0], self._mean, self._transform)
        self._shapes[0] = tuple(data.shape)
        return [data, labels][: len(self.param.top)]


@register("ImageData")
class ImageData(_Pictures):
    """Pictures and labels of a list file: lines ``path label``."""

    tops = (2, 2)
    place = "image_data_layer.cpp:90"

    def _batch_size(self) -> int:
        return self.param.image_data_param.batch_size

    def _open(self, generator: np.random.Generator) -> Source:
        return ImageList(self.param.image_data_param, generator)


@register("Data")
class Data(_Pictures):
    """Pictures, and labels where a second top asks for them, of a database of Datum messages."""

    tops = (1, 2)
    place = "data_layer.cpp:45"

    def __init__(self, param: LayerParameter, device: torch.device) -> None:
        super().__init__(param, device)
        transform = param.transform_param
        if param.data_param.rand_skip:
            glog.warning("data_layer.cpp:18", f"{param.name}: rand_skip of data_param has no effect, as in Caffe 1.0")
        # opened here, not in setup, as in Caffe: the log has its line before "Creating Layer"
        self._database = Database(
            param.data_param.source,
            param.data_param.backend,
            force_color=transform.force_color or param.data_param.force_encoded_color,
            force_gray=transform.force_gray,
        )

    def _batch_size(self) -> int:
        return self.param.data_param.batch_size

    def _open(self, generator: np.random.Generator) -> Source:
        return self._database


@register("Input")
class Input(Layer):
    """Tops that the caller fills, of the shapes that ``input_param`` gives.

    Shapes:
        top[i]: ``shape[i]``, or the only ``shape``; no axes where none is given.
    """

    bottoms = (0, 0)
    tops = (1, None)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        """Check the number of shapes."""
        tops, shapes = len(self.param.top), len(self.param.input_param.shape)
        if shapes not in (0, 1, tops):
            raise self.error(
                f"Must specify 'shape' once, once per top blob, or not at all: {tops} tops vs. {shapes} shapes."
            )

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes as written."""
        tops = len(self.param.top)
        shapes: list[Shape] = [tuple(shape.dim) for shape in self.param.input_param.shape] or [()]
        return shapes if len(shapes) == tops else shapes * tops

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        """Give nothing: the tops keep what the caller wrote into them."""
        return []

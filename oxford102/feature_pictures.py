"""The pictures of a net's data layers, prepared by the runtime's own reading of them, and their crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from caffe.proto import caffe_pb2
from oxford102.errors import ToolError
from oxford102.lists import read_list
from oxford102.retarget import data_param
from oxford102.runtime import build_net

PICTURES = 8  # prepared at a time, where they are of one size
Variant = tuple[int, int, bool]
"""A crop: 0, 1 or 2 for top, middle or bottom; the same for left to right; whether it is mirrored."""


class Reader:
    """The pictures of a data layer in the order of its list, prepared but not yet cropped."""

    def __init__(self, layer: Any, folder: Path) -> None:
        self.name, self.crop, self.mirror = layer.name, layer.transform_param.crop_size, layer.transform_param.mirror
        self.tops, self.batch = (*layer.top,), data_param(layer).batch_size
        if len(self.tops) != 2:
            raise ToolError(f"{folder}: '{layer.name}' has the tops {', '.join(self.tops)}; expected pictures, labels")
        whole: Any = caffe_pb2.LayerParameter()
        whole.CopyFrom(layer)
        for message, names in ((whole, ("include", "exclude")), (whole.transform_param, ("crop_size", "mirror"))):
            for name in names:
                message.ClearField(name)
        if whole.transform_param.mean_file:
            whole.transform_param.mean_file = str(folder.absolute() / whole.transform_param.mean_file)
        param: Any = data_param(whole)
        param.rand_skip, param.source = 0, str(folder.absolute() / param.source)
        self.count = _aim(whole, param, folder)
        self._net = build_net(caffe_pb2.NetParameter(name="pictures", layer=[whole]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of a crop."""
        channels, high, wide = self._net.blobs[self.tops[0]].data.shape[1:]
        return channels, *self._sides(high, wide)

    def _sides(self, high: int, wide: int) -> tuple[int, int]:
        if self.crop > min(high, wide):
            raise ToolError(f"'{self.name}': crop_size {self.crop} is more than a picture's {high} x {wide} pixels")
        return self.crop or high, self.crop or wide

    def read(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Pictures [n, c, h, w] and labels [n], each once."""
        left = self.count
        while left:
            blobs = self._net.forward()
            pictures, labels = (np.array(blobs[top])[:left] for top in self.tops)
            left -= len(labels)
            yield pictures, labels

    def variants(self, corners: bool, mirror: bool) -> list[Variant]:
        """Crops that the layer can give: the centre, with `corners` these, then with `mirror` the same mirrored."""
        larger = self._net.blobs[self.tops[0]].data.shape[1:] != self.shape
        spots = [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)] if corners and larger else [(1, 1)]
        return [(*spot, mirrored) for mirrored in (False, True)[: 1 + (mirror and self.mirror)] for spot in spots]

    def crops(self, pictures: NDArray[np.float32], variants: Sequence[Variant]) -> NDArray[np.float32]:
        """Each of the variants of each picture, [n * variants, c, h, w], a picture's together."""
        high, wide = pictures.shape[2:]
        height, width = self._sides(high, wide)
        cut = []
        for down, across, mirrored in variants:
            y, x = (high - height) * down // 2, (wide - width) * across // 2
            crop = pictures[:, :, y : y + height, x : x + width]
            cut.append(crop[..., ::-1] if mirrored else crop)
        stacked: NDArray[np.float32] = np.stack(cut, axis=1)
        return stacked.reshape(-1, *stacked.shape[2:])


def _aim(layer: Any, param: Any, folder: Path) -> int:
    """Let a layer read its list in order, a few pictures at a time; the number of pictures."""
    if layer.type == "Data":
        if not (Path(param.source) / "data.mdb").is_file():
            raise ToolError(f"{param.source} is no LMDB; make it with convert_imageset")
        with lmdb.open(param.source, readonly=True, lock=False) as environment:
            count = int(environment.stat()["entries"])
        param.batch_size = min(PICTURES, count)
        return count
    entries = read_list(Path(param.source))
    param.shuffle = False
    param.batch_size = min(PICTURES, len(entries)) if param.new_height else 1
    if not Path(f"{param.root_folder}{entries[0].path}").is_absolute():
        param.root_folder = f"{folder.absolute()}/{param.root_folder}"
    return len(entries)

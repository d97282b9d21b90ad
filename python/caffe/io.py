"""pycaffe's ``caffe.io``: pictures as float arrays, their preparation for a net, arrays as messages.

A picture here is [height, width, channels], float32, RGB from 0 to 1; a net's input is
[channels, height, width], for Caffe's models BGR from 0 to 255 less the mean. `Transformer` goes between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from caffe.data import decode
from caffe.proto import caffe_pb2
from caffe.proto.caffe_pb2 import BlobProto, BlobProtoVector, Datum
from caffe.proto.wire import blob_shape

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "caffe_pb2",
    "datum_to_array",
    "load_image",
    "oversample",
    "resize",
    "resize_image",
    "zoom",
]

INTERPOLATIONS = {0: cv2.INTER_NEAREST, 1: cv2.INTER_LINEAR, 3: cv2.INTER_CUBIC}
LUMA = np.array([0.2125, 0.7154, 0.0721])
"""Weights of R, G and B in a grey picture (ITU-R BT.709), as pycaffe's; OpenCV's own differ."""


# Arrays as messages


def blobproto_to_array(blob: BlobProto, return_diff: bool = False) -> np.ndarray:
    """Values (or gradients) of a BlobProto in its shape, 4-D where it has the old fields; float64, as pycaffe's."""
    values = (blob.diff or blob.double_diff) if return_diff else (blob.data or blob.double_data)
    return np.array(values).reshape(blob_shape(blob))


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> BlobProto:
    """Make a BlobProto of an array of any shape, and of its gradients where they are given."""
    blob = BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Serialize arrays as one BlobProtoVector."""
    return BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """Parse what `arraylist_to_blobprotovector_str` made."""
    return [blobproto_to_array(blob) for blob in BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Datum:
    """Make a Datum of an array [c, h, w]: bytes where it is uint8, else floats.

    Raises:
        ValueError: the array has not three axes.
    """
    if arr.ndim != 3:
        raise ValueError(f"Incorrect array shape. A Datum is [channels, height, width], this is {arr.shape}")
    channels, height, width = arr.shape
    datum = Datum(channels=channels, height=height, width=width, label=label)
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    return datum


def datum_to_array(datum: Datum) -> np.ndarray:
    """Pixels of a Datum, [c, h, w]: uint8, or float64 where it holds floats.

    Raises:
        ValueError: the Datum is encoded.
    """
    if datum.encoded:
        raise ValueError("the Datum is encoded: decode datum.data with cv2.imdecode")
    shape = (datum.channels, datum.height, datum.width)
    if datum.data:
        return np.frombuffer(datum.data, np.uint8).reshape(shape).copy()
    return np.array(datum.float_data).reshape(shape)


# Preparation of a net's input


class Transformer:
    """Turns pictures into a net's input, and back.

    In this order: resize to the input, transpose, swap channels, ``raw_scale``, minus mean, ``input_scale``.

    Args:
        inputs: input's name -> shape of its blob, [n, c, h, w].
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def _check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise Exception(f"{in_} is not one of the net inputs: {sorted(self.inputs)}")

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Prepare a picture [h, w, c] for input ``in_``; the picture itself is not changed."""
        self._check_input(in_)
        values = data.astype(np.float32)
        if values.shape[:2] != self.inputs[in_][2:]:
            values = resize_image(values, self.inputs[in_][2:])
        if in_ in self.transpose:
            values = values.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            values = values[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            values *= self.raw_scale[in_]
        if in_ in self.mean:
            values -= self.mean[in_]
        if in_ in self.input_scale:
            values *= self.input_scale[in_]
        return values

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Undo `preprocess` (but for the resizing) on what is in the input blob, one picture."""
        self._check_input(in_)
        values = data.copy().squeeze()
        if in_ in self.input_scale:
            values /= self.input_scale[in_]
        if in_ in self.mean:
            values += self.mean[in_]
        if in_ in self.raw_scale:
            values /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            values = values[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            values = values.transpose(np.argsort(self.transpose[in_]))
        return values

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of axes; (2, 0, 1) makes [c, h, w] of [h, w, c]."""
        self._check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise Exception(
                "Transpose order needs to have the same number of dimensions as the input. "
                f"The order is {tuple(order)}, a picture of {in_} has {len(self.inputs[in_]) - 1} axes"
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of channels, the first axis after the transpose; (2, 1, 0) makes BGR of RGB."""
        self._check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise Exception(
                "Channel swap needs to have the same number of dimensions as the input channels. "
                f"The order is {tuple(order)}, {in_} has {self.inputs[in_][1]} channels"
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor before the mean is subtracted; 255 for models trained on bytes."""
        self._check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set the mean: one value a channel, or a picture [c, h, w], resized to the input if need be.

        Raises:
            ValueError: it has another number of channels than the input.
        """
        self._check_input(in_)
        shape = self.inputs[in_][1:]
        if mean.ndim == 1:
            if len(mean) != shape[0]:
                raise ValueError(f"Mean channels incompatible with input. There are {len(mean)}, {in_} has {shape[0]}")
            self.mean[in_] = mean[:, np.newaxis, np.newaxis]
            return
        picture = mean[np.newaxis] if mean.ndim == 2 else mean
        if picture.ndim != 3:
            raise ValueError(f"Mean shape invalid: {mean.shape}; give [channels] or [channels, height, width]")
        if picture.shape[0] != shape[0]:
            raise ValueError(f"Mean shape incompatible with input shape. The mean is {mean.shape}, {in_} is {shape}")
        if picture.shape != shape:
            picture = resize_image(picture.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1)
        self.mean[in_] = picture

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor after the mean is subtracted."""
        self._check_input(in_)
        self.input_scale[in_] = scale


# Pictures


def load_image(filename: str | PathLike[str] | BinaryIO, color: bool = True) -> np.ndarray:
    """Load a picture as float32 from 0 to 1: [h, w, 3] RGB, or [h, w, 1] without ``color``.

    Args:
        filename: its path, or a file opened to read bytes (read from its start, wherever it stands).
        color: keep three channels.

    Raises:
        OSError: the file cannot be read.
        PictureError: it is no picture.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    picture = decode.decode(_content(filename), flags, str(filename))[:, :, ::-1]
    largest = np.iinfo(picture.dtype).max if picture.dtype.kind == "u" else 1
    values = picture / largest
    return (values if color else values @ LUMA[:, np.newaxis]).astype(np.float32)


def _content(file: str | PathLike[str] | BinaryIO) -> bytes:
    if isinstance(file, str | PathLike):
        return Path(file).read_bytes()
    file.seek(0)
    return file.read()


def resize_image(im: np.ndarray, new_dims: Sequence[int] | np.ndarray, interp_order: int = 1) -> np.ndarray:
    """Resize [h, w, k] to [*new_dims, k] as OpenCV does in the data layers: bilinear, no anti-aliasing.

    Other arrays than pictures, of 1 or 3 channels, are resized by SciPy's zoom, as in pycaffe: corners onto corners.

    Args:
        im: picture with any number of channels.
        new_dims: (height, width); channels may follow.
        interp_order: 0 nearest, 1 linear, 3 cubic; what zoom knows, for other arrays.
    """
    height, width = (int(side) for side in new_dims[:2])
    if im.shape[2] not in (1, 3):
        return zoom(im.astype(np.float32), (height / im.shape[0], width / im.shape[1], 1), order=interp_order)
    if interp_order not in INTERPOLATIONS:
        raise ValueError(f"interp_order {interp_order} is not known; use one of {sorted(INTERPOLATIONS)}")
    return decode.resize(im.astype(np.float32), height, width, INTERPOLATIONS[interp_order])


def zoom(*args: Any, **kwargs: Any) -> np.ndarray:
    """SciPy's `scipy.ndimage.zoom`, which pycaffe's module has among its names."""
    from scipy import ndimage  # takes a while

    return ndimage.zoom(*args, **kwargs)


def resize(image: np.ndarray, output_shape: Sequence[int], order: int = 1) -> np.ndarray:
    """Resize as scikit-image's `resize` of Caffe's day, which scripts call by pycaffe's module.

    Args:
        image: [h, w] or [h, w, k]; whole numbers are scaled to 0 to 1 first.
        output_shape: (height, width); channels may follow.
        order: `resize_image`'s ``interp_order``.
    """
    whole = image.dtype.kind in "iu"
    values = np.atleast_3d(image) / (np.iinfo(image.dtype).max if whole else 1)
    return resize_image(values, output_shape, order).reshape(*output_shape[:2], *image.shape[2:]).astype(float)


def __getattr__(name: str) -> Any:
    """Pycaffe's module has scikit-image among its names, and scripts use it so."""
    if name != "skimage":
        raise AttributeError(f"module 'caffe.io' has no attribute {name!r}")
    try:
        import skimage.io
    except ImportError as problem:
        raise AttributeError("caffe.io.skimage is scikit-image, which is not installed: pip install it") from problem
    return skimage


def oversample(images: Sequence[np.ndarray] | np.ndarray, crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Cut each picture's four corners and its centre, and mirror them.

    Args:
        images: n pictures [h, w, k] of one size.
        crop_dims: (height, width) of a crop.

    Returns:
        [10 * n, *crop_dims, k], float32: top left, top right, bottom left, bottom right, centre, then the
        same mirrored, for each picture.
    """
    height, width = (int(side) for side in crop_dims)
    pictures = np.asarray(images, np.float32)
    down, across = pictures.shape[1] - height, pictures.shape[2] - width
    if down < 0 or across < 0:
        raise ValueError(f"a crop of {height}x{width} does not fit into pictures of {pictures.shape[1:3]}")
    corners = [(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)]
    # [n, 5, h, w, k]
    crops = np.stack([pictures[:, y : y + height, x : x + width] for y, x in corners], axis=1)
    both = np.concatenate([crops, crops[:, :, :, ::-1]], axis=1)
    return both.reshape(-1, height, width, pictures.shape[3])

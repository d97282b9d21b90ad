"""Pictures as Caffe sees them: OpenCV decodes and resizes; BGR, uint8.

Shapes: a picture is [height, width, channels] as OpenCV holds it; `datum_pixels` answers
[channels, height, width], as Caffe's Datum does.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffe import glog
from caffe.errors import DataError, PictureError
from caffe.proto.caffe_pb2 import Datum

Shape = tuple[int, ...]


def decode(data: bytes, flag: int, name: str) -> np.ndarray:
    """Decode a compressed picture to [h, w, c]; ``flag`` is one of OpenCV's IMREAD constants.

    Raises:
        PictureError: ``data``, which comes from ``name``, is not a picture that OpenCV can read.
    """
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error as problem:
        raise PictureError(f"Could not decode {name}: {problem}") from problem
    if picture is None:
        raise PictureError(
            f"Could not decode {name}: {len(data)} bytes that are no picture to OpenCV; replace the file"
        )
    return picture if picture.ndim == 3 else picture[:, :, np.newaxis]


def read_image(path: str, height: int = 0, width: int = 0, color: bool = True) -> np.ndarray:
    """Read a picture as Caffe's ReadImageToCVMat: [h, w, 3] BGR, or [h, w, 1] grey, uint8.

    It is resized (bilinear, no anti-aliasing) where ``height`` and ``width`` are both above 0.

    Raises:
        DataError: the file is not there or is no picture.
    """
    flag = cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE
    try:
        picture = decode(Path(path).read_bytes(), flag, path)
    except (OSError, ValueError, DataError) as problem:
        raise DataError(f"Could not open or find file {path}: {problem}") from problem
    if height > 0 and width > 0:
        return resize(picture, height, width)
    return picture


def resize(picture: np.ndarray, height: int, width: int, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Resize [h, w, c] to [height, width, c] with OpenCV."""
    resized = cv2.resize(picture, (width, height), interpolation=interpolation)
    return resized.reshape(height, width, picture.shape[2])  # OpenCV drops the axis of a single channel


def datum_pixels(
    datum: Datum, name: str, force_color: bool = False, force_gray: bool = False, floats: np.ndarray | None = None
) -> np.ndarray:
    """Give the pixels of a Datum as [c, h, w]: uint8, or float32 where it holds ``float_data``.

    An encoded Datum is decoded with the channels it has, or as ``force_color`` or ``force_gray`` says. ``floats``
    are its ``float_data`` where they were taken out of it before it was parsed, which is much faster.

    Raises:
        DataError: the record ``name`` is neither a picture nor as long as its shape says.
    """
    if datum.encoded:
        flag = cv2.IMREAD_UNCHANGED
        if force_color or force_gray:
            flag = cv2.IMREAD_COLOR if force_color else cv2.IMREAD_GRAYSCALE
        picture = decode(datum.data, flag, name)
        if picture.dtype != np.uint8:
            raise DataError(
                f"{name}: Image data type must be unsigned byte, it is {picture.dtype}; encode it with 8 bits a channel"
            )
        return picture.transpose(2, 0, 1)
    if force_color or force_gray:
        glog.error("data_transformer.cpp:143", f"force_color and force_gray only for encoded datum, not {name}")
    shape = (datum.channels, datum.height, datum.width)
    values: np.ndarray = np.frombuffer(datum.data, np.uint8)
    if not datum.data:
        values = np.array(datum.float_data, np.float32) if floats is None else floats
    if values.size != np.prod(shape) or values.size == 0:
        raise DataError(
            f"{name}: Incorrect data field size {values.size}; a Datum of {shape[0]} channels, height {shape[1]}, "
            f"width {shape[2]} holds {np.prod(shape)} values (is it encoded, with its flag unset?)"
        )
    return values.reshape(shape)

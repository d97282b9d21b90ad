"""Decode every picture once; the mean of the training pictures, as Caffe's tools compute and store it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from oxford102.errors import ToolError, told
from oxford102.files import write_whole
from oxford102.runtime import NO_CAFFE

SIDE = 256  # pixels: the size of the pictures in the databases and of the mean


def decode(path: Path) -> NDArray[np.uint8]:
    """A picture as Caffe's data layers see it, [h, w, 3] in BGR; raises ToolError where it is none."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ToolError(f"{path} is not a picture that OpenCV can read; delete its archive and get the official one")
    return np.asarray(picture, np.uint8)


def mean_of(train: Sequence[Path], others: Sequence[Path]) -> NDArray[np.float32]:
    """The mean of the `train` pictures at 256x256, [3, 256, 256] in BGR; `others` are decoded as a check.

    Each picture is squeezed to the size by bilinear interpolation, as convert_imageset does; the sums are
    whole numbers, so the order does not matter. Raises ToolError at the first picture that does not decode.
    """
    total = np.zeros((SIDE, SIDE, 3), np.int64)
    bar = tqdm(desc="checking", total=len(train) + len(others), unit=" pictures", disable=None)
    with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for picture in pool.map(_squeezed, train):
            total += picture
            bar.update()
        for _ in pool.map(_check, others):
            bar.update()
    return np.asarray(total.transpose(2, 0, 1) / len(train), np.float32)


def _squeezed(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(decode(path), (SIDE, SIDE)), np.uint8)


def _check(path: Path) -> None:
    decode(path)


def write_mean(path: Path, mean: NDArray[np.floating]) -> None:
    """Write a mean [c, h, w] as `path`, a .npy file, and as .binaryproto beside it."""
    content = io.BytesIO()
    np.save(content, mean)
    write_whole(path, content.getvalue())
    write_whole(path.with_suffix(".binaryproto"), mean_proto(mean))


def mean_proto(mean: NDArray[np.floating]) -> bytes:
    """A mean [c, h, w] as compute_image_mean writes it: a BlobProto with num 1 and single precision data."""
    with told(NO_CAFFE, ImportError):
        from caffe.proto import caffe_pb2  # here, so that asking for --help does not load the runtime
    channels, height, width = mean.shape
    blob = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width)
    blob.data.extend(np.asarray(mean, np.float32).ravel())
    return blob.SerializeToString()

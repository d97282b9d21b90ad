"""Crop, mirror, mean, scale: pictures to the values of a blob, as Caffe's DataTransformer.

    out[n, c, y, x] = (picture[n, c, top + y, left + x'] - mean[c, top + y, left + x']) * scale
    x' = x, or crop - 1 - x where the picture is mirrored

so the mean belongs to a place of the picture, and is mirrored with it. Chance (`draw`) is apart from arithmetic. A
GPU transforms a batch at a time (`cut`), from bytes; the CPU a picture at a time (`put`), while it is in the cache,
with as many threads as decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import eq, le

import cv2
import numpy as np
import torch

from caffe import glog
from caffe.errors import DataError
from caffe.proto.binary import read_message
from caffe.proto.caffe_pb2 import BlobProto, TransformationParameter
from caffe.proto.wire import blob_shape

Shape = tuple[int, ...]

AXES = ("channels", "height", "width")
BATCH_CHECKS = ((0, "==", eq), (1, "<=", le), (2, "<=", le), (1, "==", eq), (2, "==", eq))
"""How a picture's axes must compare with its batch's, in the order of Caffe's checks."""


@dataclass(frozen=True)
class Transform:
    """What a layer's ``transform_param`` asks for.

    Attributes:
        crop: side of the square cut out, 0 for the whole picture.
        random_crop: cut at a random place (TRAIN) instead of the middle.
        mirror: mirror half of the pictures, in both phases.
        scale: factor applied after the mean.
        mean_image: [c, h, w] of the mean file, or None.
        mean_values: one value, or one a channel, or None.
    """

    crop: int = 0
    random_crop: bool = False
    mirror: bool = False
    scale: float = 1.0
    mean_image: np.ndarray | None = None
    mean_values: np.ndarray | None = None


@dataclass(frozen=True)
class Draws:
    """One batch's chances: ``tops`` and ``lefts`` of the crops, int64 [n], and ``mirrors``, bool [n]."""

    tops: np.ndarray
    lefts: np.ndarray
    mirrors: np.ndarray


def load_transform(param: TransformationParameter, training: bool) -> Transform:
    """Read ``param``, and the mean file that it names.

    Raises:
        DataError: mean file and mean values are both given, or both forced colours.
        FormatError: the mean file is no BlobProto of one picture.
    """
    if param.HasField("mean_file") and param.mean_value:
        raise DataError(
            f"Check failed: param_.mean_value_size() == 0 ({len(param.mean_value)} vs. 0) Cannot specify "
            f"mean_file and mean_value at the same time: remove mean_file {param.mean_file} or the mean_values"
        )
    if param.force_color and param.force_gray:
        raise DataError("cannot set both force_color and force_gray: remove one")
    return Transform(
        crop=param.crop_size,
        random_crop=training and param.crop_size > 0,
        mirror=param.mirror,
        scale=param.scale,
        mean_image=_read_mean(param.mean_file) if param.HasField("mean_file") else None,
        mean_values=np.array(param.mean_value, np.float32) if param.mean_value else None,
    )


def _read_mean(path: str) -> np.ndarray:
    glog.info("data_transformer.cpp:25", f"Loading mean file from: {path}")
    blob = read_message(path, BlobProto())
    shape, values = blob_shape(blob), np.array(blob.double_data or blob.data, np.float32)
    if len(shape) not in (3, 4) or values.size == 0 or values.size != np.prod(shape[-3:]):
        raise DataError(
            f"{path}: expected the mean of one picture (1 x channels x height x width), got {values.size} "
            f"values of shape {list(shape)}; make it with compute_image_mean"
        )
    return values.reshape(shape[-3:])


def output_shape(transform: Transform, shape: Shape, name: str) -> Shape:
    """Check that the picture ``name`` of ``shape`` [c, h, w] can be transformed; give the shape that it gets.

    Raises:
        DataError: the crop is larger than the picture, or the mean does not fit it.
    """
    channels, *sides = shape
    for axis, side in zip(AXES[1:], sides, strict=True):
        if side < transform.crop:
            raise DataError(
                f"Check failed: img_{axis} >= crop_size ({side} vs. {transform.crop}) {name} is too small: "
                "lower crop_size, or enlarge the pictures (new_height and new_width, or convert_imageset "
                "-resize_height -resize_width)"
            )
    if transform.mean_image is not None:
        for axis, got, expected in zip(AXES, shape, transform.mean_image.shape, strict=True):
            if got != expected:
                raise DataError(
                    f"Check failed: img_{axis} == data_mean_.{axis}() ({got} vs. {expected}) {name} "
                    "is not as large as the mean file's picture: resize the pictures, or give mean_value once per "
                    "channel instead"
                )
    if transform.mean_values is not None and len(transform.mean_values) not in (1, channels):
        raise DataError(
            "Check failed: mean_values_.size() == 1 || mean_values_.size() == img_channels "
            f"Specify either 1 mean_value or as many as channels: {channels}; "
            f"{len(transform.mean_values)} are given, and {name} has {channels} channels"
        )
    return (channels, transform.crop, transform.crop) if transform.crop else shape


def check_batch(transform: Transform, shapes: Sequence[Shape], names: Sequence[str]) -> None:
    """Check each picture, and that all make blobs of one shape.

    Raises:
        DataError: one of them does not fit its batch; the message names it.
    """
    outputs = [output_shape(transform, shape, name) for shape, name in zip(shapes, names, strict=True)]
    first = outputs[0]
    for own, name in zip(outputs, names, strict=True):
        for axis, relation, holds in BATCH_CHECKS:
            if not holds(first[axis], own[axis]):
                raise DataError(
                    f"Check failed: {AXES[axis]} {relation} img_{AXES[axis]} ({first[axis]} vs. {own[axis]}) {name} "
                    f"has another size than the first picture of its batch, {names[0]}: set new_height and new_width "
                    "(or convert_imageset -resize_height -resize_width), crop_size, or batch_size: 1"
                )


def draw(transform: Transform, shapes: Sequence[Shape], rng: np.random.Generator) -> Draws:
    """Draw a crop's place and a coin for mirroring for each picture of ``shapes`` ([c, h, w] each)."""
    n = len(shapes)
    room = np.array([shape[1:] for shape in shapes], np.int64) - transform.crop  # [n, 2]
    if not transform.crop:
        room[:] = 0
    corners = rng.integers(room, endpoint=True) if transform.random_crop else room // 2
    mirrors = rng.integers(2, size=n).astype(bool) if transform.mirror else np.zeros(n, bool)
    return Draws(corners[:, 0], corners[:, 1], mirrors)


def empty_batch(pictures: Sequence[np.ndarray], crop: int, kind: np.dtype) -> np.ndarray:
    """Memory for the crops of pictures [c, h, w]: [n, c, crop or h, crop or w].

    The channels are innermost in memory where the first picture has them there.
    """
    channels, height, width = pictures[0].shape
    n, height, width = len(pictures), crop or height, crop or width
    if pictures[0].strides[0] == pictures[0].itemsize:  # decoded by OpenCV
        return np.empty((n, height, width, channels), kind).transpose(0, 3, 1, 2)
    return np.empty((n, channels, height, width), kind)


def stack(pictures: Sequence[np.ndarray], crop: int, draws: Draws) -> tuple[np.ndarray, Draws]:
    """Copy pictures [c, h, w] into one array [n, h, w, c] for `cut`, and say where in it the crops are.

    Pictures of different sizes are cropped already. It is uint8, or float32 where one of the pictures is.
    """
    if len({picture.shape for picture in pictures}) > 1:
        places = zip(pictures, draws.tops, draws.lefts, strict=True)
        pictures = [picture[:, top : top + crop, left : left + crop] for picture, top, left in places]
        nowhere = np.zeros_like(draws.tops)
        draws = Draws(nowhere, nowhere, draws.mirrors)
    return np.stack([picture.transpose(1, 2, 0) for picture in pictures]), draws


def mean_like(transform: Transform, batch: np.ndarray) -> np.ndarray | None:
    """Give the mean as `put` takes it: [2, c, h, w], the picture and its mirror image, or [2, c, crop, crop] of values.

    It is negative, as OpenCV adds but does not subtract pixels, and has the memory order of ``batch`` [n, c, crop,
    crop].
    """
    if transform.mean_image is not None:
        mean = np.stack([transform.mean_image, transform.mean_image[:, :, ::-1]])
    elif transform.mean_values is not None:
        mean = np.broadcast_to(transform.mean_values.reshape(-1, 1, 1), (2, *batch.shape[1:]))
    else:
        return None
    ordered = np.empty_like(batch, shape=mean.shape)
    return np.negative(mean, out=ordered)


def put(
    out: np.ndarray,
    picture: np.ndarray,
    transform: Transform,
    mean: np.ndarray | None,
    place: tuple[int, int, bool],
) -> None:
    """Cut, mirror, subtract the mean, scale.

    Shapes:
        out: [c, crop or h, crop or w], float32, that is written to.
        picture: [c, h, w], uint8 or float32.
        mean: what `mean_like` gives.
        place: top and left of the crop, and whether it is mirrored.
    """
    top, left, mirror = place
    height, width = out.shape[1:]
    arrays = [out, picture[:, top : top + height, left : left + width]]
    if mean is not None:
        if transform.mean_image is None:
            top = left = 0
        elif mirror:
            left = mean.shape[3] - width - left
        arrays.append(mean[int(mirror), :, top : top + height, left : left + width])
    innermost = len(out) > 1 and out.strides[0] == out.itemsize
    images = [[array.transpose(1, 2, 0) for array in arrays]] if innermost else zip(*arrays, strict=True)
    for values, pixels, *less in images:  # as OpenCV takes them: all channels in one, or each by itself
        seen = cv2.flip(pixels, 1) if mirror else pixels
        values[...] = less[0] if less else seen
        if less:
            cv2.accumulate(seen, values)
    if transform.scale != 1:
        with np.errstate(all="ignore"):  # whoever asks for infinite values gets them without a word, as from Caffe
            out *= np.float32(transform.scale)


def mean_tensor(transform: Transform, device: torch.device) -> torch.Tensor | None:
    """Give the mean as `cut` takes it: the picture [h, w, c], or values [1 or c]."""
    if transform.mean_image is not None:
        return torch.from_numpy(transform.mean_image).to(device).permute(1, 2, 0).contiguous()
    if transform.mean_values is not None:
        return torch.from_numpy(transform.mean_values).to(device)
    return None


def cut(pictures: torch.Tensor, places: torch.Tensor, mean: torch.Tensor | None, transform: Transform) -> torch.Tensor:
    """Cut, mirror, subtract the mean, scale: a batch at a time, with nothing that waits for the device.

    Shapes:
        pictures: [k, h, w, c], uint8 or float32.
        places: [n, 4], int64: number of the picture, top and left of its crop, 1 where it is mirrored.
        mean: what `mean_tensor` gives.
        result: [n, c, crop or h, crop or w], float32, the channels innermost in memory.
    """
    height, width = (transform.crop or side for side in pictures.shape[1:3])
    number, top, left, mirrored = places.unsqueeze(2).unbind(1)  # [n, 1] each
    steps = torch.arange(width, device=places.device)
    rows = (top + torch.arange(height, device=places.device)).unsqueeze(2)  # [n, h, 1]
    columns = (left + torch.where(mirrored > 0, width - 1 - steps, steps)).unsqueeze(1)  # [n, 1, w]
    values = pictures[number.unsqueeze(2), rows, columns].float()  # [n, h, w, c]
    if mean is not None:
        values.sub_(mean[rows, columns] if mean.dim() == 3 else mean)
    if transform.scale != 1:
        values.mul_(transform.scale)
    return values.permute(0, 3, 1, 2)

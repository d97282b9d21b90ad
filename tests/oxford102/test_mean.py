from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from oxford102.errors import ToolError
from oxford102.mean import decode, mean_of, mean_proto, write_mean


def png(path: Path, pixels: np.ndarray) -> Path:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def test_the_mean_of_pictures_of_the_right_size(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 256, 256, 3), np.uint8)
    paths = [png(tmp_path / f"{index}.jpg", picture) for index, picture in enumerate(pixels)]
    mean = mean_of(paths[:3], paths[3:])
    assert mean.shape == (3, 256, 256)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, pixels[:3].mean(0).transpose(2, 0, 1), rtol=1e-6)


def test_pictures_are_squeezed_bilinearly(tmp_path: Path) -> None:
    ramp = np.zeros((2, 128, 3), np.uint8)
    ramp[..., 0] = np.arange(0, 256, 2)  # blue grows to the right by one a pixel of the mean
    mean = mean_of([png(tmp_path / "ramp.jpg", ramp)], [])
    inner = np.arange(1, 255)
    expected = (inner + 0.5) / 2 - 0.5  # the place in the ramp of each pixel's middle
    np.testing.assert_allclose(mean[0, 100, 1:255], expected * 2, atol=0.51)
    assert not mean[1:].any()


def test_a_grey_picture_has_three_channels(tmp_path: Path) -> None:
    grey = np.full((4, 4), 7, np.uint8)
    np.testing.assert_array_equal(decode(png(tmp_path / "grey.jpg", grey)), np.full((4, 4, 3), 7))


@pytest.mark.parametrize("content", [b"", b"GIF?", b"<html></html>"])
@pytest.mark.parametrize("place", ["train", "others"])
def test_a_picture_that_does_not_decode(tmp_path: Path, place: str, content: bytes) -> None:
    good = [png(tmp_path / f"{index}.jpg", np.zeros((4, 4, 3), np.uint8)) for index in range(4)]
    bad = tmp_path / "image_00009.jpg"
    bad.write_bytes(content)
    train, others = ([bad, *good], good) if place == "train" else (good, [*good, bad])
    with pytest.raises(ToolError) as error:
        mean_of(train, others)
    assert str(error.value) == (
        f"{bad} is not a picture that OpenCV can read; delete its archive and get the official one"
    )


def test_the_mean_as_blobproto_byte_for_byte() -> None:
    mean = np.random.default_rng(2).normal(size=(3, 5, 200))  # double precision, stored in single
    numbers = struct.pack("<3000f", *mean.ravel())
    head = b"\x08\x01\x10\x03\x18\x05\x20\xc8\x01"  # num 1, channels 3, height 5, width 200
    assert mean_proto(mean) == head + b"\x2a\xe0\x5d" + numbers  # data: 12,000 bytes


def test_both_files_of_a_mean(tmp_path: Path) -> None:
    mean = np.random.default_rng(3).normal(size=(3, 4, 5)).astype(np.float32)
    write_mean(tmp_path / "mean.npy", mean)
    np.testing.assert_array_equal(np.load(tmp_path / "mean.npy"), mean)
    assert (tmp_path / "mean.binaryproto").read_bytes() == mean_proto(mean)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean.binaryproto", "mean.npy"]

"""Pictures left to a device: what it makes of them against what the CPU's own way does, with the CPU as the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe import glog
from caffe.data.on_device import Uploaded, Uploader
from caffe.data.prefetch import Batch, Reader
from caffe.data.sources import ImageList
from caffe.data.transform import Draws, Transform, cut, mean_tensor
from caffe.proto.caffe_pb2 import ImageDataParameter

CPU = torch.device("cpu")
SAME = [(9, 11)] * 7
TRANSFORM = Transform(
    crop=6,
    random_crop=True,
    mirror=True,
    scale=0.3,
    mean_image=np.random.default_rng(1).uniform(90, 130, (3, 9, 11)).astype(np.float32),
)


def reader_of(listing: Path, transform: Transform, uploader: Uploader | None) -> Reader[int]:
    param = ImageDataParameter(source=str(listing), shuffle=True)
    generator = np.random.default_rng(2)
    return Reader(ImageList(param, generator), transform, 3, generator, uploader)


def values_of(batch: Batch, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(batch.pixels, Uploaded)
    pictures, labels, places = batch.pixels.take()
    return cut(pictures, places, mean_tensor(transform, CPU), transform).numpy(), labels.numpy()


def compare(listing: Path, transform: Transform, uploader: Uploader) -> list[Batch]:
    """Five batches, more than an epoch, both ways; give those of the device."""
    ours, device = reader_of(listing, transform, None), reader_of(listing, transform, uploader)
    batches = []
    for _ in range(5):
        expected, batch = ours.read(), device.read()
        values, labels = values_of(batch, transform)
        assert isinstance(expected.pixels, torch.Tensor)
        assert np.array_equal(values, expected.pixels.numpy())
        assert np.array_equal(labels, expected.labels.numpy())
        batches.append(batch)
    return batches


def test_pictures_of_one_size_are_uploaded_once(make_pictures: Any) -> None:
    listing, _ = make_pictures(SAME)
    uploader = Uploader(CPU, TRANSFORM.crop, len(SAME))
    batches = compare(listing, TRANSFORM, uploader)
    kept = {batch.pixels.pictures.data_ptr() for batch in batches if isinstance(batch.pixels, Uploaded)}
    assert len(kept) == 1
    assert Uploader._used == 7 * 9 * 11 * 3
    uploader.close()
    assert Uploader._used == 0


def test_without_room_each_batch_is_uploaded(make_pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(glog, "info", lambda place, message: said.append(message))
    monkeypatch.setenv("CAFFE_CACHE_MB", "0")
    listing, _ = make_pictures(SAME)
    uploader = Uploader(CPU, TRANSFORM.crop, len(SAME))
    for batch in compare(listing, TRANSFORM, uploader):
        assert isinstance(batch.pixels, Uploaded)
        assert batch.pixels.pictures.shape == (3, 9, 11, 3)
    uploader.close()
    assert Uploader._used == 0
    assert sum(line.startswith("7 pictures take 0 MB, cpu has room for 0 (CAFFE_CACHE_MB") for line in said) == 1


def test_bytes_of_a_record_are_only_read() -> None:
    """A Datum's are immutable, of which PyTorch would warn."""
    pixels = np.frombuffer(bytes(range(24)), np.uint8).reshape(2, 3, 4)
    nowhere = np.zeros(1, np.int64)
    uploader = Uploader(CPU, 0, 1)
    uploaded = uploader.upload(["key"], [pixels], torch.zeros(1), Draws(nowhere, nowhere, nowhere > 0))
    assert np.array_equal(uploaded.pictures[0].permute(2, 0, 1), pixels)
    uploader.close()


def test_pictures_of_many_sizes(make_pictures: Any) -> None:
    listing, _ = make_pictures([(9, 11), (8, 8), (9, 11), (30, 6), (6, 6), (9, 11), (7, 12)])
    transform = Transform(crop=6, random_crop=True, mirror=True, mean_values=np.array([104, 117, 123], np.float32))
    uploader = Uploader(CPU, transform.crop, 7)
    compare(listing, transform, uploader)
    uploader.close()


def test_a_picture_that_is_listed_twice_is_uploaded_once(make_pictures: Any) -> None:
    listing, _ = make_pictures(SAME[:2])
    listing.write_text(listing.read_text() * 3)
    uploader = Uploader(CPU, TRANSFORM.crop, 6)
    compare(listing, TRANSFORM, uploader)
    assert len(uploader._numbers) == 2
    uploader.close()

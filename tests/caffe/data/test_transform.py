from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe.data.transform import (
    Draws,
    Transform,
    check_batch,
    cut,
    draw,
    empty_batch,
    load_transform,
    mean_like,
    mean_tensor,
    output_shape,
    put,
    stack,
)
from caffe.errors import CaffeError, DataError
from caffe.proto.binary import write_message
from caffe.proto.caffe_pb2 import BlobProto, BlobShape, TransformationParameter

CPU = torch.device("cpu")

Run = Callable[[list[np.ndarray], Transform, Draws], np.ndarray]


def caffes_words(golden: Path, case: str) -> str:
    """What BVLC Caffe said of this mistake, without the place."""
    lines = (golden / "logs" / "errors.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{case}: ")).partition("] ")[2].strip()


def naive(picture: np.ndarray, transform: Transform, top: int, left: int, mirror: bool) -> np.ndarray:
    """Caffe's loop over one picture [c, h, w]."""
    channels, height, width = picture.shape
    height, width = transform.crop or height, transform.crop or width
    out = np.zeros((channels, height, width), np.float32)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                value = np.float32(picture[c, top + y, left + x])
                if transform.mean_image is not None:
                    value -= transform.mean_image[c, top + y, left + x]
                if transform.mean_values is not None:
                    value -= transform.mean_values[c if len(transform.mean_values) > 1 else 0]
                out[c, y, width - 1 - x if mirror else x] = value * np.float32(transform.scale)
    return out


def by_loops(pictures: list[np.ndarray], transform: Transform, draws: Draws) -> np.ndarray:
    places = zip(pictures, draws.tops, draws.lefts, draws.mirrors, strict=True)
    return np.stack([naive(picture, transform, *place) for picture, *place in places])


def a_batch_at_a_time(pictures: list[np.ndarray], transform: Transform, draws: Draws) -> np.ndarray:
    together, draws = stack(pictures, transform.crop, draws)
    places = np.stack([np.arange(len(pictures)), draws.tops, draws.lefts, draws.mirrors], 1)
    values = cut(torch.from_numpy(together), torch.from_numpy(places), mean_tensor(transform, CPU), transform)
    assert values.is_contiguous(memory_format=torch.channels_last)
    return values.numpy()


def a_picture_at_a_time(pictures: list[np.ndarray], transform: Transform, draws: Draws) -> np.ndarray:
    batch = empty_batch(pictures, transform.crop, np.dtype(np.float32))
    mean = mean_like(transform, batch)
    for out, picture, *place in zip(batch, pictures, draws.tops, draws.lefts, draws.mirrors, strict=True):
        put(out, picture, transform, mean, tuple(place))
    return batch


WAYS = pytest.mark.parametrize("run", [a_batch_at_a_time, a_picture_at_a_time])


@WAYS
@pytest.mark.parametrize("decoded", [True, False], ids=["hwc", "chw"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("crop", [0, 5])
@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("mean", ["none", "image", "channels", "one"])
def test_it_is_caffes_loop(run: Run, decoded: bool, kind: type, crop: int, mirror: bool, mean: str) -> None:
    rng = np.random.default_rng(3)
    transform = Transform(
        crop=crop,
        random_crop=crop > 0,
        mirror=mirror,
        scale=0.017,
        mean_image=rng.uniform(90, 130, (3, 8, 9)).astype(np.float32) if mean == "image" else None,
        mean_values={"channels": np.array([104, 117, 123.5], np.float32), "one": np.array([99.5], np.float32)}.get(
            mean
        ),
    )
    pictures = [rng.integers(0, 256, (8, 9, 3)).astype(kind).transpose(2, 0, 1) for _ in range(12)]
    if not decoded:
        pictures = [np.ascontiguousarray(picture) for picture in pictures]
    draws = draw(transform, [picture.shape for picture in pictures], rng)
    assert np.array_equal(run(pictures, transform, draws), by_loops(pictures, transform, draws))


@WAYS
def test_pictures_of_different_sizes_are_cropped_into_one_batch(run: Run) -> None:
    rng = np.random.default_rng(4)
    transform = Transform(crop=4, random_crop=True, mirror=True)
    pictures = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8).transpose(2, 0, 1) for h, w in ((4, 9), (7, 4), (6, 6))]
    shapes = [picture.shape for picture in pictures]
    check_batch(transform, shapes, ["a", "b", "c"])
    draws = draw(transform, shapes, rng)
    assert np.array_equal(run(pictures, transform, draws), by_loops(pictures, transform, draws))


@WAYS
def test_grey_pictures(run: Run) -> None:
    rng = np.random.default_rng(5)
    transform = Transform(crop=3, random_crop=True, mirror=True, mean_values=np.array([7], np.float32))
    pictures = [rng.integers(0, 256, (5, 6, 1), dtype=np.uint8).transpose(2, 0, 1) for _ in range(6)]
    draws = draw(transform, [picture.shape for picture in pictures], rng)
    assert np.array_equal(run(pictures, transform, draws), by_loops(pictures, transform, draws))


@WAYS
def test_pictures_are_left_alone(run: Run) -> None:
    transform = Transform(crop=2, mirror=True, scale=2.0, mean_values=np.ones(3, np.float32))
    picture = np.arange(48, dtype=np.float32).reshape(4, 4, 3).transpose(2, 0, 1)
    run([picture], transform, Draws(np.array([1]), np.array([1]), np.array([True])))
    assert np.array_equal(picture.transpose(1, 2, 0).ravel(), np.arange(48))


def test_the_crop_is_in_the_middle_without_training() -> None:
    draws = draw(Transform(crop=4), [(3, 9, 4), (3, 8, 11)], np.random.default_rng(0))
    assert draws.tops.tolist() == [2, 2]
    assert draws.lefts.tolist() == [0, 3]
    assert not draws.mirrors.any()


def test_random_crops_reach_every_place_and_mirrors_both_sides() -> None:
    transform = Transform(crop=4, random_crop=True, mirror=True)
    draws = draw(transform, [(3, 6, 5)] * 400, np.random.default_rng(0))
    places = set(zip(draws.tops.tolist(), draws.lefts.tolist(), draws.mirrors.tolist(), strict=True))
    assert places == {(y, x, m) for y in range(3) for x in range(2) for m in (False, True)}


def test_mirrors_are_drawn_in_both_phases() -> None:
    draws = draw(Transform(mirror=True), [(1, 2, 2)] * 100, np.random.default_rng(0))
    assert 20 < draws.mirrors.sum() < 80


def test_phase_decides_on_random_crops() -> None:
    param = TransformationParameter(crop_size=4, mirror=True, scale=0.5, mean_value=[1, 2, 3])
    training, testing = load_transform(param, True), load_transform(param, False)
    assert training.random_crop
    assert not testing.random_crop
    assert testing.mirror
    assert (testing.crop, testing.scale) == (4, 0.5)
    assert np.array_equal(testing.mean_values, [1, 2, 3])


@pytest.mark.parametrize("legacy", [True, False])
def test_mean_file(
    tmp_path: Path, legacy: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    blob = BlobProto(num=1, channels=2, height=3, width=4) if legacy else BlobProto(shape=BlobShape(dim=[1, 2, 3, 4]))
    blob.data.extend(values.ravel())
    path = str(tmp_path / "mean.binaryproto")
    write_message(path, blob)
    assert np.array_equal(load_transform(TransformationParameter(mean_file=path), True).mean_image, values)
    assert capsys.readouterr().err.rstrip().endswith(f"data_transformer.cpp:25] Loading mean file from: {path}")


def test_of_two_shapes_and_kinds_of_numbers_the_mean_file_has_those_that_caffe_takes(tmp_path: Path) -> None:
    """Blob<Dtype>::FromProto: the four old fields before the shape, double precision before single."""
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    blob = BlobProto(num=1, channels=2, height=3, width=4, shape=BlobShape(dim=[24]), data=[9] * 24)
    blob.double_data.extend(values.ravel())
    path = str(tmp_path / "mean.binaryproto")
    write_message(path, blob)
    assert np.array_equal(load_transform(TransformationParameter(mean_file=path), True).mean_image, values)


def test_the_mean_file_recorded_from_caffe_is_read(golden: Path) -> None:
    path = str(golden / "files" / "mean.binaryproto")
    blob = BlobProto.FromString(Path(path).read_bytes())
    mean = load_transform(TransformationParameter(mean_file=path), True).mean_image
    assert mean is not None
    assert mean.shape == (blob.channels, blob.height, blob.width)
    assert np.array_equal(mean.ravel(), np.array(blob.data, np.float32))


def test_mistakes_have_caffes_words(tmp_path: Path, golden: Path) -> None:
    mean = Transform(mean_image=np.zeros((3, 32, 32), np.float32))
    few = Transform(mean_values=np.zeros(2, np.float32))
    param = TransformationParameter
    cases = {
        "crop-too-big": lambda: output_shape(Transform(crop=64), (3, 32, 32), "p"),
        "mean-both": lambda: load_transform(param(mean_file="m", mean_value=[1]), True),
        "mean-channels": lambda: output_shape(few, (3, 32, 32), "p"),
        "mean-missing": lambda: load_transform(param(mean_file="nomean"), True),
        "mean-size": lambda: output_shape(mean, (3, 40, 40), "p"),
        "no-resize-batch": lambda: check_batch(Transform(), [(3, 480, 553), (3, 490, 500)], ["p", "q"]),
    }
    for case, mistake in cases.items():
        with pytest.raises(CaffeError) as error:
            mistake()
        assert caffes_words(golden, case) in str(error.value), case


@pytest.mark.parametrize(
    ("second", "check"),
    [
        ((1, 8, 8), "channels == img_channels (3 vs. 1)"),
        ((3, 7, 9), "height <= img_height (8 vs. 7)"),
        ((3, 8, 9), "width == img_width (8 vs. 9)"),
    ],
)
def test_a_picture_that_does_not_fit_its_batch_is_named(second: tuple[int, int, int], check: str) -> None:
    with pytest.raises(DataError) as error:
        check_batch(Transform(), [(3, 8, 8), second], ["first.png", "second.png"])
    assert check in str(error.value)
    assert "second.png has another size than the first picture of its batch, first.png" in str(error.value)


def test_both_forced_colours_are_refused() -> None:
    with pytest.raises(DataError, match="cannot set both force_color and force_gray"):
        load_transform(TransformationParameter(force_color=True, force_gray=True), True)


def test_a_mean_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "odd.binaryproto")
    write_message(path, BlobProto(num=2, channels=3, height=4, width=5, data=[0] * 120))
    with pytest.raises(DataError, match=r"odd.binaryproto: expected the mean of one picture .* got 120 values"):
        load_transform(TransformationParameter(mean_file=path), True)

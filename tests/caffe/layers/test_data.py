from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe import rng
from caffe.errors import CaffeError, DataError, LayerError
from caffe.layers import registry
from caffe.layers.base import Layer
from caffe.proto.caffe_pb2 import TEST, TRAIN, LayerParameter
from caffe.tools import convert_imageset

MEAN = np.array([104, 117, 123], np.float32)[:, None, None]
MEANS = "mean_value: 104 mean_value: 117 mean_value: 123"


class Layers:
    """Makes layers from text and closes them after the test."""

    def __init__(self) -> None:
        self.made: list[Layer] = []

    def __call__(self, text: str, phase: int = TRAIN) -> Layer:
        param = text_format.Parse(text, LayerParameter(name="data"))
        param.phase = phase  # type: ignore[assignment]
        layer = registry.create(param, torch.device("cpu"))
        layer.setup([])
        self.made.append(layer)
        return layer


@pytest.fixture
def make() -> Iterator[Layers]:
    layers = Layers()
    yield layers
    for layer in layers.made:
        layer.close()


def image_data(source: object, more: str = "", transform: str = "") -> str:
    return (
        f'type: "ImageData" top: "data" top: "label" transform_param {{ {transform} }} '
        f'image_data_param {{ source: "{source}" {more} }}'
    )


def data(source: object, more: str = "backend: LMDB batch_size: 2", transform: str = "") -> str:
    return (
        f'type: "Data" top: "data" top: "label" transform_param {{ {transform} }} '
        f'data_param {{ source: "{source}" {more} }}'
    )


def batches(layer: Layer, count: int) -> list[np.ndarray]:
    return [top.numpy() for _ in range(count) for top in layer.forward()]


@pytest.fixture
def database(make_pictures: Any, tmp_path: Path) -> tuple[str, list[np.ndarray]]:
    listing, pictures = make_pictures([(8, 10)] * 3)
    path = str(tmp_path / "db")
    assert convert_imageset.main(["", str(listing), path]) == 0
    return path, pictures


def test_testing_crops_the_middle_of_each_picture_in_order(make: Layers, make_pictures: Any) -> None:
    listing, pictures = make_pictures([(9, 10)] * 3)
    layer = make(image_data(listing, "batch_size: 2", f"crop_size: 6 scale: 0.5 {MEANS}"), TEST)
    assert layer.reshape([]) == [(2, 3, 6, 6), (2,)]
    for first in (0, 2):
        values, labels = (top.numpy() for top in layer.forward())
        order = [first, (first + 1) % 3]
        expected = [(pictures[i].transpose(2, 0, 1)[:, 1:7, 2:8] - MEAN) * np.float32(0.5) for i in order]
        assert np.array_equal(values, np.stack(expected))
        assert labels.tolist() == order


def test_training_cuts_at_random_places_and_mirrors(make: Layers, make_pictures: Any) -> None:
    listing, pictures = make_pictures([(7, 6)] * 2)
    layer = make(image_data(listing, "batch_size: 8 shuffle: true", "crop_size: 5 mirror: true"))
    found = set()
    for _ in range(20):
        values, labels = (top.numpy() for top in layer.forward())
        for value, label in zip(values, labels, strict=True):
            picture = pictures[int(label)].transpose(2, 0, 1)
            places = [
                (y, x, mirrored)
                for y in range(3)
                for x in range(2)
                for mirrored in (False, True)
                if np.array_equal(value[:, :, ::-1] if mirrored else value, picture[:, y : y + 5, x : x + 5])
            ]
            assert len(places) == 1
            found.add(places[0])
    assert len(found) == 12


def test_the_seed_decides(make: Layers, make_pictures: Any) -> None:
    listing, _ = make_pictures([(7, 6)] * 10)
    text = image_data(listing, "batch_size: 4 shuffle: true", "crop_size: 5 mirror: true")
    runs = []
    for seed in (1, 1, 2):
        rng.set_random_seed(seed)
        runs.append(batches(make(text), 6))
    assert all(np.array_equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


@pytest.mark.parametrize("kind", ["ImageData", "Data"])
def test_reading_goes_on_from_a_saved_state(
    make: Layers, make_pictures: Any, database: tuple[str, list[np.ndarray]], kind: str
) -> None:
    listing, _ = make_pictures([(8, 10)] * 5)
    transform = "crop_size: 5 mirror: true"
    text = {
        "ImageData": image_data(listing, "batch_size: 2 shuffle: true", transform),
        "Data": data(database[0], transform=transform),
    }[kind]
    layer = make(text)
    batches(layer, 4)
    state = json.loads(json.dumps(layer.state()))  # type: ignore[attr-defined]
    expected = batches(layer, 6)
    again = make(text)
    again.restore(state)  # type: ignore[attr-defined]
    assert all(np.array_equal(a, b) for a, b in zip(expected, batches(again, 6), strict=True))


def test_a_database_gives_its_records(make: Layers, database: tuple[str, list[np.ndarray]]) -> None:
    path, pictures = database
    layer = make(data(path, transform=MEANS), TEST)
    for order in ([0, 1], [2, 0], [1, 2]):
        values, labels = (top.numpy() for top in layer.forward())
        assert np.array_equal(values, np.stack([pictures[i].transpose(2, 0, 1) - MEAN for i in order]))
        assert labels.tolist() == order


def test_the_label_of_a_database_is_optional(make: Layers, database: tuple[str, list[np.ndarray]]) -> None:
    layer = make(data(database[0]).replace('top: "label"', ""), TEST)
    assert layer.reshape([]) == [(2, 3, 8, 10)]
    assert [tuple(top.shape) for top in layer.forward()] == [(2, 3, 8, 10)]


def test_encoded_records_and_forced_grey(make: Layers, make_pictures: Any, tmp_path: Path) -> None:
    listing, pictures = make_pictures([(8, 10)] * 2)
    path = str(tmp_path / "encoded")
    assert convert_imageset.main(["-encoded", "", str(listing), path]) == 0
    colour = make(data(path), TEST).forward()[0].numpy()
    assert np.array_equal(colour, np.stack([p.transpose(2, 0, 1) for p in pictures]))
    grey = make(data(path, transform="force_gray: true"), TEST).forward()[0].numpy()
    expected = [cv2.imdecode(cv2.imencode(".png", p)[1], cv2.IMREAD_GRAYSCALE)[None] for p in pictures]
    assert np.array_equal(grey, np.stack(expected))


def test_sizes_may_differ_where_there_is_a_crop(make: Layers, make_pictures: Any) -> None:
    listing, pictures = make_pictures([(8, 9), (6, 12)])
    layer = make(image_data(listing, "batch_size: 2", "crop_size: 6"), TEST)
    values = layer.forward()[0].numpy()
    assert np.array_equal(values[0], pictures[0].transpose(2, 0, 1)[:, 1:7, 1:7])
    assert np.array_equal(values[1], pictures[1].transpose(2, 0, 1)[:, :, 3:9])


def test_a_batch_of_one_takes_each_pictures_size(make: Layers, make_pictures: Any) -> None:
    listing, _ = make_pictures([(8, 9), (6, 12)])
    layer = make(image_data(listing, "batch_size: 1"), TEST)
    assert layer.reshape([])[0] == (1, 3, 8, 9)
    layer.forward()
    assert tuple(layer.forward()[0].shape) == (1, 3, 6, 12)
    assert layer.reshape([])[0] == (1, 3, 6, 12)


def test_sizes_that_differ_within_a_batch_are_named(make: Layers, make_pictures: Any) -> None:
    listing, _ = make_pictures([(8, 9), (9, 8)])
    layer = make(image_data(listing, "batch_size: 2"), TEST)
    with pytest.raises(DataError, match=r"Check failed: width <= img_width \(9 vs. 8\) .*picture 1.png"):
        layer.forward()


def test_log_lines(
    make: Layers,
    make_pictures: Any,
    database: tuple[str, list[np.ndarray]],
    golden: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The five pictures of the recorded run, named as there."""
    monkeypatch.setenv("GLOG_minloglevel", "0")
    listing, _ = make_pictures([(32, 32)] * 5)
    make(image_data(listing, "batch_size: 5 shuffle: true", "crop_size: 24"))
    lines = [line.split(None, 3)[3] for line in capsys.readouterr().err.splitlines()]
    recorded = [line for line in (golden / "logs" / "train.log").read_text().splitlines() if "image_data_layer" in line]
    expected = [line.split("] ")[0].split()[-1] + "] " + line.split("] ")[1] for line in recorded[:4]]
    assert [line.replace(str(listing), "list.txt") for line in lines] == expected
    make(data(database[0]))
    lines = [line.split(None, 3)[3] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        f"db_lmdb.cpp:35] Opened lmdb {database[0]}",
        "data_layer.cpp:45] output data size: 2,3,8,10",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (image_data("{list}", "batch_size: 0"), "Positive batch size required"),
        (data("{db}", "backend: LMDB"), "Positive batch size required"),
        (data("{db}", "backend: LMDB batch_size: 1 prefetch: 0"), "data_param.prefetch must be 1 or more"),
        (data("{db}", "batch_size: 1"), "write backend: LMDB"),
        (image_data("{list}", transform="crop_size: 11"), "img_height >= crop_size (8 vs. 11)"),
        (image_data("{list}", transform="mean_value: 1 mean_value: 2"), "as many as channels: 3"),
    ],
)
def test_mistakes_are_told_at_set_up(
    make: Layers, make_pictures: Any, database: tuple[str, list[np.ndarray]], text: str, problem: str
) -> None:
    listing, _ = make_pictures([(8, 10)] * 3)
    with pytest.raises(CaffeError) as error:
        make(text.replace("{list}", str(listing)).replace("{db}", database[0]))
    assert problem in str(error.value)


def test_input_has_the_shapes_as_written(make: Layers) -> None:
    one, two = "shape { dim: 2 dim: 3 }", "shape { dim: 4 }"
    tops = 'type: "Input" top: "a" top: "b"'
    assert make(f"{tops} input_param {{ {one} {two} }}").reshape([]) == [(2, 3), (4,)]
    assert make(f"{tops} input_param {{ {one} }}").reshape([]) == [(2, 3), (2, 3)]
    assert make(tops).reshape([]) == [(), ()]
    with pytest.raises(LayerError, match=r"once per top blob, or not at all: 2 tops vs. 3 shapes\."):
        make(f"{tops} input_param {{ {one} {one} {two} }}")


def test_rand_skip_of_a_database_is_said_to_do_nothing(
    make: Layers,
    database: tuple[str, list[np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "1")
    layer = make(data(database[0], "backend: LMDB batch_size: 2 rand_skip: 2"), TEST)
    assert "data: rand_skip of data_param has no effect" in capsys.readouterr().err
    assert layer.forward()[1].tolist() == [0, 1]

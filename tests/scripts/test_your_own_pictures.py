"""From a folder of pictures to a model folder: make_dataset.py, new_model.py and show_data.py as a user calls them."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto.caffe_pb2 import NetParameter, SolverParameter

ROOT = Path(__file__).parents[2]
CLASSES = ("daisy", "iris", "sweet pea")
GOOD = 12  # pictures of each class


def run(script: str, *words: object, cwd: Path | None = None) -> tuple[int, str, str]:
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """A folder per class of noise pictures, no two alike."""
    random, folder = np.random.default_rng(0), tmp_path / "flowers"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(GOOD):
            picture = random.integers(0, 256, (40, 50, 3), np.uint8)
            assert cv2.imwrite(str(folder / name / f"{i}.png"), picture)
    return folder


def entries(path: Path) -> list[tuple[str, int]]:
    return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in path.read_text().splitlines()]


def test_splits_are_stratified_seeded_and_disjoint(flowers: Path, tmp_path: Path) -> None:
    status, _, err = run("make_dataset.py", flowers, "-o", tmp_path / "a", "--split", 0.5, 0.25, 0.25)
    assert status == 0, err
    lists = {name: entries(tmp_path / "a" / f"{name}.txt") for name in ("train", "valid", "test")}
    assert (tmp_path / "a" / "labels.txt").read_text().splitlines() == list(CLASSES)
    for name, share in (("train", 6), ("valid", 3), ("test", 3)):
        labels = [label for _, label in lists[name]]
        assert sorted(labels) == sorted([0, 1, 2] * share)
        assert all(Path(path).parent.name == CLASSES[label] for path, label in lists[name])
    paths = [path for rows in lists.values() for path, _ in rows]
    assert len(set(paths)) == len(paths) == 3 * GOOD
    assert run("make_dataset.py", flowers, "-o", tmp_path / "b", "--count", 6, 3, 3)[0] == 0
    assert run("make_dataset.py", flowers, "-o", tmp_path / "c", "--count", 6, 3, 3, "--seed", 1)[0] == 0
    again, other = (entries(tmp_path / name / "train.txt") for name in "bc")
    assert sorted(again) == sorted(lists["train"])
    assert sorted(other) != sorted(again)


def test_bad_pictures_are_reported_and_left_out(flowers: Path, tmp_path: Path) -> None:
    (flowers / "iris" / "broken.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(flowers / "iris" / "tiny.png"), np.zeros((8, 8, 3), np.uint8))
    shutil.copy(flowers / "daisy" / "0.png", flowers / "daisy" / "twin.png")
    shutil.copy(flowers / "iris" / "1.png", flowers / "daisy" / "stray.png")
    (flowers / "iris" / "2.png").rename(flowers / "iris" / "2.jpg")
    output = tmp_path / "data"
    status, out, err = run("make_dataset.py", flowers, "-o", output, "--strict")
    assert status == 1
    assert not output.exists()
    status, out, err = run("make_dataset.py", flowers, "-o", output)
    assert status == 0, err
    with (output / "report.csv").open(newline="") as file:
        report = " ".join(",".join(row) for row in csv.reader(file))
    for name in ("broken.jpg", "tiny.png", "twin.png", "stray.png", "2.jpg"):
        assert name in report
        assert name in out + err
    listed = {Path(path).name for name in ("train", "valid", "test") for path, _ in entries(output / f"{name}.txt")}
    assert listed.isdisjoint({"broken.jpg", "tiny.png", "stray.png"})
    assert "2.jpg" in listed
    status, _, err = run("make_dataset.py", flowers, "-o", output)
    assert status == 1
    assert "--force" in err


def test_a_csv_of_paths_and_labels(flowers: Path, tmp_path: Path) -> None:
    rows = [f"{name}/{i}.png,{name}" for name in CLASSES for i in range(GOOD)]
    (flowers / "list.csv").write_text("\n".join(["path,label", *rows]))
    status, _, err = run("make_dataset.py", flowers / "list.csv", "-o", tmp_path / "data", "--count", 8, 2, 2)
    assert status == 0, err
    train = entries(tmp_path / "data" / "train.txt")
    assert len(train) == 24
    assert all(cv2.imread(path) is not None for path, _ in train)


def test_a_model_for_it_loads_and_its_schedule_fits(flowers: Path, tmp_path: Path) -> None:
    data, model = tmp_path / "data", tmp_path / "Mine-SqueezeNet"
    assert run("make_dataset.py", flowers, "-o", data)[0] == 0
    status, _, err = run("new_model.py", "SqueezeNet", "--classes", 3, "--data", data, "-o", model)
    assert status == 0, err
    net = text_format.Parse((model / "train_val.prototxt").read_text(), NetParameter())
    sources = [layer.image_data_param for layer in net.layer if layer.type == "ImageData"]
    assert [(model / param.source).resolve() for param in sources] == [data / "train.txt", data / "valid.txt"]
    last = [layer for layer in net.layer if layer.type == "Convolution"][-1]
    assert last.convolution_param.num_output == 3
    assert "102" not in last.name
    solver = text_format.Parse((model / "solver.prototxt").read_text(), SolverParameter())
    assert solver.test_iter[0] * sources[1].batch_size == len(entries(data / "valid.txt"))
    deployed = caffe.Net(str(model / "deploy.prototxt"), caffe.TEST)
    assert deployed.blobs["prob"].shape[1] == 3
    status, _, err = run("new_model.py", "SqueezeNet", "--classes", 4, "--data", data, "-o", tmp_path / "other")
    assert status == 1
    assert "3" in err
    assert not (tmp_path / "other").exists()


def test_pictures_of_the_data(flowers: Path, tmp_path: Path) -> None:
    assert run("make_dataset.py", flowers, "-o", tmp_path / "data")[0] == 0
    status, out, err = run("show_data.py", tmp_path / "data", "-o", tmp_path / "shots")
    assert status == 0, err
    assert "train: 18 pictures" in out
    for name in ("histogram.png", "samples.png"):
        picture = cv2.imread(str(tmp_path / "shots" / name))
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 10


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("make_dataset.py", "nowhere", "-o", "x"), "nowhere"),
        (("make_dataset.py", "empty", "-o", "x"), "empty"),
        (("show_data.py", "nowhere", "-o", "x"), "nowhere"),
        (("new_model.py", "NoNet", "--classes", "3", "--data", "empty", "-o", "x"), "NoNet"),
        (("new_model.py", "SqueezeNet", "--classes", "3", "--data", "empty", "-o", "x"), "empty"),
    ],
)
def test_one_line_for_what_is_not_there(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    (tmp_path / "empty").mkdir()
    status, _, err = run(*words, cwd=tmp_path)
    assert status in (1, 2)
    assert text in err
    assert not (tmp_path / "x").exists()

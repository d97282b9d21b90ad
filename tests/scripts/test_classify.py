"""Scores of pictures against OpenCV: its resize, its Caffe importer, crops by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from conftest import Run

NET = ("--model_def", "deploy.prototxt", "--pretrained_model", "small.caffemodel", "--images_dim", "32,30")
MEAN = ("--mean_file", "mean.npy")


def scores(folder: Path, picture: NDArray[np.float32], center_only: bool = False) -> NDArray[np.float32]:
    """What OpenCV makes of a BGR picture of 0 to 255."""
    mean = np.load(folder / "mean.npy").mean(axis=(1, 2))
    squeezed = cv2.resize(picture, (30, 32)) - mean.astype(np.float32)
    places = [(4, 5)] if center_only else [(0, 0), (0, 10), (8, 0), (8, 10), (4, 5)]
    crops = [squeezed[top : top + 24, left : left + 20] for top, left in places]
    if not center_only:
        crops += [crop[:, ::-1] for crop in crops]
    net = cv2.dnn.readNetFromCaffe(str(folder / "deploy.prototxt"), str(folder / "small.caffemodel"))
    net.setInput(np.stack([crop.transpose(2, 0, 1) for crop in crops]).astype(np.float32))
    return net.forward().reshape(len(crops), -1).mean(axis=0)


def read(path: Path) -> NDArray[np.float32]:
    return cv2.imread(str(path)).astype(np.float32)


def test_a_folder_is_scored_in_order_of_names(small: Path, run: Run) -> None:
    done = run("classify.py", "pictures", "out", *NET, *MEAN, "--ext", "png")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:3] == ["CPU mode", "Loading folder: pictures", "Classifying 3 inputs."]
    assert lines[4] == "Saving results into out.npy"
    found = np.load(small / "out.npy")
    assert (found.shape, found.dtype) == ((3, 6), np.float32)
    for row, name in zip(found, "abc", strict=True):
        np.testing.assert_allclose(row, scores(small, read(small / "pictures" / f"{name}.png")), rtol=1e-4)


def test_a_picture_at_its_centre(small: Path, run: Run) -> None:
    assert run("classify.py", "pictures/a.png", "out.npy", *NET, *MEAN, "--center_only").returncode == 0
    expected = scores(small, read(small / "pictures/a.png"), center_only=True)
    np.testing.assert_allclose(np.load(small / "out.npy").ravel(), expected, rtol=1e-4)


def test_an_array_of_pictures(small: Path, run: Run) -> None:
    pictures = np.stack([read(small / "pictures" / f"{name}.png")[:, :, ::-1] / 255 for name in "ab"])
    np.save(small / "in.npy", pictures)
    assert run("classify.py", "in.npy", "out.npy", *NET, *MEAN).returncode == 0
    expected = [scores(small, read(small / "pictures" / f"{name}.png")) for name in "ab"]
    np.testing.assert_allclose(np.load(small / "out.npy"), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent.jpg", "o"], "absent.jpg: no such picture, folder or .npy file"),
        (["pictures", "o"], "pictures: no picture that ends in .jpg in this folder; --ext names another ending"),
        (["pictures", "o", "--ext", "txt"], "pictures/notes.txt is not a picture that can be read"),
        (["pictures/a.png", "no/o"], "no/o.npy: there is no folder no; make it first"),
        (["mean.npy", "o"], "mean.npy is 3x9x7, expected pictures x height x width x channels"),
        (["bad.npy", "o"], "bad.npy is not a .npy file of numbers"),
        (["pictures/a.png", "o", "--mean_file", "x.npy"], "x.npy: no such file; name one with --mean_file"),
        (["pictures/a.png", "o", "--mean_file", "pictures/notes.txt"], "pictures/notes.txt is not a mean picture"),
        (["pictures/a.png", "o", "--model_def", "x"], "x: no such file; name the right one with --model_def"),
        (["pictures/a.png", "o", "--images_dim", "8,8"], "deploy.prototxt with small.caffemodel: image_dims"),
        (["pictures/a.png", "o", "--channel_swap", "0"], "deploy.prototxt with small.caffemodel: Channel swap"),
        (["pictures/a.png", "o", "--pretrained_model", "mean.npy"], "deploy.prototxt with mean.npy: "),
    ],
)
def test_mistakes_are_told_in_one_line(small: Path, run: Run, args: list[str], message: str) -> None:
    (small / "bad.npy").write_bytes(b"no array")
    before = sorted(small.iterdir())
    done = run("classify.py", *args[:2], *NET, *MEAN, *args[2:])
    assert done.returncode == 1
    assert done.stderr.startswith(f"classify.py: error: {message}")
    assert done.stderr.count("\n") == 1
    assert sorted(small.iterdir()) == before


def test_a_net_without_input_is_told(small: Path, run: Run) -> None:
    layer = 'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 1 } } }'
    (small / "deploy.prototxt").write_text(layer)
    done = run("classify.py", "pictures/a.png", "o", *NET, *MEAN)
    assert done.returncode == 1
    cure = "give the deploy prototxt, not the one of training"
    assert done.stderr == f"classify.py: error: deploy.prototxt: the net has no input; {cure}\n"


@pytest.mark.parametrize("args", [["a"], ["a", "b", "--images_dim", "256"], ["a", "b", "--channel_swap", "r,g,b"]])
def test_usage(run: Run, args: list[str]) -> None:
    assert run("classify.py", *args).returncode == 2


def test_help_has_examples(run: Run) -> None:
    assert "python scripts/classify.py rose.jpg scores.npy" in run("classify.py", "--help").stdout

"""Scores of windows against OpenCV's Caffe importer, the windows cut out by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from conftest import Run

NET = ("--model_def", "deploy.prototxt", "--pretrained_model", "small.caffemodel", "--mean_file", "mean.npy")
LIST = ("--crop_mode", "list", "--context_pad", "0")
WINDOWS = """filename, xmin, ymin, xmax, ymax
pictures/a.png,5,2,35,48
pictures/b.png,0,0,40,50
pictures/a.png,10,10,30,34
"""


@pytest.fixture
def windows(small: Path) -> Path:
    (small / "windows.csv").write_text(WINDOWS)
    return small


def expected(folder: Path) -> NDArray[np.float32]:
    """Scores of the three windows, a picture's together."""
    net = cv2.dnn.readNetFromCaffe(str(folder / "deploy.prototxt"), str(folder / "small.caffemodel"))
    mean = np.load(folder / "mean.npy").mean(axis=(1, 2)).astype(np.float32)
    crops = []
    for name, ymin, xmin, ymax, xmax in (("a", 2, 5, 48, 35), ("a", 10, 10, 34, 30), ("b", 0, 0, 50, 40)):
        picture = cv2.imread(str(folder / "pictures" / f"{name}.png")).astype(np.float32)
        crops.append((cv2.resize(picture[ymin:ymax, xmin:xmax], (20, 24)) - mean).transpose(2, 0, 1))
    net.setInput(np.stack(crops))
    return net.forward().reshape(3, -1)


def test_a_table_of_scores(windows: Path, run: Run) -> None:
    done = run("detect.py", "windows.csv", "out.csv", *NET, *LIST)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Loading input...", "CPU mode"]
    assert lines[2].startswith("Processed 3 windows in ")
    assert lines[3].startswith("Saved to out.csv in ")
    with (windows / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["filename", "ymin", "xmin", "ymax", "xmax", *(f"class{i}" for i in range(6))]
    assert [row[:5] for row in rows[1:]] == [
        ["pictures/a.png", "2", "5", "48", "35"],
        ["pictures/a.png", "10", "10", "34", "30"],
        ["pictures/b.png", "0", "0", "50", "40"],
    ]
    np.testing.assert_allclose([[float(x) for x in row[5:]] for row in rows[1:]], expected(windows), rtol=1e-4)


def test_three_arrays_of_scores(windows: Path, run: Run) -> None:
    assert run("detect.py", "windows.csv", "out.h5", *NET, *LIST).returncode == 0
    with h5py.File(windows / "out.h5") as file:
        assert list(file["filename"].asstr()) == ["pictures/a.png", "pictures/a.png", "pictures/b.png"]
        assert list(file["window"].attrs["columns"]) == ["ymin", "xmin", "ymax", "xmax"]
        np.testing.assert_array_equal(file["window"], [[2, 5, 48, 35], [10, 10, 34, 30], [0, 0, 50, 40]])
        np.testing.assert_allclose(file["prediction"], expected(windows), rtol=1e-4)


def mistake(windows: Path, run: Run, *args: str) -> str:
    before = sorted(windows.iterdir())
    done = run("detect.py", *args[:2], *NET, *LIST, *args[2:])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert sorted(windows.iterdir()) == before
    return done.stderr.removeprefix("detect.py: error: ")


def test_mistakes_are_told_in_one_line(windows: Path, run: Run) -> None:
    told = mistake(windows, run, "windows.csv", "out.txt")
    assert told == "out.txt: expected a name that ends in .csv or .h5\n"
    told = mistake(windows, run, "absent.csv", "out.csv")
    assert told == "absent.csv: No such file or directory\n"
    told = mistake(windows, run, "windows.txt", "out.csv")
    assert told.startswith("windows.txt: --crop_mode list takes a .csv file with the windows as filename,xmin")


def test_selective_search_without_its_program_is_told(windows: Path, run: Run) -> None:
    (windows / "names.txt").write_text("pictures/a.png\n")
    told = mistake(windows, run, "names.txt", "out.csv", "--crop_mode", "selective_search")
    assert "selective search needs the module selective_search_ijcv_with_python on PYTHONPATH" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column filename, ymin, xmin, ymax, xmax; the first line names filename,xmin,ymin,xmax,ymax"),
        ("filename,xmin,ymin,xmax\n", "no column ymax"),
        ("filename,xmin,ymin,xmax,ymax\n", "no window in it"),
        ("filename,xmin,ymin,xmax,ymax\npictures/a.png,1,2,x,4\n", "line 2: expected whole numbers of pixels"),
        ("filename,xmin,ymin,xmax,ymax\npictures/a.png,1,2\n", "line 2: expected whole numbers of pixels"),
        ("filename,xmin,ymin,xmax,ymax\npictures/a.png,9,9,5,20\n", "is no window of a picture"),
        ("filename,xmin,ymin,xmax,ymax\npictures/z.png,1,2,5,20\n", "No such file or directory"),
        ("filename,xmin,ymin,xmax,ymax\npictures/notes.txt,1,2,5,20\n", "notes.txt"),
        ("filename,xmin,ymin,xmax,ymax\npictures/a.png,90,90,95,95\n", "windows.csv"),
    ],
)
def test_bad_windows_are_told(windows: Path, run: Run, text: str, message: str) -> None:
    (windows / "windows.csv").write_text(text)
    assert message in mistake(windows, run, "windows.csv", "out.csv")


def test_usage_and_help(run: Run) -> None:
    assert run("detect.py", "a.csv", "b.csv", "--crop_mode", "center_only").returncode == 2
    assert "python scripts/detect.py windows.csv scores.csv --crop_mode list" in run("detect.py", "--help").stdout

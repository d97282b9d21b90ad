"""The command as a user calls it: what it prints, what it writes, its status."""

from __future__ import annotations

import csv
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 10 dim: 3 dim: 20 dim: 20 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
NET = ["deploy.prototxt", "colours.caffemodel", "128", "20"]
COLOURS = {"blue.png": (200, 40, 40), "green.png": (40, 200, 40), "red.png": (40, 40, 200)}  # BGR


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A net that names the strongest colour of a picture, three pictures and the names."""
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST)
    net.params["fc"][0].data[...] = np.eye(3) / 80
    net.save(str(tmp_path / "colours.caffemodel"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.txt").write_text("blue bell\ngreen hellebore\nred rose\n")
    (tmp_path / "pictures").mkdir()
    for name, colour in COLOURS.items():
        cv2.imwrite(str(tmp_path / "pictures" / name), np.full((30, 40, 3), colour, np.uint8))
    return tmp_path


@dataclass(frozen=True)
class Done:
    """How the command ended, whether it ran here or as a process."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command with these arguments, in the folder; in this process, for speed."""
    monkeypatch.chdir(folder)
    main = runpy.run_path(str(ROOT / "predict.py"))["main"]

    def call(*args: str) -> Done:
        try:
            status = main(args)
        except SystemExit as end:
            status = end.code
        return Done(status, *capsys.readouterr())

    return call


def process(cwd: Path, *args: str, **environment: str) -> Done:
    """The same as a process of its own."""
    command = [sys.executable, str(ROOT / "predict.py"), *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment)
    return Done(done.returncode, done.stdout, done.stderr)


def chances() -> list[float]:
    """Of the strongest colour and the two others: softmax of (200 - 128) / 80 and (40 - 128) / 80 twice."""
    powers = np.exp([72 / 80, -88 / 80, -88 / 80])
    return [float(power) for power in powers / powers.sum()]


def test_one_picture(folder: Path) -> None:
    done = process(folder, "pictures/red.png", *NET)
    high, low, _ = chances()
    assert done.stdout.splitlines() == [
        f"{high:.4f}  red rose",
        f"{low:.4f}  blue bell",
        f"{low:.4f}  green hellebore",
        "red-prediction.png",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    drawn = cv2.imread(str(folder / "red-prediction.png"))
    assert drawn[drawn.shape[0] // 2, drawn.shape[1] // 2].tolist() == [40, 40, 200]


def test_the_picture_has_name_and_probability_as_title(run: Run, folder: Path) -> None:
    run("pictures/red.png", *NET, "--output", "p.svg")
    assert f"<!-- red rose: {chances()[0]:.4f} -->" in (folder / "p.svg").read_text()


def test_options_may_stand_in_between(run: Run) -> None:
    done = run("pictures/blue.png", "--top", "1", *NET[:2], "--center-only", *NET[2:])
    assert done.stdout.splitlines() == [f"{chances()[0]:.4f}  blue bell", "blue-prediction.png"]


def test_json(run: Run, folder: Path) -> None:
    done = run("pictures/green.png", *NET, "--json", "--top", "2")
    ((row,), (high, low, _)) = json.loads(done.stdout), chances()
    assert row["image"] == "pictures/green.png"
    assert [(guess["number"], guess["name"]) for guess in row["guesses"]] == [(1, "green hellebore"), (0, "blue bell")]
    assert [guess["probability"] for guess in row["guesses"]] == pytest.approx([high, low], rel=1e-5)
    assert (folder / "green-prediction.png").exists()


def test_several_pictures(run: Run, folder: Path) -> None:
    done = run("pictures/red.png", "pictures/blue.png", *NET)
    high = f"{chances()[0]:.4f}"
    assert done.stdout.splitlines() == [f"pictures/red.png: red rose {high}", f"pictures/blue.png: blue bell {high}"]
    assert list(folder.glob("*-prediction.png")) == []


def test_a_folder_makes_a_table(folder: Path) -> None:
    done = process(folder, "pictures", *NET, "--output", "table.csv", "--top", "2")
    assert (done.returncode, done.stderr) == (0, "")  # no progress bar where nobody looks
    with (folder / "table.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "name_1", "probability_1", "name_2", "probability_2"]
    assert [row[:2] for row in rows] == [
        ["pictures/blue.png", "blue bell"],
        ["pictures/green.png", "green hellebore"],
        ["pictures/red.png", "red rose"],
    ]
    assert [float(row[2]) for row in rows] == pytest.approx([chances()[0]] * 3, abs=1e-6)


def test_a_broken_picture_in_a_folder_is_told_and_the_others_are_done(run: Run, folder: Path) -> None:
    (folder / "pictures" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    done = run("pictures", *NET, "--output", "table.csv")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "predict.py: pictures/cut.jpg is not a picture that can be read; give a JPEG, PNG or the like",
        "predict.py: error: 1 of 4 pictures could not be read; the others are done",
    ]
    assert len((folder / "table.csv").read_text().splitlines()) == 4


def test_show_opens_the_drawing(folder: Path) -> None:
    viewer = folder / "viewer.py"
    viewer.write_text(f"#!{sys.executable}\nimport sys\nopen('shown', 'w').write(sys.argv[1])\n")
    viewer.chmod(0o755)
    done = process(folder, "pictures/red.png", *NET, "--show", BROWSER=f"{viewer} %s")
    assert done.returncode == 0
    assert (folder / "shown").read_text() == (folder / "red-prediction.png").resolve().as_uri()


def test_names_may_be_missing(run: Run, folder: Path) -> None:
    (folder / "data" / "labels.txt").write_text("red rose\n")
    done = run("pictures/red.png", *NET)
    assert done.stdout.splitlines()[0] == f"{chances()[0]:.4f}  class 2"
    assert "data/labels.txt has 1 names, the net has 3 outputs; classes are told by number" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent.png", *NET], "absent.png: no such picture or folder"),
        (["deploy.prototxt", *NET], "deploy.prototxt is not a picture that can be read"),
        (["pictures/red.png", "absent", *NET[1:]], "absent: no such file"),
        (["pictures/red.png", *NET[:1], "absent", *NET[2:]], "absent: no such file"),
        (["pictures/red.png", *NET[:1], "data/labels.txt", *NET[2:]], "deploy.prototxt with data/labels.txt: "),
        (["pictures/red.png", *NET[:2], "absent.npy", "20"], "absent.npy: No such file or directory"),
        (["pictures/red.png", *NET[:2], "1,2", "20"], "'1,2' is not a mean; give a .npy or .binaryproto file"),
        (["pictures/red.png", *NET[:3], "21"], "deploy.prototxt takes 20x20 pixels, not 21x21; give 20"),
        (["pictures/red.png", *NET, "--labels", "absent.txt"], "absent.txt: no such file; expected the names"),
        (
            ["pictures/red.png", *NET, "--labels", "deploy.prototxt"],
            "deploy.prototxt has 4 names, the net has 3 outputs",
        ),
        (
            ["pictures/red.png", *NET, "--output", "p.csv"],
            "--output p.csv: one picture makes a picture; let the name end",
        ),
        (["pictures", *NET, "--output", "p.png"], "--output p.png: several pictures make a table; let the name end"),
        (["pictures", *NET, "--show"], "--show opens the drawing of one picture; give one picture"),
    ],
)
def test_mistakes_are_told_in_one_line(run: Run, folder: Path, args: list[str], message: str) -> None:
    done = run(*args)
    assert done.returncode == 1
    assert done.stderr.startswith(f"predict.py: error: {message}")
    assert done.stderr.count("\n") == 1
    assert list(folder.glob("*-prediction.png")) == []


@pytest.mark.parametrize("args", [[], ["a.jpg", *NET[:3]], ["a.jpg", *NET[:3], "large"], ["a.jpg", *NET, "--top", "0"]])
def test_a_wrong_command_line_has_status_2(run: Run, args: list[str]) -> None:
    done = run(*args)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: predict.py")


def test_help_has_examples(tmp_path: Path) -> None:
    done = process(tmp_path, "--help")
    assert done.returncode == 0
    assert "python predict.py rose.jpg C/deploy.prototxt" in done.stdout

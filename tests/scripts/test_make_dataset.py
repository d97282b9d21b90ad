"""The command; what it writes is compared in tests/oxford102/test_dataset.py. The three commands in a row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    random = np.random.default_rng(6)
    for name in ("rose", "lily"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for number in range(8):
            picture = random.integers(0, 256, (36, 36, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "flowers" / name / f"{number}.png"), picture)
    return tmp_path / "flowers"


def test_your_own_pictures_in_three_commands(flowers: Path, run: Run) -> None:
    done = run("make_dataset.py", flowers, "-o", "data/mine", "--count", "4", "2", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("data/mine: 2 classes, train 8 · valid 4 · test 4; 0 pictures left out\n")
    done = run("show_data.py", "data/mine", "-o", "shots")
    assert (done.returncode, done.stderr) == (0, "")
    done = run("new_model.py", "Demo", "--classes", "2", "--data", "data/mine", "-o", "models/Own-Demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("models/Own-Demo: ready; its README.md has the commands\n")
    assert 'source: "../../data/mine/train.txt"' in (flowers.parent / "models/Own-Demo/train_val.prototxt").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent", "-o", "data"], "absent does not exist"),
        (["flowers", "-o", "flowers/rose"], "flowers/rose is among the pictures of flowers"),
        (["flowers", "-o", "data", "--count", "6", "2", "2"], "2 of 2 classes have too few pictures"),
        (["flowers", "-o", "data", "--min-side", "37"], "2 of 2 classes have too few pictures"),
    ],
)
def test_mistakes_end_in_one_line(flowers: Path, run: Run, args: list[str], message: str) -> None:
    done = run("make_dataset.py", *args)
    assert done.returncode == 1
    assert done.stderr.startswith(f"make_dataset.py: error: {message}")
    assert done.stderr.count("\n") == 1
    assert not (flowers.parent / "data").exists()


def test_usage_and_help(run: Run) -> None:
    assert run("make_dataset.py", "flowers").returncode == 2
    for flags in (["--split", "1", "1", "1"], ["--count", "1", "-1", "1"], ["--seed", "-1"], ["--split", "0.5", "0.5"]):
        assert run("make_dataset.py", "flowers", "-o", "data", *flags).returncode == 2
    assert "python scripts/make_dataset.py flowers -o data/mine" in run("make_dataset.py", "--help").stdout

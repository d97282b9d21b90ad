"""The command; its pictures are compared in tests/oxford102/test_resize.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from conftest import Run


def test_pictures_of_a_list(small: Path, run: Run) -> None:
    (small / "list.txt").write_text("a.png 0\nb.png 1\n")
    flags = ("--input=list.txt", "--input_folder=pictures/", "--output_folder=out")
    done = run("resize_and_crop_images.py", *flags, "--output_side_length=20", "--num_clients=2", "--image_lib=OpenCV")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 pictures of 20x20 pixels are in out\n", "")
    expected = cv2.resize(cv2.imread(str(small / "pictures/a.png")), (20, 25))[2:22]
    np.testing.assert_array_equal(cv2.imread(str(small / "out/a.png")), expected)
    assert sorted(path.name for path in (small / "out").iterdir()) == ["a.png", "b.png"]


def test_a_bad_picture_makes_status_one(small: Path, run: Run) -> None:
    (small / "list.txt").write_text("a.png\nnotes.txt\n")
    flags = ("--input", "list.txt", "--input_folder", "pictures", "--output_folder", "out")
    done = run("resize_and_crop_images.py", *flags)
    assert (done.returncode, done.stdout) == (1, "1 pictures of 256x256 pixels are in out\n")
    assert done.stderr == (
        "pictures/notes.txt: no picture that OpenCV can read\n"
        "resize_and_crop_images.py: error: 1 of 2 pictures could not be resized, see above; the others are done\n"
    )


def test_usage_and_help(run: Run) -> None:
    assert run("resize_and_crop_images.py", "--input=a").returncode == 2
    flags = ("--input=a", "--input_folder=b", "--output_folder=c")
    assert run("resize_and_crop_images.py", *flags, "--image_lib=gd").returncode == 2
    assert run("resize_and_crop_images.py", *flags, "--output_side_length=0").returncode == 2
    assert run("resize_and_crop_images.py", *flags).returncode == 1
    assert "--input=names.txt --input_folder=jpg/" in run("resize_and_crop_images.py", "--help").stdout

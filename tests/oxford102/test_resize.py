"""Squares of pictures, against OpenCV and PIL called by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from oxford102.errors import ToolError
from oxford102.resize import read_names, resize_and_crop


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a tall, a wide and a square picture, without loss, and a list of them."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    random = np.random.default_rng(3)
    for name, height, width in (("tall.png", 61, 40), ("sub/wide.png", 30, 47), ("square.png", 20, 20)):
        noise = random.integers(0, 256, (5, 4, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(noise, (width, height)))
    (tmp_path / "list.txt").write_text("tall.png\nsub/wide.png\nsquare.png\n")
    return tmp_path


def test_opencv_resizes_the_shorter_side_and_crops_the_centre(pictures: Path) -> None:
    resize_and_crop(
        ["tall.png", "sub/wide.png", "square.png"], pictures / "in", pictures / "out", "opencv", 24, threads=2
    )
    tall = cv2.imread(str(pictures / "in/tall.png"))
    expected = cv2.resize(tall, (24, 36))[6:30]  # 24 * 61 / 40 is 36.6
    np.testing.assert_array_equal(cv2.imread(str(pictures / "out/tall.png")), expected)
    wide = cv2.imread(str(pictures / "in/sub/wide.png"))
    expected = cv2.resize(wide, (37, 24))[:, 6:30]  # 24 * 47 / 30 is 37.6
    np.testing.assert_array_equal(cv2.imread(str(pictures / "out/sub/wide.png")), expected)
    assert cv2.imread(str(pictures / "out/square.png")).shape == (24, 24, 3)


def test_pil_crops_then_resizes_and_writes_jpeg(pictures: Path) -> None:
    resize_and_crop(["tall.png"], pictures / "in", pictures / "out", "pil", 20, threads=1)
    with Image.open(pictures / "out/tall.png") as written, Image.open(pictures / "in/tall.png") as picture:
        assert (written.format, written.size) == ("JPEG", (20, 20))
        expected = picture.resize((20, 20), Image.Resampling.LANCZOS, box=(0, 10.5, 40, 50.5))
        expected.save(pictures / "expected.jpg", quality=75)
        with Image.open(pictures / "expected.jpg") as same:
            np.testing.assert_array_equal(np.asarray(written), np.asarray(same))


def test_a_bad_picture_is_told_and_left_out(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "in/bad.jpg").write_text("no picture")
    (pictures / "in/empty.png").touch()
    names = ["bad.jpg", "tall.png", "missing.jpg", "empty.png"]
    with pytest.raises(ToolError, match="3 of 4 pictures could not be resized, see above; the others are done"):
        resize_and_crop(names, pictures / "in", pictures / "out", "opencv", 8, threads=2)
    told = capsys.readouterr().err.splitlines()
    assert [text.split(": ")[1] for text in told] == [
        "no picture that OpenCV can read",
        "No such file or directory",
        "no picture that OpenCV can read",
    ]
    assert [path.name for path in (pictures / "out").iterdir()] == ["tall.png"]


def test_lists_have_labels_blanks_and_full_paths(pictures: Path) -> None:
    folder = pictures / "in"
    (pictures / "a.txt").write_text(f"tall.png 3\n\n{folder}/sub/wide.png -1\n")
    (pictures / "b.txt").write_text("my rose.png 3\ntall.png\n")
    assert read_names(str(pictures / "[ab].txt"), folder) == ["tall.png", "sub/wide.png", "my rose.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "the list is empty"), ("../tall.png\n", r"\.\./tall\.png: lies outside of .*; give paths relative to")],
)
def test_lists_that_cannot_be_used(pictures: Path, text: str, message: str) -> None:
    (pictures / "list.txt").write_text(text)
    with pytest.raises(ToolError, match=message):
        read_names(str(pictures / "list.txt"), pictures / "in")


def test_folders_that_cannot_be_used(pictures: Path) -> None:
    with pytest.raises(ToolError, match="no such list"):
        read_names(str(pictures / "absent.txt"), pictures)
    with pytest.raises(ToolError, match="no such folder"):
        resize_and_crop(["a"], pictures / "absent", pictures / "out", "opencv", 8, threads=1)
    with pytest.raises(ToolError, match="holds the pictures themselves"):
        resize_and_crop(["tall.png"], pictures / "in", pictures / "in" / ".", "opencv", 8, threads=1)

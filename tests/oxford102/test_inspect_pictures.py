"""Each thing that can be wrong with a picture, made by PIL or by hand."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from oxford102.inspect_pictures import FATAL, Picture, inspect


def pixels(seed: int, height: int = 50, width: int = 60) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return cv2.resize(noise, (width, height))


def image(seed: int, mode: str = "RGB", height: int = 50, width: int = 60) -> Image.Image:
    return Image.fromarray(pixels(seed, height, width)).convert(mode)


def found(tmp_path: Path, name: str) -> tuple[int, list[tuple[str, str]]]:
    """How many of one picture are kept, and what is found."""
    kept, findings = inspect([Picture(tmp_path / name, name, "rose")], 32)
    return len(kept), [(finding.problem, finding.detail) for finding in findings]


def test_good_pictures_are_kept_in_their_order(tmp_path: Path) -> None:
    pictures = []
    for seed, name in enumerate(("b.jpg", "a.png", "c.JPEG", "d.bmp", "e f ß.tif", "no suffix")):
        image(seed).save(tmp_path / name, "PNG" if "." not in name else None)
        pictures.append(Picture(tmp_path / name, name, "rose"))
    assert inspect(pictures, 32) == (pictures, [])


def test_broken_files(tmp_path: Path) -> None:
    image(1).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "short.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(60))
    (tmp_path / "link.jpg").symlink_to("nowhere")
    unread = [("broken", "no picture that OpenCV, and so Caffe, can read")]
    assert found(tmp_path, "empty.jpg") == (0, [("broken", "the file is empty")])
    assert found(tmp_path, "text.jpg") == (0, unread)
    assert found(tmp_path, "phone.heic") == (0, unread)
    for name in ("link.jpg", "absent.jpg"):
        assert found(tmp_path, name) == (0, [("broken", os.strerror(2))])
    kept, ((problem, detail),) = found(tmp_path, "short.jpg")
    assert (kept, problem) == (0, "broken")
    assert "truncated" in detail.lower()


def test_a_png_that_ends_too_soon(tmp_path: Path) -> None:
    image(1).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "short.png").write_bytes(content[: len(content) // 2])
    kept, findings = found(tmp_path, "short.png")
    assert (kept, [problem for problem, _ in findings]) == (0, ["broken"])


def test_the_shorter_side_counts(tmp_path: Path) -> None:
    image(1, width=31).save(tmp_path / "narrow.png")
    image(1, height=32).save(tmp_path / "low.png")
    assert found(tmp_path, "narrow.png") == (0, [("tiny", "31x50 pixels, at least 32 wanted")])
    assert found(tmp_path, "low.png") == (1, [])


@pytest.mark.parametrize(
    ("name", "mode", "format_", "problems"),
    [
        ("a.jpg", "RGB", "PNG", ["misnamed"]),
        ("a.png", "RGB", "JPEG", ["misnamed"]),
        ("a.jpg", "CMYK", "JPEG", ["CMYK"]),
        ("a.jpg", "L", "JPEG", []),
        ("a.png", "P", "PNG", ["palette"]),
        ("a.png", "RGBA", "PNG", ["transparent"]),
        ("a.png", "LA", "PNG", ["transparent"]),
        ("a.gif", "P", "PNG", ["misnamed", "palette"]),
    ],
)
def test_odd_files_are_told_and_kept(tmp_path: Path, name: str, mode: str, format_: str, problems: list[str]) -> None:
    image(3, mode).save(tmp_path / name, format_)
    kept, findings = found(tmp_path, name)
    assert (kept, [problem for problem, _ in findings]) == (1, problems)


def test_sixteen_bits(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "colour.png"), pixels(1).astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "grey.png"), pixels(1)[..., 0].astype(np.uint16) * 257)
    for name in ("colour.png", "grey.png"):
        assert found(tmp_path, name) == (1, [("16 bits", "the upper 8 bits of each value are used")])


def test_turned_and_animated(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image(1).save(tmp_path / "turned.jpg", exif=exif)
    image(1).save(tmp_path / "pages.tif", save_all=True, append_images=[image(2)])
    kept, ((problem, detail),) = found(tmp_path, "turned.jpg")
    assert (kept, problem) == (1, "turned")
    assert detail.startswith("EXIF orientation 6")
    assert found(tmp_path, "pages.tif")[1] == [
        ("several pictures", "an animation or many pages: only the first is used")
    ]


def test_duplicates_by_pixels_not_by_file(tmp_path: Path) -> None:
    image(1).save(tmp_path / "a.png")
    image(1).save(tmp_path / "b.bmp")
    image(1, height=60, width=50).save(tmp_path / "c.png")
    Image.fromarray(pixels(1).reshape(60, 50, 3)).save(tmp_path / "d.png")  # the same bytes in another shape
    (tmp_path / "e.png").symlink_to("a.png")
    pictures = [Picture(tmp_path / name, name, "rose") for name in ("a.png", "b.bmp", "c.png", "d.png", "e.png")]
    kept, findings = inspect(pictures, 32)
    assert [picture.name for picture in kept] == ["a.png", "c.png", "d.png"]
    assert [(f.picture.name, f.problem, f.detail) for f in findings] == [
        ("b.bmp", "duplicate", "same pixels as a.png"),
        ("e.png", "duplicate", "same pixels as a.png"),
    ]
    assert all(finding.skipped for finding in findings)


def test_equal_pictures_of_two_classes_all_go(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        image(1).save(tmp_path / name)
    image(2).save(tmp_path / "d.png")
    labels = {"a.png": "rose", "b.png": "lily", "c.png": "rose", "d.png": "lily"}
    kept, findings = inspect([Picture(tmp_path / name, name, label) for name, label in labels.items()], 32)
    assert [picture.name for picture in kept] == ["d.png"]
    assert [(f.picture.name, f.problem) for f in findings] == [
        (name, "two labels") for name in ["a.png", "b.png", "c.png"]
    ]
    assert findings[0].detail == "same pixels as b.png, but the labels are lily and rose"


def test_a_picture_listed_twice_is_kept_once(tmp_path: Path) -> None:
    image(1).save(tmp_path / "a.png")
    picture = Picture(tmp_path / "a.png", "a.png", "rose")
    kept, findings = inspect([picture, picture], 32)
    assert (kept, [f.problem for f in findings]) == ([picture], ["duplicate"])


def test_a_telephones_jpeg_of_two_pictures_is_fine(tmp_path: Path) -> None:
    content = io.BytesIO()
    image(1).save(content, "MPO", save_all=True, append_images=[image(2)])
    (tmp_path / "a.jpg").write_bytes(content.getvalue())
    assert found(tmp_path, "a.jpg") == (1, [])


def test_what_is_skipped_is_fatal() -> None:
    assert set(FATAL) == {"broken", "tiny", "duplicate", "two labels", "misnamed", "no class"}

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.data.decode import datum_pixels, read_image, resize
from caffe.errors import DataError
from caffe.proto.caffe_pb2 import Datum

PICTURE = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.fixture
def picture_path(tmp_path: Path) -> str:
    path = tmp_path / "a picture.png"
    cv2.imwrite(str(path), PICTURE)
    return str(path)


def bilinear(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Naive bilinear interpolation between pixel centres, edges repeated."""
    h, w, c = picture.shape
    out = np.zeros((height, width, c))
    for y in range(height):
        for x in range(width):
            sy = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
            sx = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            fy, fx = sy - y0, sx - x0
            top = picture[y0, x0] * (1 - fx) + picture[y0, x1] * fx
            bottom = picture[y1, x0] * (1 - fx) + picture[y1, x1] * fx
            out[y, x] = top * (1 - fy) + bottom * fy
    return out


def test_colour_is_bgr_height_width_channels(picture_path: str) -> None:
    assert np.array_equal(read_image(picture_path), PICTURE)


def test_grey_keeps_its_axis_and_weighs_the_colours(picture_path: str) -> None:
    grey = read_image(picture_path, color=False)
    assert grey.shape == (6, 9, 1)
    assert grey.dtype == np.uint8
    assert np.abs(grey[:, :, 0] - PICTURE @ [0.114, 0.587, 0.299]).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(3, 4), (13, 20), (6, 4), (1, 1)])
@pytest.mark.parametrize("color", [True, False])
def test_resize_is_bilinear_without_smoothing(picture_path: str, height: int, width: int, color: bool) -> None:
    resized = read_image(picture_path, height, width, color)
    expected = bilinear(read_image(picture_path, color=color), height, width)
    assert resized.shape == expected.shape
    assert np.abs(resized - expected).max() <= 1


def test_one_side_alone_resizes_nothing(picture_path: str) -> None:
    for sides in ((0, 5), (5, 0)):
        assert np.array_equal(read_image(picture_path, *sides), PICTURE)


def test_resize_of_floats_and_many_channels() -> None:
    values = np.random.default_rng(2).normal(size=(5, 7, 11)).astype(np.float32)
    assert np.allclose(resize(values, 8, 3), bilinear(values, 8, 3), atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"this is no picture"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"Could not open or find file {path}: "):
        read_image(str(path))


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    path = str(tmp_path / "caf\udce9.png")
    Path(path).write_bytes(cv2.imencode(".png", PICTURE)[1].tobytes())
    assert np.array_equal(read_image(path), PICTURE)


def test_raw_and_float_datum() -> None:
    values = np.arange(24).reshape(2, 3, 4)
    raw = Datum(channels=2, height=3, width=4, data=values.astype(np.uint8).tobytes())
    floats = Datum(channels=2, height=3, width=4, float_data=values.ravel() / 8)
    assert np.array_equal(datum_pixels(raw, "r"), values)
    assert datum_pixels(raw, "r").dtype == np.uint8
    assert np.array_equal(datum_pixels(floats, "f"), values / 8)
    assert datum_pixels(floats, "f").dtype == np.float32


@pytest.mark.parametrize(
    ("stored", "force", "channels"),
    [(3, "", 3), (1, "", 1), (4, "", 4), (1, "force_color", 3), (4, "force_color", 3), (3, "force_gray", 1)],
)
def test_encoded_datum_has_its_own_channels_unless_forced(stored: int, force: str, channels: int) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (5, 6, stored), dtype=np.uint8)
    datum = Datum(encoded=True, data=cv2.imencode(".png", picture)[1].tobytes())
    pixels = datum_pixels(datum, "d", **({force: True} if force else {}))
    assert pixels.shape == (channels, 5, 6)
    if not force:
        assert np.array_equal(pixels, picture.transpose(2, 0, 1))
    if force == "force_color":
        assert np.array_equal(pixels[:stored], picture.transpose(2, 0, 1)[:3])


def test_a_bad_datum_is_named() -> None:
    with pytest.raises(DataError, match=r"record 7: Incorrect data field size 5; .* holds 24 values"):
        datum_pixels(Datum(channels=2, height=3, width=4, data=b"12345"), "record 7")
    with pytest.raises(DataError, match="record 7: Incorrect data field size 0"):
        datum_pixels(Datum(), "record 7")
    with pytest.raises(DataError, match="Could not decode record 7"):
        datum_pixels(Datum(encoded=True, data=b"nothing"), "record 7")
    deep = cv2.imencode(".png", PICTURE.astype(np.uint16) * 256)[1].tobytes()
    with pytest.raises(DataError, match="record 7: Image data type must be unsigned byte, it is uint16"):
        datum_pixels(Datum(encoded=True, data=deep), "record 7")


def test_forcing_colours_of_raw_pixels_is_an_error_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "2")
    datum_pixels(Datum(channels=1, height=1, width=1, data=b"x"), "record 7", force_gray=True)
    assert "force_color and force_gray only for encoded datum, not record 7" in capsys.readouterr().err

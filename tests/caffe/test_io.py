from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe import io
from caffe.errors import DataError
from caffe.proto.caffe_pb2 import BlobProto

RNG = np.random.default_rng(8)
PICTURE = RNG.integers(0, 256, (12, 15, 3), dtype=np.uint8)  # BGR


def transformer(shape: tuple[int, ...] = (1, 3, 10, 8)) -> io.Transformer:
    return io.Transformer({"data": shape})


# Pictures


def test_load_image_is_rgb_from_0_to_1(tmp_path: Path) -> None:
    path = str(tmp_path / "p.png")
    cv2.imwrite(path, PICTURE)
    image = io.load_image(path)
    assert image.dtype == np.float32
    assert np.allclose(image, PICTURE[:, :, ::-1] / 255, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 4])
def test_load_image_of_grey_and_transparent_files(tmp_path: Path, channels: int) -> None:
    stored = RNG.integers(0, 256, (5, 6, channels), dtype=np.uint8)
    path = str(tmp_path / "p.png")
    cv2.imwrite(path, stored)
    expected = np.repeat(stored, 3, axis=2) if channels == 1 else stored[:, :, 2::-1]
    assert np.allclose(io.load_image(path), expected / 255, atol=1e-7)


def test_load_image_keeps_sixteen_bits(tmp_path: Path) -> None:
    stored = RNG.integers(0, 65536, (5, 6, 3), dtype=np.uint16)
    path = str(tmp_path / "p.png")
    cv2.imwrite(path, stored)
    assert np.allclose(io.load_image(path), stored[:, :, ::-1] / 65535, atol=1e-7)


def test_load_image_without_colour(tmp_path: Path) -> None:
    path = str(tmp_path / "p.png")
    cv2.imwrite(path, PICTURE)
    blue, green, red = np.moveaxis(PICTURE / 255, 2, 0)
    grey = io.load_image(path, color=False)
    assert grey.shape == (12, 15, 1)
    assert grey.dtype == np.float32
    assert np.allclose(grey[:, :, 0], 0.2125 * red + 0.7154 * green + 0.0721 * blue, atol=1e-6)


def test_load_image_from_memory() -> None:
    """As pycaffe's, it takes an open file, wherever that stands."""
    file = BytesIO(cv2.imencode(".png", PICTURE)[1].tobytes())
    file.seek(0, 2)
    assert np.allclose(io.load_image(file), PICTURE[:, :, ::-1] / 255, atol=1e-7)


def test_load_image_names_a_bad_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none\.jpg"):
        io.load_image(str(tmp_path / "none.jpg"))
    (tmp_path / "bad.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"bad\.jpg") as caught:
        io.load_image(str(tmp_path / "bad.jpg"))
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(5, 4), (20, 31), (12, 15)])
def test_resize_image_is_opencvs_bilinear(channels: int, size: tuple[int, int]) -> None:
    image = RNG.random((12, 15, channels)).astype(np.float32)
    resized = io.resize_image(image, size)
    assert resized.shape == (*size, channels)
    assert resized.dtype == np.float32
    for c in range(channels):
        assert np.allclose(resized[:, :, c], cv2.resize(image[:, :, c], size[::-1]), atol=1e-6)


@pytest.mark.parametrize("size", [(5, 4), (20, 31), (12, 15)])
def test_resize_image_puts_corners_of_what_is_no_picture_onto_corners(size: tuple[int, int]) -> None:
    array = RNG.random((12, 15, 600)).astype(np.float32)
    expected = array
    for axis, length in enumerate(size):
        places, known = np.linspace(0, array.shape[axis] - 1, length), np.arange(array.shape[axis])
        expected = np.apply_along_axis(lambda line, p=places, k=known: np.interp(p, k, line), axis, expected)
    assert np.allclose(io.resize_image(array, size), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 15, 3), (12, 15)])
def test_resize_is_scikit_images(shape: tuple[int, ...]) -> None:
    picture = RNG.integers(0, 256, shape, np.uint8)
    expected = cv2.resize(picture.astype(np.float32) / 255, (31, 20))
    for size in ((20, 31), (20, 31, *shape[2:])):
        assert np.allclose(io.resize(picture, size), expected, atol=1e-6)
    assert np.allclose(io.resize(picture / 255, (20, 31)), expected, atol=1e-6)


def test_names_of_what_pycaffes_module_imports() -> None:
    assert np.array_equal(io.zoom(np.eye(2), 2, order=0), np.kron(np.eye(2), np.ones((2, 2))))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        io.nothing  # noqa: B018


def test_resize_image_leaves_a_constant_alone_and_takes_other_types() -> None:
    assert np.array_equal(io.resize_image(np.full((4, 4, 3), 7), (9, 2)), np.full((9, 2, 3), 7))
    assert np.array_equal(io.resize_image(np.arange(4.0).reshape(2, 2, 1), np.array([4, 2]), 0)[:, 0, 0], [0, 0, 2, 2])
    with pytest.raises(ValueError, match="interp_order 2 is not known"):
        io.resize_image(PICTURE, (3, 3), 2)


@pytest.mark.parametrize("crop", [(5, 4), (12, 15), (7, 8)])
def test_oversample_cuts_corners_centre_and_their_mirrors(crop: tuple[int, int]) -> None:
    images = RNG.random((2, 12, 15, 3)).astype(np.float32)
    height, width = crop
    crops = io.oversample(images, np.array(crop))
    assert crops.shape == (20, height, width, 3)
    assert crops.dtype == np.float32
    tops = [0, 0, 12 - height, 12 - height, int(12 / 2 - height / 2)]
    lefts = [0, 15 - width, 0, 15 - width, int(15 / 2 - width / 2)]
    for i, image in enumerate(images):
        for k in range(10):
            expected = image[tops[k % 5] :, lefts[k % 5] :][:height, :width]
            assert np.array_equal(crops[10 * i + k], expected[:, ::-1] if k >= 5 else expected)


def test_oversample_of_too_small_pictures() -> None:
    with pytest.raises(ValueError, match="a crop of 13x4 does not fit"):
        io.oversample([PICTURE], (13, 4))


# Transformer


def test_preprocess_in_caffes_order_and_back() -> None:
    t = transformer()
    t.set_transpose("data", (2, 0, 1))
    t.set_channel_swap("data", (2, 1, 0))
    t.set_raw_scale("data", 255)
    t.set_mean("data", np.array([104, 117, 123]))
    t.set_input_scale("data", 0.017)
    image = RNG.random((12, 15, 3)).astype(np.float32)
    before = image.copy()
    got = t.preprocess("data", image)
    small = cv2.resize(image, (8, 10))
    for c, mean in enumerate((104, 117, 123)):
        assert np.allclose(got[c], (small[:, :, 2 - c] * 255 - mean) * 0.017, atol=1e-5)
    assert np.array_equal(image, before)
    assert np.allclose(t.deprocess("data", got[np.newaxis]), small, atol=1e-5)


def test_preprocess_changes_nothing_that_was_not_asked_for() -> None:
    image = RNG.random((10, 8, 3)).astype(np.float32)
    got = transformer().preprocess("data", image)
    assert np.array_equal(got, image)
    assert not np.shares_memory(got, image)


def test_an_order_that_is_not_its_own_inverse_is_undone() -> None:
    t = transformer()
    t.set_transpose("data", (2, 0, 1))
    t.set_channel_swap("data", (1, 2, 0))
    image = RNG.random((10, 8, 3)).astype(np.float32)
    got = t.preprocess("data", image)
    assert np.array_equal(got[0], image[:, :, 1])
    assert np.array_equal(t.deprocess("data", got), image)


def test_a_mean_picture_is_used_as_it_is_or_resized() -> None:
    t = transformer()
    mean = RNG.random((3, 10, 8))
    t.set_mean("data", mean)
    assert t.mean["data"] is mean
    large = RNG.random((3, 20, 16)) * 255
    t.set_mean("data", large)
    for c in range(3):
        assert np.allclose(t.mean["data"][c], cv2.resize(large[c], (8, 10)), atol=1e-3)
    grey = transformer((1, 1, 10, 8))
    grey.set_mean("data", mean[0])
    assert np.array_equal(grey.mean["data"], mean[:1])


@pytest.mark.parametrize(
    ("mean", "problem"),
    [
        (np.zeros(2), "Mean channels incompatible with input."),
        (np.zeros((1, 3, 10, 8)), "Mean shape invalid"),
        (np.zeros((10, 8)), "Mean shape incompatible with input shape."),
        (np.zeros((4, 10, 8)), "Mean shape incompatible with input shape."),
    ],
)
def test_a_mean_that_does_not_fit(mean: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        transformer().set_mean("data", mean)


def test_other_mistakes_of_a_transformer() -> None:
    t = transformer()
    with pytest.raises(Exception, match="Transpose order needs to have the same number of dimensions as the input"):
        t.set_transpose("data", (1, 0))
    with pytest.raises(
        Exception, match="Channel swap needs to have the same number of dimensions as the input channels"
    ):
        t.set_channel_swap("data", (1, 0))
    for use in (t.preprocess, t.deprocess, t.set_raw_scale, t.set_input_scale, t.set_mean):
        with pytest.raises(Exception, match=r"image is not one of the net inputs: .*data"):
            use("image", PICTURE)  # type: ignore[operator]


# Arrays as messages


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 3, 4), (2, 1, 2, 1, 2)])
def test_arrays_of_any_shape_survive_a_blobproto(shape: tuple[int, ...]) -> None:
    values, diff = RNG.normal(size=(2, *shape)).astype(np.float32)
    blob = io.array_to_blobproto(np.asarray(values), np.asarray(diff))
    assert tuple(blob.shape.dim) == shape
    assert np.array_equal(io.blobproto_to_array(blob), values)
    assert np.array_equal(io.blobproto_to_array(blob, return_diff=True), diff)


def test_old_and_double_blobs() -> None:
    values = np.arange(6)
    old = BlobProto(num=1, channels=2, height=3, width=1, data=values)
    assert io.blobproto_to_array(old).shape == (1, 2, 3, 1)
    double = io.array_to_blobproto(np.zeros(0))
    double.shape.dim[0] = 6
    double.double_data.extend(values / 3)
    assert np.array_equal(io.blobproto_to_array(double), values / 3)


def test_the_mean_file_recorded_from_caffe_is_read(golden: Path) -> None:
    blob = BlobProto.FromString((golden / "files" / "mean.binaryproto").read_bytes())
    mean = io.blobproto_to_array(blob)
    assert mean.shape == (blob.num, blob.channels, blob.height, blob.width)
    assert mean.ravel().tolist() == list(blob.data)


def test_array_lists_survive_their_string() -> None:
    arrays = [RNG.normal(size=shape).astype(np.float32) for shape in ((2, 3), (4,), (1, 1, 2, 2))]
    again = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str(arrays))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, again, strict=True))


def test_datums() -> None:
    pixels = PICTURE.transpose(2, 0, 1)
    datum = io.array_to_datum(pixels, 4)
    assert (datum.channels, datum.height, datum.width, datum.label) == (3, 12, 15, 4)
    assert datum.data == pixels.tobytes()
    back = io.datum_to_array(datum)
    assert back.dtype == np.uint8
    assert back.flags.writeable
    assert np.array_equal(back, pixels)
    floats = io.array_to_datum(pixels / 255)
    assert not floats.HasField("label")
    assert np.allclose(io.datum_to_array(floats), pixels / 255)
    with pytest.raises(ValueError, match="Incorrect array shape"):
        io.array_to_datum(np.zeros((3, 3)))
    datum.encoded = True
    with pytest.raises(ValueError, match="the Datum is encoded"):
        io.datum_to_array(datum)


def test_io_starts_without_pytorch() -> None:
    program = "import sys, caffe; caffe.io.load_image; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The drawn data set, read back by tarfile, scipy and OpenCV."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from oxford102 import demo_flowers
from oxford102.demo_drawing import draw
from oxford102.demo_petals import MARKS, paint_petal, place_petal
from oxford102.labels import read_labels
from oxford102.splits import read_splits

SPECIES = demo_flowers.SPECIES
FLOWER = SPECIES["freckled pinwheel"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    demo_flowers.write_archive(folder, seed=5)
    return folder


@pytest.fixture(scope="module")
def jpegs(folder: Path) -> list[bytes]:
    with tarfile.open(folder / "102flowers.tgz", "r:gz") as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == [f"jpg/image_{n:05d}.jpg" for n in range(1, 721)]
        assert all(member.isfile() and member.mtime == 0 for member in members)
        return [tar.extractfile(member).read() for member in members]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def labels(folder: Path) -> np.ndarray:
    return loadmat(folder / "imagelabels.mat")["labels"]


def test_the_numbers() -> None:
    assert demo_flowers.CLASSES == len(set(demo_flowers.CLASS_NAMES)) == 24
    assert demo_flowers.SPLITS == {"train": 240, "valid": 120, "test": 360}
    assert demo_flowers.IMAGES == 720
    assert len(set(SPECIES.values())) == 24


def test_three_files_and_no_more(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"102flowers.tgz", "imagelabels.mat", "setid.mat"}


def test_labels_as_oxford_stores_them(labels: np.ndarray) -> None:
    assert labels.shape == (1, 720)
    assert np.array_equal(np.bincount(labels[0]), [0] + [30] * 24)
    assert (np.diff(labels[0].astype(int)) != 0).mean() > 0.9  # mixed, not sorted by class


def test_splits_share_each_class_alike(folder: Path, labels: np.ndarray) -> None:
    splits = loadmat(folder / "setid.mat")
    numbers = {name: splits[name] for name in ("trnid", "valid", "tstid")}
    for name, pictures in {"trnid": 10, "valid": 5, "tstid": 15}.items():
        assert numbers[name].shape == (1, 24 * pictures)
        assert np.array_equal(np.bincount(labels[0][numbers[name][0] - 1]), [0] + [pictures] * 24)
    assert np.array_equal(np.sort(np.concatenate(list(numbers.values()), 1)[0]), np.arange(1, 721))


def test_the_toolkit_reads_them(folder: Path) -> None:
    assert len(read_labels(folder / "imagelabels.mat", demo_flowers.IMAGES, demo_flowers.CLASSES)) == 720
    assert set(read_splits(folder / "setid.mat", demo_flowers.SPLITS, demo_flowers.IMAGES)) == {*demo_flowers.SPLITS}


def test_matlab_files_do_not_tell_the_time(folder: Path) -> None:
    for name in ("imagelabels.mat", "setid.mat"):
        assert loadmat(folder / name)["__header__"].strip() == b"MATLAB 5.0 MAT-file, demo flowers"


def test_pictures_depend_on_seed_and_number_alone(jpegs: list[bytes], labels: np.ndarray) -> None:
    for number in (0, 333, 719):
        species = list(SPECIES.values())[labels[0, number] - 1]
        picture = draw(species, np.random.default_rng((5, number)))
        assert jpegs[number] == cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 92))[1].tobytes()
        assert not np.array_equal(picture, draw(species, np.random.default_rng((6, number))))


def test_pictures_show_what_their_label_says(jpegs: list[bytes], labels: np.ndarray) -> None:
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs]
    assert {picture.shape for picture in pictures} == {(128, 128, 3)}
    middles = np.array([picture[40:88, 40:88].mean((0, 1)) for picture in pictures])
    by_class = {name: middles[labels[0] == n].mean(0) for n, name in enumerate(demo_flowers.CLASS_NAMES, 1)}
    for name, (blue, green, red) in by_class.items():
        genus = name.split()[-1]
        if genus in ("silk", "lantern", "ruff", "sunwheel"):
            assert red > blue + 30, name
        if genus == "skycup":
            assert blue > red + 30, name
        if genus == "pinwheel":
            assert min(red, blue) > green + 5, name


def test_flowers_of_a_species_differ() -> None:
    first, second = (draw(FLOWER, np.random.default_rng(seed), 64).astype(int) for seed in (1, 2))
    assert np.abs(first - second).mean() > 20


def test_a_petal_lies_between_its_base_and_its_tip() -> None:
    sprite = paint_petal(replace(FLOWER, notch=0, mark="plain"), np.random.default_rng(0))
    affine = place_petal(np.array([0.0, 60.0]), np.array([20.0, 0.0]))
    affine[:, 2] += (64, 20)
    petal = cv2.warpAffine(sprite, affine, (128, 128))[..., :3].max(2) > 0.2
    rows, columns = (np.flatnonzero(petal.any(axis)) for axis in (1, 0))
    assert 20 <= rows[0] <= 28
    assert 76 <= rows[-1] <= 80
    assert abs(columns.mean() - 64) < 3
    assert 34 <= np.ptp(columns) <= 42


def test_colour_never_exceeds_alpha() -> None:
    for species in SPECIES.values():
        sprite = paint_petal(species, np.random.default_rng(3))
        assert sprite.dtype == np.float32
        assert sprite.min() >= 0
        assert sprite.max() <= 1
        assert (sprite[..., :3] <= sprite[..., 3:] + 1e-6).all()


def test_every_mark_leaves_its_own_ink() -> None:
    painted = [paint_petal(replace(FLOWER, mark=mark), np.random.default_rng(0)) for mark in MARKS]
    for index, one in enumerate(painted):
        for other in painted[:index]:
            assert (np.abs(one - other).max(2) > 0.1).mean() > 0.01


def test_an_unknown_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown mark 'dots': expected one of plain, veins, speckles"):
        draw(replace(FLOWER, mark="dots"), np.random.default_rng(0))

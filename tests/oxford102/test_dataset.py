"""Data folders made of drawn pictures: how they are split, what is written, and when nothing is."""

from __future__ import annotations

import csv
import errno
import os
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxford102.dataset import Job, check_shares, class_names, deal, make_dataset
from oxford102.errors import ToolError

SIZES = {"lily": 12, "rote Rose": 8, "Tülpe": 4}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A folder of 24 different pictures without loss, in three classes."""
    random = np.random.default_rng(5)
    for name, size in SIZES.items():
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for number in range(size):
            cv2.imwrite(str(tmp_path / "flowers" / name / f"{number}.png"), random.integers(0, 256, (40, 33, 3)))
    return Job(tmp_path / "flowers", tmp_path / "data" / "mine")


def lines(path: Path) -> list[tuple[str, int]]:
    return [(name, int(label)) for name, label in (line.rsplit(" ", 1) for line in path.read_text().splitlines())]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_class_is_dealt_by_its_shares(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    make_dataset(job)
    assert files(job.output) == ["labels.txt", "report.csv", "test.txt", "train.txt", "valid.txt"]
    names = (job.output / "labels.txt").read_text().splitlines()
    assert names == ["Tülpe", "lily", "rote Rose"]
    everything = []
    for split, parts in (("train", 2), ("valid", 4), ("test", 4)):
        listed = lines(job.output / f"{split}.txt")
        assert Counter(names[label] for _, label in listed) == {name: size // parts for name, size in SIZES.items()}
        assert all(Path(path).parent.name == names[label] for path, label in listed)
        everything += [path for path, _ in listed]
    assert sorted(everything) == sorted(str(path) for path in job.source.rglob("*.png"))
    told = capsys.readouterr().out
    assert told == f"no problems found\n{job.output}: 3 classes, train 12 · valid 6 · test 6; 0 pictures left out\n"


def test_the_seed_decides_and_the_place_does_not(job: Job, tmp_path: Path) -> None:
    make_dataset(job)
    (tmp_path / "moved").mkdir()
    moved = job.source.rename(tmp_path / "moved" / "flowers")
    make_dataset(replace(job, source=moved, output=tmp_path / "again"))
    make_dataset(replace(job, source=moved, output=tmp_path / "other", seed=1))
    first, again, other = (
        [(Path(path).relative_to(top), label) for path, label in lines(folder / "train.txt")]
        for folder, top in (
            (job.output, tmp_path),
            (tmp_path / "again", moved.parent),
            (tmp_path / "other", moved.parent),
        )
    )
    assert first == again
    assert set(first) != set(other)


def test_counts_leave_the_rest_and_test_may_be_empty(job: Job) -> None:
    make_dataset(replace(job, shares=(2, 1, 0), counts=True))
    assert files(job.output) == ["labels.txt", "report.csv", "train.txt", "valid.txt"]
    assert Counter(label for _, label in lines(job.output / "train.txt")) == {0: 2, 1: 2, 2: 2}
    assert Counter(label for _, label in lines(job.output / "valid.txt")) == {0: 1, 1: 1, 2: 1}


def test_classes_with_too_few_pictures(job: Job) -> None:
    with pytest.raises(ToolError) as error:
        make_dataset(replace(job, shares=(5, 2, 2), counts=True))
    told = "2 of 3 classes have too few pictures (9 of each): Tülpe (4), rote Rose (8); give smaller counts, or --split"
    assert str(error.value) == told
    for number in (0, 1):
        (job.source / "Tülpe" / f"{number}.png").unlink()
    with pytest.raises(ToolError, match=r"1 of 3 classes .* \(3 of each, one a list\): Tülpe \(2\); add pictures"):
        make_dataset(job)
    assert not job.output.exists()


def test_bad_pictures_are_reported_and_left_out(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    (job.source / "lily/bad.jpg").write_text("no picture")
    (job.source / "rote Rose/9.png").write_bytes((job.source / "rote Rose/0.png").read_bytes())
    (job.source / "Tülpe/0.png").rename(job.source / "Tülpe/0.jpg")
    make_dataset(job)
    *table, kinds, last = capsys.readouterr().out.splitlines()
    assert [" ".join(row.split()) for row in table][1:] == [
        "lily/bad.jpg broken skipped no picture that OpenCV, and so Caffe, can read",
        "rote Rose/9.png duplicate skipped same pixels as rote Rose/0.png",
        "Tülpe/0.jpg misnamed kept is a PNG file, its name says JPEG",
    ]
    assert kinds == "found: 1 broken (skipped), 1 duplicate (skipped), 1 misnamed (kept)"
    assert last.endswith("train 12 · valid 6 · test 6; 2 pictures left out")
    with (job.output / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["picture"], row["label"], row["was"]) for row in rows] == [
        ("lily/bad.jpg", "lily", "skipped"),
        ("rote Rose/9.png", "rote Rose", "skipped"),
        ("Tülpe/0.jpg", "Tülpe", "kept"),
    ]
    listed = "".join((job.output / f"{name}.txt").read_text() for name in ("train", "valid", "test"))
    assert "Tülpe/0.jpg" in listed
    assert "bad.jpg" not in listed
    assert "rote Rose/9.png" not in listed


def test_what_is_left_out_is_left_out_in_all_its_lines(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    (job.source / "lily/99.jpg").write_bytes((job.source / "lily/0.png").read_bytes())  # a PNG, and seen before
    make_dataset(job)
    rows = [line.split()[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("lily/99.jpg")]
    assert sorted(rows) == [["duplicate", "skipped"], ["misnamed", "skipped"]]
    with (job.output / "report.csv").open() as file:
        assert {row["was"] for row in csv.DictReader(file)} == {"skipped"}


def test_a_folder_that_cannot_be_read_is_no_empty_one(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def scandir(path: str) -> object:  # whoever runs this may read all folders
        if Path(path).name == "lily":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="lily"):
        make_dataset(job)
    assert not job.output.exists()


def test_strict_writes_nothing(job: Job) -> None:
    strict = replace(job, strict=True)
    (job.source / "Tülpe/0.png").rename(job.source / "Tülpe/0.jpg")
    with pytest.raises(ToolError, match="1 problems, see above"):
        make_dataset(strict)
    assert not job.output.exists()
    (job.source / "Tülpe/0.jpg").rename(job.source / "Tülpe/0.png")
    make_dataset(strict)


def test_long_reports_are_cut_on_the_screen_only(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(40):
        (job.source / "lily" / f"bad{number}.jpg").touch()
    make_dataset(job)
    assert "… and 10 more, all of them in report.csv" in capsys.readouterr().out
    assert len((job.output / "report.csv").read_text().splitlines()) == 41


def test_mean_and_databases(job: Job) -> None:
    make_dataset(replace(job, mean=True, lmdb=True))
    listed = lines(job.output / "train.txt")
    squeezed = [cv2.resize(cv2.imread(path), (256, 256)) for path, _ in listed]
    mean = np.mean(squeezed, 0, np.float64).transpose(2, 0, 1)
    np.testing.assert_allclose(np.load(job.output / "mean.npy"), mean, rtol=1e-6)
    for name, count in (("train", 12), ("valid", 6), ("test", 6)):
        with lmdb.open(str(job.output / f"{name}_lmdb"), readonly=True, lock=False) as database:
            assert database.stat()["entries"] == count


def test_a_data_set_is_replaced_by_force_alone(job: Job) -> None:
    make_dataset(replace(job, mean=True))
    (job.output / "notes.md").write_text("mine")
    before = (job.output / "train.txt").read_text()
    with pytest.raises(ToolError, match=r"has a data set already \(train\.txt, valid\.txt, .*give --force"):
        make_dataset(replace(job, seed=2))
    assert (job.output / "train.txt").read_text() == before
    make_dataset(replace(job, seed=2, force=True, shares=(0.5, 0.5, 0)))
    assert files(job.output) == ["labels.txt", "notes.md", "report.csv", "train.txt", "valid.txt"]  # no stale mean
    assert (job.output / "train.txt").read_text() != before


def test_the_output_is_not_among_the_pictures(job: Job, tmp_path: Path) -> None:
    for output in (job.source, job.source / "lily", job.source / "new", tmp_path / "link"):
        if output.name == "link":
            output.symlink_to(job.source)
        with pytest.raises(ToolError, match="is among the pictures of .*; choose another folder with -o"):
            make_dataset(replace(job, output=output, force=True))
    with pytest.raises(ToolError, match="is a file, expected a folder"):
        make_dataset(replace(job, output=job.source / "lily/0.png", source=tmp_path / "t.csv"))
    make_dataset(replace(job, output=tmp_path))  # beside them it may be


def test_class_names_are_sorted_as_numbers_where_they_are() -> None:
    assert class_names({"10", "9", "0"}) == ["0", "9", "10"]
    assert class_names({"10", "9", "b"}) == ["10", "9", "b"]
    with pytest.raises(ToolError, match="1 class of pictures"):
        class_names({"rose"})
    with pytest.raises(ToolError, match="line break"):
        class_names({"rose", "a\nb"})


@pytest.mark.parametrize(
    ("shares", "counts", "message"),
    [
        ((0.5, 0.25, 0.2), False, r"--split 0\.5 0\.25 0\.2 adds to 0\.95, expected 1"),
        ((float("nan"), 0.5, 0.5), False, "adds to nan"),
        ((1, 0, 0), False, "train and valid need pictures, test may have 0; got 1 0 0"),
        ((0.5, 0.75, -0.25), False, "need pictures"),
        ((0, 5, 5), True, "need pictures"),
    ],
)
def test_shares_that_cannot_be(shares: tuple[float, ...], counts: bool, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        check_shares(shares, counts)


@given(st.integers(3, 400), st.tuples(*[st.integers(1, 20)] * 3))
def test_all_are_dealt_near_their_shares(pictures: int, weights: tuple[int, ...]) -> None:
    sizes = deal(pictures, [weight / sum(weights) for weight in weights])
    assert sum(sizes) == pictures
    assert min(sizes) >= 1
    exact = [Fraction(pictures * weight, sum(weights)) for weight in weights]
    if min(exact) >= 1:
        assert all(abs(size - value) < 1 for size, value in zip(sizes, exact, strict=True))

"""The drawings are read back from their figures; overlaps are made by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from oxford102.errors import ToolError
from oxford102.lists import Entry, write_list
from oxford102.show import CELL, Job, draw_histogram, draw_samples, overlaps, read_lists, show


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of two classes, each picture of one colour."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, red, sizes in (("train", 5, (3, 1)), ("valid", 9, (2, 2))):
        entries = []
        for label, size in enumerate(sizes):
            for number in range(size):
                path = folder / f"{split} {label} {number}.png"
                cv2.imwrite(str(path), np.full((30, 20 + number, 3), (10 * number, 250 * label, red), np.uint8))
                entries.append(Entry(path, label))
        write_list(folder / f"{split}.txt", entries)
    (folder / "labels.txt").write_text("röse $x$ rose\nlily\n")
    return folder


def test_two_drawings_and_the_counts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(Job([data], tmp_path / "shots"))
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines() == [
        "train: 4 pictures, 1 to 3 in each of 2 classes",
        "valid: 4 pictures, 2 in each of 2 classes",
        f"{tmp_path}/shots/histogram.png",
        f"{tmp_path}/shots/samples.png",
    ]
    for name in ("histogram", "samples"):
        assert cv2.imread(str(tmp_path / "shots" / f"{name}.png")) is not None
    with pytest.raises(ToolError, match=r"histogram\.png exists; choose another -o, or give --force"):
        show(Job([data], tmp_path / "shots"))
    show(Job([data], tmp_path / "shots", force=True))


@pytest.mark.parametrize("classes", [3, 60, 400])
def test_bars_are_the_counts(classes: int) -> None:
    random = np.random.default_rng(1)
    counts = {"train": np.arange(classes), "test": random.integers(0, 99, classes)}
    figure = draw_histogram(counts, [f"class {i}" for i in range(classes)], ["pictures of train that are also in test"])
    for axes, (name, count) in zip(figure.axes, counts.items(), strict=True):
        assert [bar.get_width() for bar in axes.patches] == count.tolist()
        assert axes.get_title(loc="left") == f"{name}: {count.sum():,} pictures"
    assert len(figure.axes[0].get_yticklabels()) in ((classes,) if classes < 130 else range(2, 20))
    assert figure.get_suptitle() == "pictures of train that are also in test"


def test_few_classes_have_a_row_each(data: Path) -> None:
    figure = draw_samples(read_lists([data])["train"], ["rose", "lily"], 1)
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    lines = [text.get_text() for text in figure.axes[0].texts]
    assert lines == ["rose", "lily"]
    colours = {tuple(int(v) for v in colour) for colour in canvas.reshape(-1, 3)} - {(255, 255, 255)}
    assert colours == {(5, 0, 0), (5, 0, 10), (5, 0, 20), (5, 250, 0)}  # RGB; every training picture once
    assert (canvas == (5, 0, 10)).all(-1).sum() == CELL * CELL


def test_many_classes_have_a_picture_each(tmp_path: Path) -> None:
    entries = []
    for label in range(30):
        cv2.imwrite(str(tmp_path / f"{label}.png"), np.full((9, 9, 3), 3 * label, np.uint8))
        entries.append(Entry(tmp_path / f"{label}.png", label))
    figure = draw_samples(entries[::-1], [f"name {i}" for i in range(30)], 1)
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == [f"name {i}" for i in range(30)]
    for label, text in enumerate(texts):
        x, y = text.get_position()
        assert canvas[int(y) - 20, int(x)].tolist() == [3 * label] * 3  # right above its name


def test_a_picture_that_is_gone_is_grey_and_told(data: Path) -> None:
    (data / "train 1 0.png").unlink()
    lists = read_lists([data])
    assert f"pictures that are not there: 1, as {data / 'train 1 0.png'}" in overlaps(lists)
    canvas = np.asarray(draw_samples(lists["train"], ["rose", "lily"], 1).axes[0].images[0].get_array())
    assert (canvas == 160).all(-1).sum() == CELL * CELL


def test_the_same_file_in_two_lists_under_two_names(data: Path) -> None:
    assert overlaps(read_lists([data])) == []
    shutil.copy(data / "train 0 1.png", data / "copy.png")
    entries = read_lists([data])["valid"]
    write_list(data / "valid.txt", [*entries, Entry(data / "copy.png", 0), Entry(data / "train 0 0.png", 0)])
    assert overlaps(read_lists([data])) == [f"pictures of train that are also in valid: 2, as {data / 'train 0 0.png'}"]


def test_lists_by_name(data: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = shutil.copy(data / "train.txt", tmp_path / "b" / "train.txt")
    assert list(read_lists([data / "valid.txt", data / "train.txt"])) == ["valid", "train"]
    assert list(read_lists([data / "train.txt", Path(other)])) == [str(data / "train.txt"), str(other)]
    with pytest.raises(ToolError, match=r"has none of train\.txt, valid\.txt, test\.txt; give a data folder"):
        read_lists([tmp_path])


def test_names_that_do_not_fit(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "labels.txt").write_text("rose\n")
    with pytest.raises(
        ToolError, match=r"labels\.txt has 1 names, but the lists have label 1; give the right --labels"
    ):
        show(Job([data], tmp_path / "shots"))
    with pytest.raises(ToolError, match=r"absent: no such file"):
        show(Job([data], tmp_path / "shots", labels=tmp_path / "absent"))
    (data / "labels.txt").unlink()
    show(Job([data / "train.txt"], tmp_path / "shots"))
    assert "2 classes" in capsys.readouterr().out

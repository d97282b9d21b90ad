from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from oxford102.errors import ToolError
from oxford102.splits import read_splits, shuffled

SIZES = {"train": 3, "valid": 2, "test": 4}

# Where the official setid.mat has the picture that the shuffled list names: (place in the row, number),
# for the first six and the last two lines of each list. The first three of train are the original project's.
RECORDED = {
    "train": (
        1020,
        [(175, 3860), (135, 6092), (422, 2400), (556, 2852), (968, 7710), (55, 7191)],
        [(815, 1639), (103, 3165)],
    ),
    "test": (
        6149,
        [(1246, 6977), (4572, 800), (2948, 5038), (14, 6759), (2027, 1133), (6110, 7982)],
        [(4082, 2532), (4262, 178)],
    ),
    "valid": (
        1020,
        [(895, 4467), (442, 7129), (43, 5166), (340, 7002), (799, 2007), (550, 2830)],
        [(136, 6051), (966, 7724)],
    ),
}


def test_the_shuffle_is_the_original_projects() -> None:
    rows = {}
    for name, (size, first, last) in RECORDED.items():
        rows[name] = np.zeros(size, np.int64)
        for place, number in first + last:
            rows[name][place] = number
    lists = shuffled(rows)
    for name, (_, first, last) in RECORDED.items():
        assert lists[name][:6].tolist() == [number for _, number in first]
        assert lists[name][-2:].tolist() == [number for _, number in last]


def test_a_shuffle_keeps_the_pictures_and_the_argument() -> None:
    rows = {"train": np.arange(1, 31), "test": np.arange(31, 91), "valid": np.arange(91, 101)}
    lists = shuffled(rows)
    assert {name: sorted(row) for name, row in lists.items()} == {name: list(row) for name, row in rows.items()}
    assert rows["train"].tolist() == list(range(1, 31))


def write(path: Path, **changes: list[float]) -> Path:
    savemat(path, {"trnid": [3, 1, 9], "valid": [2, 4], "tstid": [5, 6, 7, 8], **changes})
    return path


def test_splits_are_read_in_the_files_order(tmp_path: Path) -> None:
    splits = read_splits(write(tmp_path / "setid.mat"), SIZES, 9)
    assert {name: row.tolist() for name, row in splits.items()} == {
        "train": [3, 1, 9],
        "valid": [2, 4],
        "test": [5, 6, 7, 8],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trnid": [3, 1]}, "'trnid' (train) names 2 pictures, expected 3"),
        ({"tstid": [3, 1, 9], "trnid": [5, 6, 7, 8]}, "'trnid' (train) names 4 pictures, expected 3"),
        ({"valid": [2, 0]}, "'valid' (valid) names picture 0, expected 1 to 9"),
        ({"tstid": [5, 6, 7, 10]}, "'tstid' (test) names picture 10, expected 1 to 9"),
        ({"trnid": [3, 3, 9]}, "'trnid' (train) names a picture twice"),
        ({"valid": [2, 9]}, "picture 9 is in train and in valid"),
        ({"tstid": [5, 6, 7, 4]}, "picture 4 is in test and in valid"),
        ({"valid": [2.5, 4]}, "'valid' holds something else than whole numbers"),
    ],
)
def test_wrong_splits_are_told(tmp_path: Path, changes: dict[str, list[float]], message: str) -> None:
    path = write(tmp_path / "setid.mat", **changes)
    with pytest.raises(ToolError) as error:
        read_splits(path, SIZES, 9)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert str(error.value).endswith("get the official file")


def test_a_missing_split(tmp_path: Path) -> None:
    savemat(tmp_path / "setid.mat", {"trnid": [3, 1, 9], "valid": [2, 4]})
    with pytest.raises(ToolError, match=r"setid.mat has no variable 'tstid', only trnid, valid"):
        read_splits(tmp_path / "setid.mat", SIZES, 9)

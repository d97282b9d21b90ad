from __future__ import annotations

from pathlib import Path

import pytest
from scipy.io import savemat

from oxford102.errors import ToolError
from oxford102.labels import OXFORD102_NAMES, read_labels


# Facts that hold on Oxford's page of the categories: the number in imagelabels.mat and the name beside it.
@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "pink primrose"),
        (12, "colt's foot"),
        (17, "purple coneflower"),
        (46, "wallflower"),
        (51, "petunia"),
        (54, "sunflower"),
        (73, "water lily"),
        (74, "rose"),
        (77, "passion flower"),
        (89, "watercress"),
        (94, "foxglove"),
        (102, "blackberry lily"),
    ],
)
def test_names_stand_in_the_official_order(number: int, name: str) -> None:
    assert OXFORD102_NAMES[number - 1] == name


def test_there_are_102_different_tidy_names() -> None:
    assert len(set(OXFORD102_NAMES)) == 102
    assert all(name and name == " ".join(name.split()) for name in OXFORD102_NAMES)


def test_labels_become_0_based(tmp_path: Path) -> None:
    savemat(tmp_path / "labels.mat", {"labels": [1, 3, 2, 3]})
    assert read_labels(tmp_path / "labels.mat", 4, 3).tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 0, 2], "picture 2 has label 0, expected 1 to 102"),
        ([1, 2, 103], "picture 3 has label 103, expected 1 to 102"),
        ([1, 2], "has 2 labels, expected 3"),
        ([1, 2, 2.5], "'labels' holds something else than whole numbers"),
        ([1, 2, float("nan")], "'labels' holds something else than whole numbers"),
        ([1, 2, float("inf")], "'labels' holds something else than whole numbers"),
        ([1, 2, 1e300], "'labels' holds something else than whole numbers"),
        (["a", "b", "c"], "'labels' holds something else than whole numbers"),
    ],
)
def test_wrong_labels_are_told(tmp_path: Path, labels: list[object], message: str) -> None:
    path = tmp_path / "imagelabels.mat"
    savemat(path, {"labels": labels})
    with pytest.raises(ToolError) as error:
        read_labels(path, 3, 102)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert str(error.value).endswith("get the official file")


def test_a_file_without_labels_tells_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "imagelabels.mat"
    savemat(path, {"trnid": [1], "names": [2]})
    with pytest.raises(ToolError, match="has no variable 'labels', only trnid, names; get the official file"):
        read_labels(path, 3, 102)


@pytest.mark.parametrize("content", [b"", b"MATLAB", b"<html>gone</html>" * 50, bytes(range(256)) * 4])
def test_a_file_that_is_no_matlab_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "imagelabels.mat"
    path.write_bytes(content)
    with pytest.raises(ToolError, match=r"imagelabels.mat is not a MATLAB file \(.*delete it"):
        read_labels(path, 3, 102)


def test_a_cut_matlab_file(tmp_path: Path) -> None:
    path = tmp_path / "imagelabels.mat"
    savemat(path, {"labels": list(range(1, 100))})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ToolError, match="is not a MATLAB file"):
        read_labels(path, 99, 102)

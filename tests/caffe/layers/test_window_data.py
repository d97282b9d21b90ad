"""WindowData: the crops of known windows, against a naive loop over the crop's pixels and OpenCV's warp."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
from caffe import parallel
from caffe.errors import DataError, LayerError

MakeNet = Callable[..., caffe.Net]


@pytest.fixture
def pictures(tmp_path: Path) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [rng.integers(1, 256, size, np.uint8) for size in ((30, 40, 3), (25, 20, 3))]
    for i, picture in enumerate(made):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    return made


@pytest.fixture
def net_of(tmp_path: Path, pictures: list[np.ndarray]) -> MakeNet:
    """Make a net on windows, rows (class, overlap, x1, y1, x2, y2) for each picture."""

    def make(
        windows: list[list[tuple[float, ...]]], param: str = "", transform: str = "crop_size: 12", batch: int = 4
    ) -> caffe.Net:
        text = ""
        for i, (rows, picture) in enumerate(zip(windows, pictures, strict=False)):
            height, width, channels = picture.shape
            text += f"# {i}\n{i}.png\n{channels}\n{height}\n{width}\n{len(rows)}\n"
            text += "".join(" ".join(map(str, row)) + "\n" for row in rows)
        return from_text(text, param, transform, batch)

    def from_text(text: str, param: str = "", transform: str = "crop_size: 12", batch: int = 4) -> caffe.Net:
        (tmp_path / "windows.txt").write_text(text)
        path = tmp_path / "net.prototxt"
        path.write_text(
            'layer { name: "w" type: "WindowData" top: "data" top: "label" transform_param { ' + transform + " } "
            f'window_data_param {{ source: "{tmp_path}/windows.txt" root_folder: "{tmp_path}/" '
            f"batch_size: {batch} {param} }} }}"
        )
        caffe.set_random_seed(2)
        return caffe.Net(str(path), caffe.TRAIN)

    make.from_text = from_text  # type: ignore[attr-defined]
    return make


def naive(
    picture: np.ndarray, box: tuple[int, ...], crop: int, pad: int = 0, square: bool = False, mirror: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The crop [c, crop, crop] and where the picture shows in it, by R-CNN's recipe for one window."""
    x1, y1, x2, y2 = box
    sides = {"x": (x1, x2, picture.shape[1]), "y": (y1, y2, picture.shape[0])}
    half = {axis: (last - first + 1) / 2 for axis, (first, last, _) in sides.items()}
    if square:
        half = dict.fromkeys(half, max(half.values()))
    cut, size, before, after = {}, {}, {}, {}
    for axis, (first, last, length) in sides.items():
        if pad or square:
            middle = first + (last - first + 1) / 2
            reach = half[axis] * crop / (crop - 2 * pad)
            first, last = (int(math.copysign(math.floor(abs(v) + 0.5), v)) for v in (middle - reach, middle + reach))
        factor = crop / (last - first + 1)
        missing = (max(0, -first), max(0, last - length + 1))
        cut[axis] = slice(first + missing[0], last - missing[1] + 1)
        size[axis] = int((cut[axis].stop - cut[axis].start) * factor + 0.5)
        before[axis], after[axis] = (int(m * factor + 0.5) for m in missing)
    left, top = after["x"] if mirror else before["x"], before["y"]
    size = {"x": min(size["x"], crop - left), "y": min(size["y"], crop - top)}
    warped = cv2.resize(picture[cut["y"], cut["x"]], (size["x"], size["y"]))
    if mirror:
        warped = warped[:, ::-1]
    out, seen = np.zeros((3, crop, crop)), np.zeros((crop, crop), bool)
    for y in range(size["y"]):
        for x in range(size["x"]):
            out[:, top + y, left + x] = warped[y, x]
            seen[top + y, left + x] = True
    return out, seen


BOX = (5, 6, 20, 17)


@pytest.mark.parametrize(
    ("box", "param", "recipe"),
    [
        (BOX, "", {}),
        (BOX, "context_pad: 2", {"pad": 2}),
        (BOX, 'crop_mode: "square"', {"square": True}),
        ((0, 0, 9, 4), 'context_pad: 2 crop_mode: "square"', {"pad": 2, "square": True}),
        ((30, 2, 39, 29), "context_pad: 3", {"pad": 3}),
        ((5, 0, 20, 4), "context_pad: 1", {"pad": 1}),  # rounded, what there is of it is a row too high
        ((0, 6, 4, 17), "context_pad: 1", {"pad": 1}),  # and a column too wide
        ((1, 22, 38, 29), "context_pad: 1 cache_images: true", {"pad": 1}),
    ],
)
@pytest.mark.parametrize("mirror", [False, True])
def test_crops(
    net_of: MakeNet, pictures: list[np.ndarray], box: tuple[int, ...], param: str, recipe: dict, mirror: bool
) -> None:
    transform = "crop_size: 12 mean_value: 10 mean_value: 20 mean_value: 30 " + "mirror: true" * mirror
    net = net_of([[(3, 0.9, *box)]], f"fg_fraction: 1 {param}", transform)
    assert net.blobs["data"].shape == (4, 3, 12, 12)
    mean = np.array([10, 20, 30]).reshape(3, 1, 1)
    expected = []
    for flip in (False, True)[: 1 + mirror]:
        crop, seen = naive(pictures[0], box, 12, mirror=flip, **recipe)
        expected.append((crop - mean) * seen)
    met = Counter()
    for _ in range(6):
        out = net.forward()
        assert np.all(out["label"] == 3)
        for crop in out["data"]:
            matches = [np.allclose(crop, e) for e in expected]
            assert any(matches)
            met[matches.index(True)] += 1
    assert len(met) == len(expected)


def test_mean_file_and_scale(net_of: MakeNet, pictures: list[np.ndarray], tmp_path: Path) -> None:
    mean = np.random.default_rng(1).random((3, 16, 16)) * 50
    (tmp_path / "mean.binaryproto").write_bytes(caffe.io.array_to_blobproto(mean[np.newaxis]).SerializeToString())
    transform = f'crop_size: 12 mean_file: "{tmp_path}/mean.binaryproto" scale: 0.5'
    data = net_of([[(1, 0.9, *BOX)]], "fg_fraction: 1 scale: 3", transform).forward()["data"]
    crop, _ = naive(pictures[0], BOX, 12)
    assert np.allclose(data[0], (crop - mean[:, 2:14, 2:14]) * 1.5, rtol=1e-4, atol=1e-3)


def test_background_first_then_foreground(net_of: MakeNet) -> None:
    windows = [
        [(1, 0.9, 0, 0, 9, 9), (2, 0.5, 3, 3, 9, 9), (7, 0.4, 0, 0, 5, 5), (5, 0.1, 2, 2, 8, 8)],
        [(4, 0.2, 1, 1, 6, 6), (3, 0.7, 0, 0, 9, 9)],
    ]
    net = net_of(windows, "fg_threshold: 0.5 bg_threshold: 0.3 fg_fraction: 0.5")
    met = set()
    for _ in range(30):
        label = net.forward()["label"].astype(int).tolist()
        assert label[:2] == [0, 0]
        met.update(label[2:])
    assert met == {1, 2, 3}  # overlap 0.4 is neither
    assert np.all(net_of(windows, "fg_fraction: 0").forward()["label"] == 0)


def test_the_log_counts_windows(
    net_of: MakeNet, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    net_of([[(2, 0.9, 0, 0, 9, 9), (2, 0.8, 0, 0, 9, 9), (1, 0.1, 0, 0, 9, 9)], [(5, 0.6, 0, 0, 9, 9)]])
    log = capfd.readouterr().err
    for line in (
        "  foreground sampling fraction: 0.25",
        "] Number of images: 2",
        "] class 0 has 1 samples",
        "] class 2 has 2 samples",
        "] class 5 has 1 samples",
        "] Amount of context padding: 0",
        "] Crop mode: warp",
        "] output data size: 4,3,12,12",
    ):
        assert line in log
    assert "class 1 has" not in log


def test_draws_go_on_from_a_state(net_of: MakeNet) -> None:
    windows = [[(i + 1, 0.9, i, i, i + 9, i + 9) for i in range(9)]]
    net = net_of(windows, "fg_fraction: 1")
    net.forward()
    state = net.layers[0].state()
    rest = [net.forward()["label"].tolist() for _ in range(3)]
    other = net_of(windows, "fg_fraction: 1")
    other.layers[0].restore(state)
    assert [other.forward()["label"].tolist() for _ in range(3)] == rest


GOOD = [[(1, 0.9, 0, 0, 9, 9), (1, 0.1, 0, 0, 9, 9)]]


def test_mistakes_in_the_prototxt(net_of: MakeNet) -> None:
    for arguments, words in (
        ({"transform": ""}, "Check failed: crop_size > 0"),
        ({"param": "context_pad: 6"}, "context_pad 6 on both sides leaves nothing of a crop of 12"),
        ({"param": 'crop_mode: "round"'}, "crop_mode 'round' is not known; it is warp or square"),
        (
            {"transform": "crop_size: 12 mean_value: 1 mean_value: 2"},
            "Specify either 1 mean_value or as many as channels",
        ),
    ):
        with pytest.raises(LayerError, match=words):
            net_of(GOOD, **arguments)


def test_mistakes_in_the_windows(net_of: MakeNet, tmp_path: Path) -> None:
    from_text = net_of.from_text  # type: ignore[attr-defined]
    head = "# 0 0.png 3 30 40 1 "
    for text, words in (
        ("", "Window file is empty"),
        ("0 0.png 3 30 40 0 1 2", "picture 0 .word 1 of the file. is not '# number path"),
        (head + "1 0.9 0 0 9", "and as many rows 'class overlap x1 y1 x2 y2'"),
        (head + "0 0.9 0 0 9 9", "Check failed: label > 0 .0 vs. 0.: .*0.png has a foreground window of no class"),
    ):
        with pytest.raises(DataError, match=words):
            from_text(text)
    for param, words in (
        ("bg_threshold: 0", "has no background window"),
        ("fg_threshold: 0.95", "has no foreground window"),
    ):
        with pytest.raises(DataError, match=rf"windows\.txt {words}; see"):
            net_of(GOOD, param)
    with pytest.raises(DataError, match="lies outside the picture, which is 40 wide and 30 high"):
        from_text(head + "1 0.9 0 0 40 9", "fg_fraction: 1").forward()
    with pytest.raises(DataError, match="Could not open or find file .*none.png"):
        from_text(head.replace("0.png", "none.png") + "1 0.9 0 0 9 9", "fg_fraction: 1").forward()
    with pytest.raises(DataError, match="0.png has 3 channels, the window file says 4"):
        from_text(head.replace("3 30", "4 30") + "1 0.9 0 0 9 9", "fg_fraction: 1").forward()


def test_processes_share_the_windows(net_of: MakeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = [[(i + 1, 0.9, i, 0, i + 11, 11) for i in range(20)], [(i + 1, 0.1, i, 1, i + 5, 9) for i in range(8)]]
    param = "fg_threshold: 0.5 bg_threshold: 0.5 fg_fraction: 0.5"
    monkeypatch.setattr(parallel, "_count", 2)
    drawn = []
    for rank in range(2):
        monkeypatch.setattr(parallel, "_rank", rank)
        net = net_of(windows, param)
        drawn.append([net.forward()["label"].tolist() for _ in range(20)])
    assert all(batch[:2] == [0, 0] and min(batch[2:]) > 0 for batches in drawn for batch in batches)
    assert drawn[0] != drawn[1]
    monkeypatch.setattr(parallel, "_count", 1)
    monkeypatch.setattr(parallel, "_rank", 0)
    joined = net_of(windows, param, batch=8)
    both = [joined.forward()["label"].tolist() for _ in range(20)]
    assert both == [[x for pair in zip(*batches, strict=True) for x in pair] for batches in zip(*drawn, strict=True)]

"""MemoryData: the caller's arrays, batch by batch and round again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.errors import LayerError, NetError

PARAM = "batch_size: 2 channels: 3 height: 4 width: 5"


def make(tmp_path: Path, param: str = PARAM, more: str = "") -> caffe.Net:
    path = tmp_path / "net.prototxt"
    path.write_text(
        f'layer {{ name: "m" type: "MemoryData" top: "x" top: "y" memory_data_param {{ {param} }} {more} }}'
    )
    return caffe.Net(str(path), caffe.TEST)


def arrays(n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(n).random((n, 3, 4, 5), np.float32), np.arange(n, dtype=np.float32)


def test_round_and_round(tmp_path: Path) -> None:
    net = make(tmp_path)
    assert [b.shape for b in net.blobs.values()] == [(2, 3, 4, 5), (2,)]
    data, labels = arrays()
    net.set_input_arrays(data, labels)
    for start in (0, 2, 4, 0):
        out = net.forward()
        assert np.array_equal(out["x"], data[start : start + 2])
        assert out["y"].shape == (2, 1, 1, 1)  # as in Caffe, from the first pass on
        assert out["y"].ravel().tolist() == [start, start + 1]
    net.set_input_arrays(data[4:], labels[4:].reshape(2, 1, 1, 1))
    assert net.forward()["y"].ravel().tolist() == [4, 5]


def test_arrays_are_live_and_stay_the_callers(tmp_path: Path) -> None:
    net = make(tmp_path)
    data, labels = arrays(2)
    net.set_input_arrays(data, labels)
    data[0] = 7
    labels[1] = 9
    out = net.forward()
    assert np.all(out["x"][0] == 7)
    assert out["y"].ravel().tolist() == [0, 9]
    net.blobs["x"].data[...] = 0
    assert np.all(data[0] == 7)


def test_transforms_are_not_done_and_it_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make(tmp_path, more="transform_param { scale: 2 }")
    monkeypatch.setenv("GLOG_minloglevel", "1")
    data, labels = arrays(2)
    net.set_input_arrays(data, labels)
    assert "MemoryData does not transform array data on Reset()" in capfd.readouterr().err
    assert np.array_equal(net.forward()["x"], data)


def test_mistakes(tmp_path: Path) -> None:
    net = make(tmp_path)
    data, labels = arrays()
    with pytest.raises(LayerError, match="MemoryDataLayer needs to be initialized by calling Reset.*set_input_arrays"):
        net.forward()
    cases = [
        (data[:, :, :, ::-1], labels, "data array must be C contiguous"),
        (data[0], labels, "data array must be 4-d"),
        (data.astype(np.float64), labels, "data array must be float32, it is float64"),
        (data[:, :2].copy(), labels, "data array has wrong number of channels: 2, it must be 3"),
        (data.reshape(6, 3, 5, 4), labels, "data array has wrong height"),
        (np.zeros((6, 3, 4, 6), np.float32), labels, "data array has wrong width"),
        (data, labels.astype(int), "labels array must be float32"),
        (data, labels[:4], "data and labels must have the same first dimension: there are 6 and 4"),
        (data[:5], labels[:5], "n must be a multiple of batch size"),
    ]
    for x, y, words in cases:
        with pytest.raises(LayerError, match=words):
            net.set_input_arrays(x, y)
    with pytest.raises(LayerError, match="batch_size, channels, height, and width must be specified and positive"):
        make(tmp_path, "batch_size: 2 channels: 3 height: 4")
    path = tmp_path / "other.prototxt"
    path.write_text('input: "x" input_shape { dim: 1 }')
    with pytest.raises(NetError, match="set_input_arrays may only be called if the first layer is a MemoryDataLayer"):
        caffe.Net(str(path), caffe.TEST).set_input_arrays(data, labels)

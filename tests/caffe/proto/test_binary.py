"""Binary files, against protobuf and files that BVLC Caffe 1.0 wrote."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from caffe.errors import CaffeError, FormatError
from caffe.proto.binary import (
    read_message,
    read_state,
    read_weights,
    whole_file,
    write_message,
    write_state,
    write_weights,
)
from caffe.proto.caffe_pb2 import BlobProto, NetParameter, SolverState

WEIGHTS, STATE = "tiny_iter_10.caffemodel", "tiny_iter_10.solverstate"


def test_caffes_weights(golden: Path) -> None:
    path = golden / "files" / WEIGHTS
    expected = NetParameter.FromString(path.read_bytes())
    read = read_weights(str(path))
    assert [(layer.name, layer.type) for layer in read] == [(layer.name, layer.type) for layer in expected.layer]
    for ours, theirs in zip(read, expected.layer, strict=True):
        assert [blob.shape for blob in ours.blobs] == [tuple(blob.shape.dim) for blob in theirs.blobs]
        for blob, recorded in zip(ours.blobs, theirs.blobs, strict=True):
            np.testing.assert_array_equal(blob.data.ravel(), np.array(recorded.data, np.float32))
            assert blob.diff is None
    assert read[1].blobs[0].shape == (8, 3, 5, 5)


def test_caffes_weights_are_written_as_caffe_wrote_them(golden: Path, tmp_path: Path) -> None:
    raw = (golden / "files" / WEIGHTS).read_bytes()
    net = NetParameter.FromString(raw)
    blobs = [
        [(blob.shape, blob.data, blob.diff) for blob in layer.blobs]
        for layer in read_weights(str(golden / "files" / WEIGHTS))
    ]
    for layer in net.layer:
        layer.ClearField("blobs")
    write_weights(str(tmp_path / "out.caffemodel"), net, blobs)
    assert (tmp_path / "out.caffemodel").read_bytes() == raw
    assert [path.name for path in tmp_path.iterdir()] == ["out.caffemodel"]


def test_caffes_state_there_and_back(golden: Path, tmp_path: Path) -> None:
    raw = (golden / "files" / STATE).read_bytes()
    expected = SolverState.FromString(raw)
    iteration, learned_net, current_step, history = read_state(str(golden / "files" / STATE))
    assert (iteration, learned_net, current_step) == (10, expected.learned_net, expected.current_step)
    for values, recorded in zip(history, expected.history, strict=True):
        np.testing.assert_array_equal(values.ravel(), np.array(recorded.data, np.float32))
    path = str(tmp_path / "out.solverstate")
    write_state(path, iteration, learned_net, current_step, history)
    assert Path(path).read_bytes() == raw


def test_mean_file(golden: Path, tmp_path: Path) -> None:
    path = golden / "files" / "mean.binaryproto"
    mean = read_message(str(path), BlobProto())
    assert len(mean.data) == mean.num * mean.channels * mean.height * mean.width > 0
    write_message(str(tmp_path / "mean"), mean)
    assert (tmp_path / "mean").read_bytes() == path.read_bytes()


def test_diffs_strided_and_scalar_arrays(tmp_path: Path) -> None:
    data = np.arange(12, dtype=np.float32).reshape(3, 4).T
    net = NetParameter(name="n", layer=[{"name": "a", "type": "Scale", "include": [{"phase": 1}]}, {"name": "b"}])
    path = str(tmp_path / "w")
    write_weights(path, net, [[((4, 3), data, -data), ((), np.float32([7]), None)], []])
    a, b = read_weights(path)
    np.testing.assert_array_equal(a.blobs[0].data, data)
    np.testing.assert_array_equal(a.blobs[0].diff, -data)
    assert (a.blobs[1].shape, a.blobs[1].data.item(), b.blobs) == ((), 7, [])
    plain = read_message(path, NetParameter())
    assert list(plain.layer[0].blobs[0].data) == data.ravel().tolist()
    assert plain.layer[0].include[0].phase == 1
    assert not net.layer[0].blobs


def test_changed_arrays_do_not_change_the_file(golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes((golden / "files" / WEIGHTS).read_bytes())
    before = path.read_bytes()
    data = read_weights(str(path))[1].blobs[0].data
    assert not data.flags.owndata
    data[:] = 0
    assert path.read_bytes() == before
    path.unlink()
    assert not data.any()


def v1_net() -> NetParameter:
    bias = BlobProto(num=1, channels=1, height=1, width=2, data=[5, 6])
    net = NetParameter(name="old", input=["data"], input_dim=[1, 3, 4, 4])
    net.layers.add(name="conv1", type=4, blobs=[BlobProto(num=2, channels=1, height=1, width=1, data=[1, 2]), bias])
    net.layers.add(name="loss", type=21, bottom=["a", "b"])
    return net


def test_v1_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    path = str(tmp_path / "v1.caffemodel")
    write_message(path, v1_net())
    layers = read_weights(path)
    assert [(layer.name, layer.type) for layer in layers] == [
        ("input", "Input"),
        ("conv1", "Convolution"),
        ("loss", "SoftmaxWithLoss"),
    ]
    weights, bias = layers[1].blobs
    assert (weights.shape, weights.data.ravel().tolist()) == ((2, 1, 1, 1), [1, 2])
    assert (bias.shape, bias.data.ravel().tolist()) == ((1, 1, 1, 2), [5, 6])
    assert f"specified using deprecated V1LayerParameter: {path}" in capfd.readouterr().err


def test_v0_weights(tmp_path: Path) -> None:
    net = NetParameter()
    pad = net.layers.add(bottom=["data"], top=["pad"])
    pad.layer.name, pad.layer.type, pad.layer.pad = "pad", "padding", 1
    conv = net.layers.add(bottom=["pad"], top=["conv"])
    conv.layer.name, conv.layer.type = "conv", "conv"
    conv.layer.blobs.add(num=1, channels=1, height=1, width=1, data=[9])
    write_message(str(tmp_path / "v0"), net)
    (layer,) = read_weights(str(tmp_path / "v0"))
    assert (layer.name, layer.type, layer.blobs[0].data.item()) == ("conv", "Convolution", 9)


def test_every_cut_is_noticed(golden: Path, tmp_path: Path) -> None:
    """Wherever the file is cut, we refuse it if protobuf does."""
    raw = (golden / "files" / WEIGHTS).read_bytes()
    path = tmp_path / "cut.caffemodel"
    for length in range(1, len(raw), 11):
        path.write_bytes(raw[:length])
        try:
            layers = [layer.name for layer in NetParameter.FromString(raw[:length]).layer]
        except DecodeError:
            layers = []
        if layers:
            assert [layer.name for layer in read_weights(str(path))] == layers
        else:
            with pytest.raises(FormatError, match=re.escape(f"Failed to parse NetParameter file: {path}")):
                read_weights(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; copy or download it again"),
        (b"<!DOCTYPE html><html>Not found", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", r"HDF5 file; its name must end with \.h5"),
        (b"PK\x03\x04abc", "ZIP archive or a PyTorch file"),
        (b"\x1f\x8b\x08abc", "gzip"),
        (b'name: "net"\nlayer { }\n', "it is text; is it a prototxt?"),
        (b"\x0a\x7fabc\x00", "cut or damaged"),
    ],
)
def test_what_is_no_message(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(content)
    for read, kind in ((read_weights, "NetParameter"), (read_state, "SolverState")):
        with pytest.raises(FormatError, match=f"Failed to parse {kind} file: .*{message}"):
            read(str(path))
    with pytest.raises(FormatError, match=f"Failed to parse BlobProto file: .*{message}"):
        read_message(str(path), BlobProto())


def test_one_file_for_another(golden: Path) -> None:
    files = golden / "files"
    with pytest.raises(FormatError, match="-weights, not -snapshot"):
        read_state(str(files / WEIGHTS))
    with pytest.raises(FormatError, match="Failed to parse NetParameter file"):
        read_weights(str(files / STATE))
    with pytest.raises(FormatError, match="holds no layers"):
        read_weights(str(files / "mean.binaryproto"))


def test_missing_file(tmp_path: Path) -> None:
    path = str(tmp_path / "none.caffemodel")
    message = re.escape(f"Check failed: fd != -1 (-1 vs. -1) File not found: {path}")
    for read in (read_weights, read_state, lambda p: read_message(p, BlobProto())):
        with pytest.raises(FormatError, match=message):
            read(path)
    # Caffe tries weights as HDF5 first, and then says this:
    with pytest.raises(FormatError, match=re.escape(f"Couldn't open {path}")):
        read_weights(path)


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with whole_file(str(path)) as file:
            file.write(b"half of it")
            raise KeyError

    path = tmp_path / "w"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        fail_halfway()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_link_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "mean")
    write_message(str(tmp_path / "link"), BlobProto(data=[1]))
    assert (tmp_path / "link").is_symlink()
    assert list(read_message(str(tmp_path / "mean"), BlobProto()).data) == [1]


def test_through_a_pipe(golden: Path, tmp_path: Path) -> None:
    pipe, raw = tmp_path / "pipe", (golden / "files" / WEIGHTS).read_bytes()
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[raw])
    writer.start()
    passed = read_weights(str(pipe))
    writer.join()
    for ours, theirs in zip(passed, read_weights(str(golden / "files" / WEIGHTS)), strict=True):
        for mine, other in zip(ours.blobs, theirs.blobs, strict=True):
            np.testing.assert_array_equal(mine.data, other.data)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_message(str(pipe), BlobProto(data=[1]))
    reader.join()
    assert found == [BlobProto(data=[1]).SerializeToString()]
    assert pipe.is_fifo()


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match=r"Cannot write .*No such file or directory"):
        write_message(str(tmp_path / "no" / "w"), BlobProto())

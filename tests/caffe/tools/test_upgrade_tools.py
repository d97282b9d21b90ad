"""upgrade_net_proto_text, upgrade_net_proto_binary and upgrade_solver_proto_text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.proto.binary import read_weights
from caffe.proto.caffe_pb2 import BlobProto, NetParameter, V1LayerParameter
from caffe.tools import upgrade_net_proto_binary, upgrade_net_proto_text, upgrade_solver_proto_text

TOOLS = {
    tool.COMMAND.name: tool for tool in (upgrade_net_proto_binary, upgrade_net_proto_text, upgrade_solver_proto_text)
}

OLD = """
name: "old"  # comments go
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
         convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" std: 0.01 } } }
"""
NEW = """name: "old"
layer {
  name: "input"
  type: "Input"
  top: "data"
  input_param {
    shape {
      dim: 1
      dim: 3
      dim: 8
      dim: 8
    }
  }
}
layer {
  name: "c"
  type: "Convolution"
  bottom: "data"
  top: "c"
  param {
    lr_mult: 1
    decay_mult: 1
  }
  param {
    lr_mult: 2
    decay_mult: 0
  }
  convolution_param {
    num_output: 2
    kernel_size: 3
    weight_filler {
      type: "gaussian"
      std: 0.01
    }
  }
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "0")
    return tmp_path


def unlogged(text: str) -> list[str]:
    """Severity and lines of a log from their place on."""
    return [f"{line[0]} {line.split(None, 3)[3]}" for line in text.splitlines()]


def test_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "old.prototxt").write_text(OLD)
    assert upgrade_net_proto_text.main(["old.prototxt", "new.prototxt"]) == 0
    assert (folder / "new.prototxt").read_text() == NEW
    what = "upgrade_proto.cpp:55] Attempting to upgrade input file specified using deprecated V1LayerParameter"
    lines = unlogged(capsys.readouterr().err)
    assert lines[0] == f"I {what}: old.prototxt"
    assert lines[-1] == "I upgrade_net_proto_text.cpp:49] Wrote upgraded NetParameter text proto to new.prototxt"


def test_text_of_today_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "new.prototxt").write_text(NEW)
    assert upgrade_net_proto_text.main(["new.prototxt", "new.prototxt"]) == 0  # onto itself
    assert (folder / "new.prototxt").read_text() == NEW
    assert unlogged(capsys.readouterr().err) == [
        "E upgrade_net_proto_text.cpp:43] File already in latest proto format: new.prototxt",
        "I upgrade_net_proto_text.cpp:49] Wrote upgraded NetParameter text proto to new.prototxt",
    ]


def test_text_that_cannot_all_be_kept_is_written_with_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "v0.prototxt").write_text('layers { layer { name: "r" type: "relu" stride: 2 } bottom: "x" top: "y" }')
    assert upgrade_net_proto_text.main(["v0.prototxt", "new.prototxt"]) == 1
    assert (folder / "new.prototxt").read_text() == (
        'layer {\n  name: "r"\n  type: "ReLU"\n  bottom: "x"\n  top: "y"\n}\n'
    )
    assert unlogged(capsys.readouterr().err)[-2:] == [
        "E upgrade_net_proto_text.cpp:39] Encountered error(s) while upgrading prototxt; see details above.",
        "I upgrade_net_proto_text.cpp:49] Wrote upgraded NetParameter text proto to new.prototxt",
    ]


def old_weights(**diff: Any) -> NetParameter:
    rng = np.random.default_rng(1)
    blobs = [
        BlobProto(num=2, channels=3, height=3, width=3, data=rng.standard_normal(54), **diff),
        BlobProto(num=1, channels=1, height=1, width=2, data=rng.standard_normal(2)),
    ]
    layer = V1LayerParameter(name="c", type=V1LayerParameter.CONVOLUTION, blobs_lr=[1, 2], blobs=blobs)
    return NetParameter(name="old", layers=[layer, V1LayerParameter(name="r", type=V1LayerParameter.RELU)])


def test_binary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The blobs stay as they are, their old shapes and gradients too."""
    old = old_weights(diff=np.arange(54))
    (folder / "old.caffemodel").write_bytes(old.SerializeToString())
    assert upgrade_net_proto_binary.main(["old.caffemodel", "new.caffemodel"]) == 0
    new = NetParameter.FromString((folder / "new.caffemodel").read_bytes())
    assert not new.layers
    assert [(layer.name, layer.type) for layer in new.layer] == [("c", "Convolution"), ("r", "ReLU")]
    assert [spec.lr_mult for spec in new.layer[0].param] == [1, 2]
    assert list(new.layer[0].blobs) == list(old.layers[0].blobs)
    assert unlogged(capsys.readouterr().err)[-1] == (
        "I upgrade_net_proto_binary.cpp:48] Wrote upgraded NetParameter binary proto to new.caffemodel"
    )
    assert [w.blobs[0].shape for w in read_weights("new.caffemodel")[:1]] == [(2, 3, 3, 3)]


def test_binary_with_a_tag_for_each_number(folder: Path) -> None:
    """As files of 2013 have them."""
    numbers = np.array([1.5, -2.0, 3.25], "<f4")
    blob = b"\x08\x01\x10\x01\x18\x01\x20\x03" + b"".join(b"\x2d" + number.tobytes() for number in numbers)
    layer = b"\x22\x01a" + b"\x28\x0e" + b"\x32" + bytes([len(blob)]) + blob  # name, type 14, blobs
    (folder / "old.caffemodel").write_bytes(b"\x12" + bytes([len(layer)]) + layer)
    assert upgrade_net_proto_binary.main(["old.caffemodel", "new.caffemodel"]) == 0
    new = NetParameter.FromString((folder / "new.caffemodel").read_bytes())
    assert (new.layer[0].name, new.layer[0].type) == ("a", "InnerProduct")
    assert list(new.layer[0].blobs[0].data) == [1.5, -2.0, 3.25]
    assert new.layer[0].blobs[0].width == 3


def test_binary_of_today_stays(folder: Path, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = (golden / "files" / "tiny_iter_10.caffemodel").read_bytes()
    (folder / "now.caffemodel").write_bytes(now)
    assert upgrade_net_proto_binary.main(["now.caffemodel", "now.caffemodel"]) == 0
    assert (folder / "now.caffemodel").read_bytes() == now
    already = "E upgrade_net_proto_binary.cpp:43] File already in latest proto format: now.caffemodel"
    assert unlogged(capsys.readouterr().err)[0] == already


def test_solver(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the type is upgraded; a prefix of the snapshots is not made up."""
    (folder / "old.prototxt").write_text('net: "net.prototxt" solver_type: ADAGRAD base_lr: 0.01')
    assert upgrade_solver_proto_text.main(["old.prototxt", "new.prototxt"]) == 0
    new = 'base_lr: 0.01\nnet: "net.prototxt"\ntype: "AdaGrad"\n'
    assert (folder / "new.prototxt").read_text() == new
    lines = unlogged(capsys.readouterr().err)
    assert [line.split("]")[0] for line in lines] == [
        "I upgrade_proto.cpp:1084",
        "I upgrade_proto.cpp:1091",
        "W upgrade_proto.cpp:1093",
        "I upgrade_solver_proto_text.cpp:49",
    ]
    assert upgrade_solver_proto_text.main(["new.prototxt", "newer.prototxt"]) == 0
    assert (folder / "newer.prototxt").read_text() == new
    already = "E upgrade_solver_proto_text.cpp:43] File already in latest proto format: new.prototxt"
    assert unlogged(capsys.readouterr().err)[0] == already


def test_a_solver_with_both_types(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "old.prototxt").write_text('net: "n" solver_type: ADAM type: "SGD"')
    assert upgrade_solver_proto_text.main(["old.prototxt", "new.prototxt"]) == 1
    assert "Failed to upgrade solver: old solver_type field (enum)" in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / "new.prototxt").exists()


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["absent", "new"], 1, "File not found: absent"),
        ([".", "new"], 1, "File not found: ."),
        (["jpeg", "new"], 1, "Failed to parse"),
        (["empty", "new"], None, ""),
        (["good", "absent/new"], 1, "Cannot write absent/new: No such file or directory"),
        (["good", "."], 1, "Cannot write .: "),
        (["good"], 2, "got 'good'"),
        (["good", "new", "more"], 2, "got 'good' 'new' 'more'"),
        (["-quiet", "good", "new"], 2, "unknown command line flag 'quiet'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: Path,
    golden: Path,
    name: str,
    words: list[str],
    status: int | None,
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = {
        "upgrade_net_proto_binary": (golden / "files" / "tiny_iter_10.caffemodel").read_bytes(),
        "upgrade_net_proto_text": NEW.encode(),
        "upgrade_solver_proto_text": b'net: "net.prototxt"',
    }
    (folder / "good").write_bytes(good[name])
    (folder / "jpeg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00")
    (folder / "empty").write_bytes(b"")
    before = sorted(folder.iterdir())
    if status is None:  # nothing is a prototxt, but no weights
        status, text = (1, "is empty") if name.endswith("binary") else (0, "Wrote upgraded")
    assert TOOLS[name].main(words) == status
    assert text in capsys.readouterr().err.splitlines()[-1]
    assert sorted(folder.iterdir()) == (before if status else sorted([*before, folder / "new"]))


@pytest.mark.parametrize("name", TOOLS)
def test_help_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert TOOLS[name].main(["--help"]) == 0
    assert f"Examples:\n    {name} " in capsys.readouterr().out

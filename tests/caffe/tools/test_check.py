"""What `caffe train -check` finds in nets and data of all kinds."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import lmdb
import numpy as np
import pytest
from google.protobuf import text_format

from caffe.proto.caffe_pb2 import Datum, NetParameter
from caffe.tools.check import classes
from caffe.tools.main import main

FC = """layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "y" top: "loss" }"""


@pytest.mark.parametrize(
    "judge", ["SoftmaxWithLoss", "Accuracy", "HingeLoss", "MultinomialLogisticLoss", "InfogainLoss"]
)
def test_how_many_classes_there_are(judge: str) -> None:
    def found(layers: str) -> int:
        net = text_format.Parse('layer { name: "d" top: "x" top: "y" }' + layers, NetParameter())
        return classes(net, net.layer[0])

    fc = 'layer { name: "fc" bottom: "x" top: "fc" inner_product_param { num_output: 7 } }'
    conv = 'layer { name: "fc" bottom: "x" top: "fc" convolution_param { num_output: 5 } }'
    pool = 'layer { name: "p" bottom: "fc" top: "p" pooling_param { } }'
    told = f'layer {{ name: "j" type: "{judge}" bottom: "%s" bottom: "%s" top: "j" }}'
    assert found(fc + told % ("fc", "y")) == 7
    assert found(conv + pool + told % ("p", "y")) == 5
    assert found(fc + told % ("fc", "z")) == 0
    assert found(told % ("x", "y")) == 0
    assert found(fc + told.replace(judge, "EuclideanLoss") % ("fc", "y")) == 0


def check(folder: Path, data: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    (folder / "net.prototxt").write_text(data + FC)
    (folder / "solver.prototxt").write_text(
        f'net: "{folder}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "{folder}/s"'
    )
    status = main(["train", "-solver", f"{folder}/solver.prototxt", "-check"])
    out, err = capfd.readouterr()
    return status, out + err


def test_every_file_of_rows_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("0.h5", "1.h5", "2.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["x"], file["y"] = np.zeros((3, 4)), np.zeros(3)
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{i}.h5\n" for i in range(3)))
    data = f"""layer {{ name: "d" type: "HDF5Data" top: "x" top: "y"
        hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: 1 }} }}"""
    status, text = check(tmp_path, data, capfd)
    assert status == 0
    assert "train net, layer 'd': 3 files" in text
    with h5py.File(tmp_path / "2.h5", "w") as file:
        file["x"] = np.zeros((3, 4))
    status, text = check(tmp_path, data, capfd)
    assert status == 1
    assert "2.h5: Failed to find HDF5 dataset y" in text


def test_every_picture_of_windows_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = ""
    for i in range(3):
        cv2.imwrite(f"{tmp_path}/{i}.png", np.zeros((9, 9, 3), np.uint8))
        text += f"# {i}\n{tmp_path}/{i}.png\n3\n9\n9\n2\n1 0.9 0 0 8 8\n0 0.1 0 0 8 8\n"
    (tmp_path / "windows.txt").write_text(text)
    data = f"""layer {{ name: "d" type: "WindowData" top: "x" top: "y" transform_param {{ crop_size: 4 }}
        window_data_param {{ source: "{tmp_path}/windows.txt" batch_size: 4 fg_fraction: 0.5 }} }}"""
    status, text = check(tmp_path, data, capfd)
    assert status == 0
    assert "train net, layer 'd': 3 files" in text
    (tmp_path / "1.png").write_bytes(b"no picture")
    status, text = check(tmp_path, data, capfd)
    assert status == 1
    assert "1.png" in text


def test_every_record_is_read_and_missing_classes_are_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def put(labels: list[int]) -> None:
        with lmdb.open(f"{tmp_path}/db", map_size=1 << 24) as env, env.begin(write=True) as transaction:
            for i, label in enumerate(labels):
                datum = Datum(channels=1, height=2, width=2, data=bytes(4), label=label)
                transaction.put(f"{i:03d}".encode(), datum.SerializeToString())

    data = f"""layer {{ name: "d" type: "Data" top: "x" top: "y"
        data_param {{ source: "{tmp_path}/db" batch_size: 2 backend: LMDB }} }}"""
    put([0] * 30)
    status, text = check(tmp_path, data, capfd)
    assert status == 0
    assert "train net, layer 'd': 30 pictures, 1 classes, 30 to 30 a class, none of 1 of 2 classes" in text
    put([0, 1] * 15)
    status, text = check(tmp_path, data, capfd)
    assert (status, "none of" in text) == (0, False)
    put([0] * 5 + [2] * 25)
    status, text = check(tmp_path, data, capfd)
    assert status == 1
    said = [line for line in text.splitlines() if line.startswith("E") and "layer 'd'" in line]
    assert len([line for line in said if "label 2 is outside 0 to 1" in line]) == 20
    assert sum("5 more records like these" in line for line in said) == 1

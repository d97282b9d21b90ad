"""The command as a user calls it, on nets whose data are not there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "absent_lmdb" batch_size: 64 backend: LMDB } transform_param { crop_size: 20 } }
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TEST }
        image_data_param { source: "absent.txt" batch_size: 7 new_height: 24 new_width: 20 is_color: false } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { name: "w" lr_mult: 10 } param { lr_mult: 2
        decay_mult: 0 } inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "out" type: "HDF5Output" bottom: "fc" bottom: "label" hdf5_output_param { file_name: "out.h5" } }
layer { name: "own" type: "Python" bottom: "fc" bottom: "label" top: "own" loss_weight: 1
        python_param { module: "own_layers" layer: "Own" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
OWN = """
import caffe
import numpy as np

class Own(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(3)

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "own_layers.py").write_text(OWN)
    return tmp_path


def run(cwd: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "summarize.py"), *map(str, args)]
    env = {**os.environ, "PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env)


def rows(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: re.split(r"\s{2,}", line) for line in out.splitlines()}


def test_a_training_net_without_its_database(folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = run(folder, "net.prototxt")
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(done.stdout)
    assert found["data"] == ["data", "Data", "-> data,label", "64x3x20x20, 64", "-", "-"]
    assert found["fc"] == ["fc", "InnerProduct", "data -> fc", "64x5", "6,005", "w:10 2/0", "768 k"]
    assert found["out"][:4] == ["out", "HDF5Output", "fc,label ->", "-"]
    assert found["own"][:5] == ["own", "own_layers.Own", "fc,label -> own", "1", "3"]
    assert found["total"][1] == "6,008"
    assert done.stdout.splitlines()[-1] == "24 kB of parameters as float32."
    assert not any("split" in name for name in found)
    assert sorted(folder.iterdir()) == before  # not even the file of the HDF5Output


@pytest.mark.parametrize(
    ("args", "shape"),
    [
        (["--phase", "TEST"], "7x1x24x20, 7"),
        (["--batch", "3"], "3x3x20x20, 3"),
        (["--shape", "1,28,28"], "64x1x28x28, 64"),
        (["--shape", "1x28x28", "--batch", "2"], "2x1x28x28, 2"),
    ],
)
def test_phase_batch_and_shape(folder: Path, args: list[str], shape: str) -> None:
    assert rows(run(folder, "net.prototxt", *args).stdout)["data"][3] == shape


def test_inputs_take_the_batch_too() -> None:
    done = run(ROOT, "models/SqueezeNet/deploy_imagenet.prototxt", "--phase", "TEST", "--batch", "1")
    assert rows(done.stdout)["data"][3] == "1x3x227x227"
    assert rows(done.stdout)["total"][1] == "1,248,424"
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_a_net_larger_than_any_memory(folder: Path) -> None:
    (folder / "net.prototxt").write_text(
        'input: "x" input_shape { dim: 1 dim: 1000000 } '
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 10000000 '
        'weight_filler { type: "gaussian" } } }'
    )
    done = run(folder, "net.prototxt")
    assert rows(done.stdout)["total"][1] == "10,000,010,000,000"


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            'layer { name: "d" type: "Data" top: "x" data_param { source: "a" batch_size: 4 } }',
            "give --shape 3,227,227",
        ),
        (
            'layer { name: "d" type: "HDF5Data" top: "x" hdf5_data_param { source: "a" } }',
            "Give --shape with the lengths",
        ),
        ('layer { name: "d" type: "Dta" top: "x" }', "Unknown layer type: Dta"),
        ('layer { name: "r" type: "ReLU" bottom: "x" top: "x" }', "Unknown bottom blob 'x' (layer 'r'"),
        ("layer { nam: 1 }", 'has no field named "nam". Did you mean "name"?'),
        ("\0", "It is a binary file, not a prototxt"),
    ],
)
def test_mistakes_are_told_in_one_line(folder: Path, net: str, message: str) -> None:
    (folder / "net.prototxt").write_text(net)
    done = run(folder, "net.prototxt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("summarize.py: error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("path", ["absent.prototxt", "."])
def test_no_file(folder: Path, path: str) -> None:
    done = run(folder, path)
    assert done.returncode == 1
    assert f"File not found: {path}" in done.stderr


@pytest.mark.parametrize(
    "args", [[], ["a", "b"], ["a", "--batch", "0"], ["a", "--shape", "3,x"], ["a", "--phase", "x"]]
)
def test_a_wrong_command_line(folder: Path, args: list[str]) -> None:
    assert run(folder, *args).returncode == 2


def test_help_has_examples(folder: Path) -> None:
    out = run(folder, "--help").stdout
    assert "python scripts/summarize.py models/CaffeNet/train_val.prototxt" in out
    assert "a multiplication with an addition is two" in out

"""Runs a script in this process, which has loaded the runtime; a small net with weights and pictures."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

import caffe

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
Run = Callable[..., CompletedProcess[str]]

DEPLOY = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 24 dim: 20 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 5 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 6 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a script by its name in the test's own folder."""
    monkeypatch.chdir(tmp_path)

    def call(script: str, *args: str | Path) -> CompletedProcess[str]:
        command = [script, *map(str, args)]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        told = capsys.readouterr()
        return CompletedProcess(command, int(end.value.code or 0), told.out, told.err)

    return call


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with deploy.prototxt, small.caffemodel, mean.npy, and pictures/ of three .png and a text."""
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    net, random = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST), np.random.default_rng(2)
    for layer, spread in (("conv", 0.02), ("fc", 0.01)):
        for blob in net.params[layer]:
            blob.data[...] = random.normal(0, spread, blob.data.shape)
    net.save(str(tmp_path / "small.caffemodel"))
    np.save(tmp_path / "mean.npy", random.uniform(90, 140, (3, 9, 7)))
    (tmp_path / "pictures").mkdir()
    for name in "bca":
        noise = random.integers(0, 256, (6, 5, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{name}.png"), cv2.resize(noise, (40, 50)))
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path

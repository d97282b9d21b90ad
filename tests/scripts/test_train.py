"""Training by the command, compared with the same solver called step by step; its log and its mistakes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import caffe

if TYPE_CHECKING:
    from conftest import Run

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "y"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 }
    data_filler { type: "constant" value: 0.5 } data_filler { type: "constant" value: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "y" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" type: "Adam" base_lr: 0.1 lr_policy: "fixed" max_iter: 6 display: 2 snapshot: 4
snapshot_prefix: "s" solver_mode: CPU
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.delenv("GLOG_minloglevel", raising=False)


def weights(folder: Path, name: str) -> np.ndarray:
    net = caffe.Net(str(folder / "net.prototxt"), caffe.TEST, weights=str(folder / name))
    return net.params["fc"][0].data.copy()


def test_trains_and_resumes_as_the_solver_itself(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("train.py", "--solver", "solver.prototxt")
    assert done.returncode == 0
    trained = weights(tmp_path, "s_iter_6.caffemodel")
    monkeypatch.chdir(tmp_path)
    solver = caffe.AdamSolver("solver.prototxt")
    solver.step(6)
    np.testing.assert_allclose(trained, solver.net.params["fc"][0].data, rtol=1e-5)
    (tmp_path / "s_iter_6.caffemodel").unlink()
    done = run("train.py", "--solver", "solver.prototxt", "--snapshot", "s_iter_4.solverstate")
    assert done.returncode == 0
    np.testing.assert_allclose(weights(tmp_path, "s_iter_6.caffemodel"), trained, rtol=1e-5)


def test_timing_tells_each_layer_at_each_display(run: Run) -> None:
    done = run("train.py", "--solver", "solver.prototxt", "--timing")
    assert done.returncode == 0
    rows = re.findall(r"^(forw|back)\s+(\d+)\s+(\S+) : (\d+\.\d\d)$", done.stderr, re.MULTILINE)
    passes = [("forw", "0", "data"), ("forw", "1", "fc"), ("forw", "2", "loss")]
    passes += [("back", number, name) for _, number, name in reversed(passes)]
    assert [row[:3] for row in rows] == passes * 3  # iterations 0, 2 and 4
    assert len(re.findall(r"^solver total: \d+\.\d\d$", done.stderr, re.MULTILINE)) == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--solver", "absent"], "absent: no such file"),
        (["--solver", "solver.prototxt", "--snapshot", "absent"], "absent: no such file"),
        (["--solver", "solver.prototxt", "--gpus", "0", "1"], "--gpus 0 1: training runs on one GPU; name one"),
        (["--solver", "net.prototxt"], "net.prototxt: Error parsing text-format caffe.SolverParameter"),
    ],
)
def test_mistakes_end_in_one_line(run: Run, args: list[str], message: str) -> None:
    done = run("train.py", *args)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"train.py: error: {message}")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_told(run: Run) -> None:
    done = run("train.py", "--solver", "solver.prototxt", "--gpus", "0")
    assert done.returncode == 1
    assert "no CUDA device" in done.stderr.splitlines()[-1]


def test_usage_and_help(run: Run) -> None:
    assert run("train.py").returncode == 2
    assert "python scripts/train.py --solver models/CaffeNet/solver.prototxt" in run("train.py", "--help").stdout

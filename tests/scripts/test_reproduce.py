"""The command in a project of its own: a net of one layer on noise, then the demo's from nothing."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"train": 12, "valid": 10, "test": 7}
DATA = """layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: %s }
  transform_param { crop_size: 6 } image_data_param { source: "../../data/noise/%s.txt" batch_size: 4
  new_height: 6 new_width: 6 } }
"""
NET = """layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "right" type: "Accuracy" bottom: "fc" bottom: "label" top: "right" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """# caffe train -solver solver.prototxt
net: "train_val.prototxt" test_iter: 3 test_interval: 1000 base_lr: 0.0001 lr_policy: "fixed" display: 1
snapshot_prefix: "snapshots/noise" random_seed: 3 max_iter: """


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the model Noise, whose test and validation pictures no batch of 4 divides."""
    for name in ("bootstrap.py", "scripts/reproduce.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "README.md").write_text("<!-- results -->\n<!-- /results -->\n")
    model, data = tmp_path / "models" / "Noise", tmp_path / "data" / "noise"
    model.mkdir(parents=True)
    data.mkdir(parents=True)
    (model / "train_val.prototxt").write_text(DATA % ("TRAIN", "train") + DATA % ("TEST", "valid") + NET)
    (model / "test.prototxt").write_text(DATA % ("TEST", "test") + NET)
    random = np.random.default_rng(1)
    for split, size in SIZES.items():
        for number in range(size):
            cv2.imwrite(str(data / f"{split}{number}.png"), random.integers(0, 256, (6, 6, 3), np.uint8))
        lines = [f"{data}/{split}{number}.png {number % 3}\n" for number in range(size)]
        (data / f"{split}.txt").write_text("".join(lines))
    return tmp_path


def start(project: Path, *args: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GIT_CEILING_DIRECTORIES": str(project.parent)}
    command = [sys.executable, str(project / "scripts" / "reproduce.py"), *args]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=project, stdout=pipe, stderr=pipe, text=True, env=environment)


def run(project: Path, *args: str) -> tuple[int, str, str]:
    child = start(project, *args)
    out, err = child.communicate()
    return child.returncode, out, err


def rows(project: Path) -> list[dict[str, str]]:
    with (project / "results" / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def right(project: Path, split: str, weights: Path) -> float:
    """The share of a list's pictures that the layer names rightly, each counted once, by numpy."""
    net = caffe_pb2.NetParameter()
    net.ParseFromString(weights.read_bytes())
    matrix, bias = (np.array(blob.data) for blob in next(layer for layer in net.layer if layer.name == "fc").blobs)
    hits = []
    for line in (project / "data" / "noise" / f"{split}.txt").read_text().splitlines():
        path, label = line.rsplit(" ", 1)
        picture = cv2.imread(path).astype(np.float64).transpose(2, 0, 1).ravel()
        hits.append(int(np.argmax(matrix.reshape(3, -1) @ picture + bias)) == int(label))
    return float(np.mean(hits))


def test_interrupted_resumed_and_run_once_more(project: Path) -> None:
    model = project / "models" / "Noise"
    solver, logs = model / "solver.prototxt", model / "logs"
    solver.write_text(SOLVER + "9000000\n")
    child = start(project, "Noise")
    while child.poll() is None and not any("Iteration 3," in path.read_text() for path in logs.glob("*.INFO.*")):
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    assert "reproduce.py: stopped; run it again to go on" in child.communicate()[1]
    assert child.returncode == 130
    states = [path.name for path in (model / "snapshots").glob("*.solverstate")]
    assert len(states) == 1
    stopped = int(re.findall(r"\d+", states[0])[0])
    assert not (project / "results" / "results.csv").exists()

    solver.write_text(f"{SOLVER}{stopped + 5}\n")
    status, out, err = run(project, "Noise", "--data", "grey")
    assert (status, err) == (0, "")
    newest = max(logs.glob("*.INFO.*"), key=lambda path: path.stat().st_mtime).read_text()
    assert f"Resuming from snapshots/{states[0]}" in newest
    final = model / "snapshots" / f"noise_iter_{stopped + 5}.caffemodel"
    (row,) = rows(project)
    assert row["validation"] == f"{100 * right(project, 'valid', final):.2f}"
    assert row["test"] == f"{100 * right(project, 'test', final):.2f}"
    assert (row["model"], row["data"], row["iterations"]) == ("Noise", "grey", str(stopped + 5))
    assert row["settings"] == f"6->6 px, {stopped + 5} iterations of 4, rate 0.0001"
    assert row["device"].endswith(", 1 thread")
    assert row["commit"] == ""
    assert f"| {row['validation']} | {row['test']} |\n" in (project / "README.md").read_text()

    status, out, err = run(project, "Noise", "--data", "grey")
    assert (status, err) == (0, "")
    assert "trained already" in out
    assert "has this row already" in out
    assert len(rows(project)) == 1
    assert not list(model.glob("*.part"))


def test_from_nothing(project: Path) -> None:
    shutil.copytree(ROOT / "models" / "Demo", project / "models" / "Demo", ignore=shutil.ignore_patterns("*_iter_*"))
    solver = project / "models" / "Demo" / "solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 600", "max_iter: 2"))
    status, out, err = run(project, "Demo")
    assert status == 0, err
    assert [line.rsplit(" && ", 1)[1].split(" -")[0] for line in out.splitlines() if line.startswith("$ ")] == [
        f"python {project}/bootstrap.py",
        "caffe train",
        "caffe test",
        "caffe test",
    ]
    (row,) = rows(project)
    assert (row["data"], row["settings"]) == ("demo", "72->64 px, 2 iterations of 40, rate 0.003")
    status, out, err = run(project, "--table")
    assert (status, out, err) == (0, "", "")


def test_mistakes_end_in_one_line(project: Path) -> None:
    status, _, err = run(project, "Nope")
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith("reproduce.py: error: ")
    status, _, err = run(project)
    assert status == 2
    assert err.endswith("reproduce.py: error: which MODEL? One of models/, as CaffeNet\n")
    assert "python scripts/reproduce.py CaffeNet --gpu 0" in run(project, "--help")[1]

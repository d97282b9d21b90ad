"""Several processes that train one net: as one with the joined batch; none goes on without the others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from caffe.proto.binary import read_weights
from caffe.tools.launch import COMMAND

NET = """
layer {{ name: "d" type: "{data}" top: "x" top: "y" {source} transform_param {{ scale: 0.01 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "conv"
         convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "frozen" type: "InnerProduct" bottom: "conv" top: "fc1" param {{ lr_mult: 0 }} param {{ lr_mult: 0 }}
         inner_product_param {{ num_output: 6 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"
         inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "y" top: "loss" }}
"""
LIST = 'image_data_param {{ source: "list.txt" batch_size: {batch} shuffle: true }}'
LMDB = 'data_param {{ source: "lmdb" backend: LMDB batch_size: {batch} }}'
SGD = 'base_lr: 0.05 momentum: 0.9 weight_decay: 0.001 clip_gradients: 5 lr_policy: "fixed" '
ADAM = 'type: "Adam" base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" '
LAUNCH = """import sys
from caffe.tools.flags import run
from caffe.tools.launch import launch
sys.exit(run(lambda: launch(sys.argv[2:], int(sys.argv[1]))))"""


@pytest.fixture
def folder(folder: Path) -> Path:
    """The job's pictures in an LMDB too."""
    convert = "import sys; from caffe.tools.convert_imageset import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", convert, "/", "list.txt", "lmdb"], cwd=folder, check=True, timeout=300)
    return folder


def write(folder: Path, name: str, batch: int, rule: str, source: str = LIST) -> str:
    """A solver and its net; give the solver's name."""
    data = "ImageData" if source == LIST else "Data"
    (folder / f"{name}.net").write_text(NET.format(data=data, source=source.format(batch=batch)))
    text = f'net: "{name}.net" {rule} random_seed: 4 display: 1 snapshot_prefix: "{name}" '
    (folder / f"{name}.solver").write_text(text)
    return f"{name}.solver"


def train(folder: Path, solver: str, processes: int, *words: str) -> subprocess.CompletedProcess[str]:
    head: Sequence[str] = COMMAND if processes == 1 else (sys.executable, "-c", LAUNCH, str(processes))
    command = [*head, "train", "-solver", solver, *words]
    environment = {**os.environ, "GLOG_minloglevel": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def weights(path: Path) -> list[np.ndarray]:
    assert path.exists()
    return [blob.data.copy() for layer in read_weights(str(path)) for blob in layer.blobs]


@pytest.mark.parametrize(
    ("processes", "rule", "source"),
    [(2, SGD + "iter_size: 2 ", LIST), (4, ADAM, LMDB), (4, SGD, LIST)],
    ids=["two, iter_size", "four, Adam, LMDB", "four"],
)
def test_as_one_with_the_joined_batch(folder: Path, processes: int, rule: str, source: str) -> None:
    rule += "max_iter: 7"  # several epochs
    one = train(folder, write(folder, "one", 4, rule, source), 1)
    many = train(folder, write(folder, "many", 4 // processes, rule, source), processes)
    assert (one.returncode, many.returncode) == (0, 0), many.stderr
    assert "Traceback" not in many.stderr
    for a, b in zip(weights(folder / "one_iter_7.caffemodel"), weights(folder / "many_iter_7.caffemodel"), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)
    assert len(re.findall("Iteration 3 .*loss = ", many.stderr)) == 1  # one process logs
    assert len(list(folder.glob("many_iter_*.solverstate"))) == 1


def test_it_goes_on_from_a_snapshot(folder: Path) -> None:
    rule = SGD + "snapshot: 3 "
    whole = train(folder, write(folder, "whole", 2, rule + "max_iter: 6"), 2)
    train(folder, write(folder, "parts", 2, rule + "max_iter: 3"), 2)
    rest = train(folder, write(folder, "parts", 2, rule + "max_iter: 6"), 2, "-resume")
    assert (whole.returncode, rest.returncode) == (0, 0), rest.stderr
    assert "Resuming from parts_iter_3.solverstate" in rest.stderr
    for a, b in zip(
        weights(folder / "whole_iter_6.caffemodel"), weights(folder / "parts_iter_6.caffemodel"), strict=True
    ):
        np.testing.assert_array_equal(b, a)


def running(folder: Path, solver: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Two processes in the midst of training, and the ids of the workers; what they say goes to the file ``log``."""
    command = [sys.executable, "-c", LAUNCH, "2", "train", "-solver", solver]
    environment = {**os.environ, "GLOG_minloglevel": "0", "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        launcher = subprocess.Popen(command, cwd=folder, env=environment, stderr=log)
    while "Iteration 20 " not in (folder / "log").read_text():
        assert launcher.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    stats = {int(path.parent.name): path.read_text().rpartition(")")[2] for path in Path("/proc").glob("[0-9]*/stat")}
    return launcher, sorted(number for number, words in stats.items() if words.split()[1] == str(launcher.pid))


@pytest.mark.skipif(sys.platform != "linux", reason="it finds the processes under /proc")
@pytest.mark.parametrize("killed", [0, 1])
def test_a_dead_process_ends_the_run(folder: Path, killed: int) -> None:
    launcher, workers = running(folder, write(folder, "run", 2, SGD + "snapshot: 5 max_iter: 100000000"))
    os.kill(workers[killed], signal.SIGKILL)
    assert launcher.wait(60) == 1
    text = (folder / "log").read_text()
    assert "Traceback" not in text
    (fatal,) = [line for line in text.splitlines() if line.startswith("F")]
    assert "ended before its time" in fatal
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    newest = max(folder.glob("run_iter_*.caffemodel"), key=lambda path: int(path.stem.split("_")[-1]))
    assert len(weights(newest)) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="it finds the processes under /proc")
def test_an_interrupt_ends_all_at_one_iteration(folder: Path) -> None:
    launcher, workers = running(folder, write(folder, "run", 2, SGD + "max_iter: 100000000"))
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(60) == 130
    text = (folder / "log").read_text()
    assert "Optimization stopped early." in text
    assert len(list(folder.glob("run_iter_*.caffemodel"))) == 1
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_more_processes_than_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    done = train(folder, write(folder, "run", 2, SGD), 1, "-gpu", "0")
    assert done.returncode == 1
    assert "-gpu 0: there is no GPU for process 1 of this machine" in done.stderr.splitlines()[-1]


def test_processes_that_cannot_meet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # and nothing that says where
    done = train(folder, write(folder, "run", 2, SGD), 1)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "do not find each other" in done.stderr.splitlines()[-1]

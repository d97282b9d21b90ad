"""Several processes that train one net: as one with the joined batch; none goes on without the others."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
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
force_backward: true
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
    [(2, SGD + "iter_size: 2 ", LIST), (4, ADAM, LMDB), (4, SGD.replace("gradients: 5", "gradients: 0.2"), LIST)],
    ids=["two, iter_size", "four, Adam, LMDB", "four, clipped"],
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


def test_processes_with_other_snapshots_do_not_go_on(folder: Path, tmp_path: Path) -> None:
    """Two machines, each with its own disk, of which one has no snapshot."""
    rule = SGD + "snapshot: 3 "
    train(folder, write(folder, "run", 2, rule + "max_iter: 3"), 1)
    write(folder, "run", 2, rule + "max_iter: 6")
    second = tmp_path / "second"
    shutil.copytree(folder, second)
    for path in second.glob("run_iter_*"):
        path.unlink()
    with socket.create_server(("127.0.0.1", 0)) as free:
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    runs = [
        subprocess.Popen(
            [*COMMAND, "train", "-solver", "run.solver", "-resume"],
            cwd=place,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, place in enumerate((folder, second))
    ]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [1, 1]
    assert "would go on from different iterations, 0 to 3" in said[0].splitlines()[-1]


def running(folder: Path, solver: str, launch: str = LAUNCH) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Two processes in the midst of training, and the ids of the workers; what they say goes to the file ``log``."""
    command = [sys.executable, "-c", launch, "2", "train", "-solver", solver]
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


def gone(workers: Sequence[int]) -> bool:
    """Whether they end within a minute."""
    end = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.skipif(sys.platform != "linux", reason="it finds the processes under /proc")
def test_one_signal_to_all_processes_is_one_stop(folder: Path) -> None:
    """What systemd and Slurm do."""
    launcher, workers = running(folder, write(folder, "run", 2, SGD + "max_iter: 100000000"))
    for number in (launcher.pid, *workers):
        os.kill(number, signal.SIGTERM)
    assert launcher.wait(60) == 130
    assert len(list(folder.glob("run_iter_*.solverstate"))) == 1
    assert gone(workers)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no prctl elsewhere")
def test_processes_do_not_outlive_their_launcher(folder: Path) -> None:
    launcher, workers = running(folder, write(folder, "run", 2, SGD + "max_iter: 100000000"))
    launcher.kill()
    launcher.wait(60)
    assert gone(workers)
    assert len(list(folder.glob("run_iter_*.solverstate"))) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="it finds the processes under /proc")
def test_a_second_interrupt_does_not_wait_for_who_hangs(folder: Path) -> None:
    impatient = LAUNCH.replace("launch import launch", "launch import launch; launch.__globals__['PATIENCE'] = 1")
    launcher, workers = running(folder, write(folder, "run", 2, SGD + "max_iter: 100000000"), impatient)
    os.kill(workers[1], signal.SIGSTOP)
    for _ in range(2):
        launcher.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert launcher.wait(60) == 130
    assert gone(workers)


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

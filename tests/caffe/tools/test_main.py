"""The caffe command as a user runs it: its help, its last words, and signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CAFFE = [sys.executable, "-c", "import sys; from caffe.tools.main import main; sys.exit(main())"]

SOLVER = 'net: "net.prototxt" base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 display: 1 snapshot_prefix: "s/run" '


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    env = {**os.environ, "GLOG_minloglevel": "0", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [*CAFFE, *words], cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(folder: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    process = start(folder, *words, **environment)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["trian"], 1, "Unknown action: trian"),
        (["train"], 1, "Need a solver definition to train."),
        (["train", "-solver", "nope.prototxt"], 1, "File not found: nope.prototxt"),
        (["train", "-solvr", "x"], 2, "ERROR: unknown command line flag 'solvr' (did you mean -solver?)"),
        (
            ["train", "-solver", "solver.prototxt", "-weights", "a", "-snapshot", "b"],
            1,
            "Give a snapshot to resume training or weights to finetune but not both.",
        ),
        (["train", "-solver", "solver.prototxt", "-weights", "a.caffemodel"], 1, "File not found: a.caffemodel"),
        (["train", "-solver", "solver.prototxt", "-gpu", "zero"], 1, "-gpu zero: expected a GPU's number or all"),
        (["train", "-solver", "solver.prototxt", "-gpu", "0,1"], 1, "GPU 0 was asked for, but PyTorch"),
        (["train", "-solver", "solver.prototxt", "-sigint_effect", "die"], 1, 'Invalid signal effect "die"'),
        (["test"], 1, "Need a model definition to score."),
        (["test", "-model", "net.prototxt"], 1, "Need model weights to score."),
        (["test", "-model", "net.prototxt", "-weights", "none"], 1, "Could not open file none"),
    ],
)
def test_one_clear_line(folder: Path, words: list[str], status: int, text: str) -> None:
    code, out, err = run(folder, *words)
    assert code == status
    assert text in err.splitlines()[-1]
    assert "Traceback" not in out + err
    if status == 1:
        assert re.match(r"F\d{4} [\d:.]+ +\d+ \w+\.py:\d+\] ", err.splitlines()[-1])


def test_help_teaches(folder: Path) -> None:
    code, out, _ = run(folder, "--help")
    assert code == 0
    assert "train" in out
    assert "test" in out
    code, out, _ = run(folder, "train", "--help")
    assert code == 0
    assert "-sigint_effect" in out
    assert "caffe train -solver solver.prototxt -weights pretrained-weights.caffemodel -gpu 0" in out


def test_solver_mode_gpu_without_a_gpu_warns_and_trains(folder: Path) -> None:
    (folder / "solver.prototxt").write_text(SOLVER + "max_iter: 1 solver_mode: GPU")
    code, _, err = run(folder, "train", "-solver", "solver.prototxt", CUDA_VISIBLE_DEVICES="")
    assert code == 0
    assert re.search(r"^W.*solver_mode: GPU, but there is no CUDA device here", err, re.MULTILINE)
    code, _, err = run(folder, "train", "-solver", "solver.prototxt", "-gpu", "0", CUDA_VISIBLE_DEVICES="")
    assert code == 1
    assert "Cannot use GPU in CPU-only Caffe: check mode." in err.splitlines()[-1]


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read the log until a line has the text."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return "".join(seen)
    raise AssertionError(f"never saw {text!r} in\n{''.join(seen)}")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stop_snapshots_and_resumes(folder: Path, name: str) -> None:
    process = start(folder, "train", "-solver", "solver.prototxt")
    wait_for(process, "Iteration 3 ")
    process.send_signal(getattr(signal, name))
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Optimization stopped early." in err
    states = list((folder / "s").glob("*.solverstate"))
    assert len(states) == 1
    stopped = int(states[0].stem.rsplit("_", 1)[1])
    (folder / "solver.prototxt").write_text(SOLVER + f"max_iter: {stopped + 2}")
    code, _, err = run(folder, "train", "-solver", "solver.prototxt", "-snapshot", str(states[0]))
    assert code == 0
    assert f"Iteration {stopped} (" in err
    assert (folder / "s" / f"run_iter_{stopped + 2}.caffemodel").exists()


@pytest.mark.parametrize("effect", ["none", "snapshot"])
def test_a_termination_stops_whatever_an_interrupt_does(folder: Path, effect: str) -> None:
    process = start(folder, "train", "-solver", "solver.prototxt", f"-sigint_effect={effect}")
    wait_for(process, "Iteration 3 ")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130


def test_a_stop_is_not_forgotten_over_a_snapshot() -> None:
    from caffe.solvers.solver import Action
    from caffe.tools.train import _Received

    received = _Received()
    for action in (Action.STOP, Action.NONE, Action.SNAPSHOT):
        received.put(action)
    assert [received.take() for _ in range(3)] == [Action.SNAPSHOT, Action.STOP, Action.NONE]


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>&1 | head -n 3"])
def test_a_run_outlives_its_standard_error(folder: Path, redirection: str) -> None:
    (folder / "solver.prototxt").write_text(SOLVER + "max_iter: 3")
    caffe = f"{sys.executable} -c 'import sys; from caffe.tools.main import main; sys.exit(main())'"
    script = f"{{ {caffe} train -solver solver.prototxt; echo $? > status; }} {redirection}"
    subprocess.run(["bash", "-c", script], cwd=folder, env={**os.environ, "GLOG_minloglevel": "0"}, check=True)
    assert (folder / "status").read_text() == "0\n"
    assert (folder / "s" / "run_iter_3.solverstate").exists()


def test_a_stop_snapshots_though_tee_has_ended_first(folder: Path) -> None:
    """As with Ctrl-C, which reaches both."""
    process = start(folder, "train", "-solver", "solver.prototxt")
    wait_for(process, "Iteration 3 ")
    assert process.stdout is not None and process.stderr is not None  # noqa: PT018
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert list((folder / "s").glob("*.solverstate"))


FORKS = """
import multiprocessing
import numpy as np
import caffe

class Source(caffe.Layer):
    def setup(self, bottom, top):
        context = multiprocessing.get_context("fork")
        self.queue = context.Queue(4)
        context.Process(target=self.make, daemon=True).start()

    def make(self):
        while True:
            self.queue.put(np.ones((2, 3), np.float32))

    def reshape(self, bottom, top):
        top[0].reshape(2, 3)

    def forward(self, bottom, top):
        top[0].data[...] = self.queue.get()
"""


def test_a_process_that_a_layer_has_forked_ends_with_the_run(folder: Path) -> None:
    (folder / "forks.py").write_text(FORKS)
    (folder / "net.prototxt").write_text(
        'layer { name: "d" type: "Python" top: "x" python_param { module: "forks" layer: "Source" } }'
        'layer { name: "f" type: "InnerProduct" bottom: "x" top: "f" inner_product_param { num_output: 2 } }'
        'layer { name: "l" type: "Reduction" bottom: "f" top: "l" loss_weight: 1 }'
    )
    (folder / "solver.prototxt").write_text(SOLVER + "max_iter: 3")
    code, _, err = run(folder, "train", "-solver", "solver.prototxt")
    assert code == 0, err
    assert "Optimization Done." in err


def test_hup_snapshots_and_goes_on(folder: Path) -> None:
    process = start(folder, "train", "-solver", "solver.prototxt")
    wait_for(process, "Iteration 2 ")
    process.send_signal(signal.SIGHUP)
    wait_for(process, "Snapshotting solver state")
    wait_for(process, "Iteration ")
    process.kill()
    process.communicate()
    assert list((folder / "s").glob("*.caffemodel"))


def test_kill_leaves_only_whole_files(folder: Path) -> None:
    """SIGKILL while snapshots are written after every iteration: each file that has its name can be read."""
    from caffe.proto.binary import read_state, read_weights

    (folder / "solver.prototxt").write_text(SOLVER + "max_iter: 1000000 snapshot: 1")
    for pause in (0.0, 0.05, 0.11):
        process = start(folder, "train", "-solver", "solver.prototxt")
        wait_for(process, "Iteration 1 ")
        time.sleep(pause)
        process.kill()
        process.communicate()
    models = list((folder / "s").glob("*.caffemodel"))
    states = list((folder / "s").glob("*.solverstate"))
    assert models
    assert states
    for path in models:
        assert read_weights(str(path))
    for path in states:
        assert read_state(str(path))[0] == int(path.stem.rsplit("_", 1)[1])


def test_an_unreadable_picture_is_named(folder: Path) -> None:
    (folder / "5.png").write_bytes(b"no picture")
    code, _, err = run(folder, "train", "-solver", "solver.prototxt")
    assert code == 1
    assert "5.png" in err.splitlines()[-1]
    assert "Traceback" not in err

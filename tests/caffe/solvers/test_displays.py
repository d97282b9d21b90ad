"""What a run says of losses, outputs and tests, number by number; the oracle is arithmetic by hand, in BVLC's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import caffe
from caffe.solvers.solver import Action

# the loss of x = (k, 0) is 3k
NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "sum" type: "Reduction" bottom: "x" top: "a" loss_weight: 3 }
layer { name: "double" type: "Power" bottom: "x" top: "p" power_param { scale: 2 } }
layer { name: "extra" type: "Silence" bottom: "x" include { phase: TRAIN } }
"""
TESTED = "test_iter: 4 test_interval: 2 "
MakeSolver = Callable[..., caffe.SGDSolver]


@pytest.fixture
def solver_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSolver:
    """A solver of `NET` that logs; its n-th batch is x = (n, 0), that of a test net, counted apart, too."""
    monkeypatch.setenv("GLOG_minloglevel", "0")

    def make(settings: str) -> caffe.SGDSolver:
        (tmp_path / "net.prototxt").write_text(NET)
        (tmp_path / "solver.prototxt").write_text(
            f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" snapshot_prefix: "{tmp_path}/s" '
            f"snapshot_after_train: false {settings}"
        )
        solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
        count(solver.net)
        for net in solver.test_nets:
            count(net)
        return solver

    return make


def count(net: caffe.Net) -> None:
    batches = iter(range(1000))

    def put(layer: int) -> None:
        if layer == 0:
            net.blobs["x"].data[...] = next(batches), 0

    net.before_forward(put)


def lines(capfd: pytest.CaptureFixture[str], pattern: str) -> list[str]:
    """Messages of the log that begin as the pattern does."""
    text = re.sub(r" \(\S+ iter/s, \S+s/\d+ iters\)", "", capfd.readouterr().err)
    return re.findall(rf"^I.*?\] +((?:{pattern}).*)", text, re.MULTILINE)


def test_the_loss_is_a_mean_over_the_last_iterations(solver_of: MakeSolver, capfd) -> None:
    solver = solver_of("display: 1 average_loss: 3 max_iter: 7")
    solver.step(5)
    shown = [f"Iteration {i}, loss = {mean}" for i, mean in enumerate(["0", "1.5", "3", "6", "9"])]
    assert lines(capfd, r"Iteration \d+, loss") == shown
    solver.solve()  # begins a mean of its own, and ends with a pass that is not an iteration
    assert lines(capfd, r"Iteration \d+, loss") == [
        "Iteration 5, loss = 15",
        "Iteration 6, loss = 16.5",
        "Iteration 7, loss = 18",
    ]


def test_every_number_of_every_output_has_its_line(solver_of: MakeSolver, capfd) -> None:
    solver_of("display: 2").step(4)
    assert lines(capfd, "Iteration .*loss|Train net") == [
        "Iteration 0, loss = 0",
        "Train net output #0: a = 0 (* 3 = 0 loss)",
        "Train net output #1: p = 0",
        "Train net output #2: p = 0",
        "Iteration 2, loss = 6",
        "Train net output #0: a = 2 (* 3 = 6 loss)",
        "Train net output #1: p = 4",
        "Train net output #2: p = 0",
    ]


def test_a_test_shows_means_of_its_batches(solver_of: MakeSolver, capfd) -> None:
    """And names the layers that the test net lacks, each time, as BVLC does; at the nets' set-up nothing is said."""
    solver_of(TESTED + "test_compute_loss: true max_iter: 2").solve()
    assert lines(capfd, "Iteration .*Testing|Ignoring source layer|Test |Optimization") == [
        "Iteration 0, Testing net (#0)",
        "Ignoring source layer extra",
        "Test loss: 4.5",
        "Test net output #0: a = 1.5 (* 3 = 4.5 loss)",
        "Test net output #1: p = 3",
        "Test net output #2: p = 0",
        "Iteration 2, Testing net (#0)",
        "Ignoring source layer extra",
        "Test loss: 16.5",
        "Test net output #0: a = 5.5 (* 3 = 16.5 loss)",
        "Test net output #1: p = 11",
        "Test net output #2: p = 0",
        "Optimization Done.",
    ]


def test_no_test_before_the_first_iteration(solver_of: MakeSolver, capfd) -> None:
    solver_of(TESTED + "test_initialization: false max_iter: 3").solve()
    assert lines(capfd, "Iteration .*Testing|Test loss") == ["Iteration 2, Testing net (#0)"]


def test_nothing_more_is_shown_where_the_last_iteration_is_none_to_show(solver_of: MakeSolver, capfd) -> None:
    solver_of(TESTED + "display: 2 max_iter: 3").solve()
    assert lines(capfd, "Iteration .*(?:loss|Testing)") == [
        "Iteration 0, Testing net (#0)",
        "Iteration 0, loss = 0",
        "Iteration 2, Testing net (#0)",
        "Iteration 2, loss = 6",
    ]


def test_a_stop_while_testing_ends_test_and_run(solver_of: MakeSolver, capfd) -> None:
    solver = solver_of("test_iter: 4 test_iter: 4 test_interval: 2 max_iter: 9")
    asked = iter([Action.NONE] * 9 + [Action.STOP])  # in the second batch of the second test
    solver.poll_testing = lambda: next(asked)
    solver.solve()
    assert solver.iter == 2
    assert lines(capfd, "Iteration .*Testing|Test net output #0|Test interr|Optimization") == [
        "Iteration 0, Testing net (#0)",
        "Test net output #0: a = 1.5 (* 3 = 4.5 loss)",
        "Iteration 0, Testing net (#1)",
        "Test net output #0: a = 1.5 (* 3 = 4.5 loss)",
        "Iteration 2, Testing net (#0)",
        "Test interrupted.",
        "Optimization stopped early.",
    ]


def test_a_snapshot_while_testing_is_made_and_the_test_goes_on(solver_of: MakeSolver, capfd, tmp_path: Path) -> None:
    solver = solver_of(TESTED + "max_iter: 1")
    asked = iter([Action.NONE, Action.SNAPSHOT, Action.NONE, Action.NONE])
    solver.poll_testing = lambda: next(asked)
    solver.solve()
    assert lines(capfd, "Test net output #0") == ["Test net output #0: a = 1.5 (* 3 = 4.5 loss)"]
    assert (tmp_path / "s_iter_0.solverstate").exists()


def test_a_run_that_is_stopped_can_be_solved_on(solver_of: MakeSolver, capfd) -> None:
    solver = solver_of("display: 1 max_iter: 3")
    solver.poll = lambda: Action.STOP
    solver.solve()
    assert solver.iter == 1
    assert lines(capfd, "Iteration|Optimization") == [
        "Iteration 0, loss = 0",
        "Iteration 0, lr = 0.1",
        "Optimization stopped early.",
    ]
    solver.poll = lambda: Action.NONE
    solver.solve()
    assert solver.iter == 3
    assert lines(capfd, "Optimization") == ["Optimization Done."]


def test_solving_from_a_state_goes_on_there_and_says_so(solver_of: MakeSolver, capfd, tmp_path: Path) -> None:
    first = solver_of("display: 1")
    first.step(2)
    first.snapshot()
    capfd.readouterr()
    solver_of("display: 1 max_iter: 3").solve(f"{tmp_path}/s_iter_2.solverstate")
    assert lines(capfd, "Solving|Learning|Restoring|Iteration .*loss") == [
        "Solving ",
        "Learning Rate Policy: fixed",
        f"Restoring previous solver status from {tmp_path}/s_iter_2.solverstate",
        "Iteration 2, loss = 0",
        "Iteration 3, loss = 3",
    ]


def test_a_net_that_learns_nothing_clips_nothing(solver_of: MakeSolver, capfd) -> None:
    solver_of("display: 1 clip_gradients: 0.5").step(1)
    assert lines(capfd, "Iteration|Gradient clipping") == ["Iteration 0, loss = 0", "Iteration 0, lr = 0.1"]

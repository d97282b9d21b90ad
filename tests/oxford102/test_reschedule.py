"""Schedules on other numbers of pictures; the rate is compared with Caffe's formulas at the same share of the way."""

from __future__ import annotations

import math

import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from oxford102.errors import ToolError
from oxford102.reschedule import Passes, new_iterations, reschedule, round_down, round_off, solver_text


def solver(text: str) -> caffe_pb2.SolverParameter:
    return text_format.Parse(text, caffe_pb2.SolverParameter())


def test_as_many_epochs_and_no_more_iterations() -> None:
    squeezenet = Passes(1020, 32, 3000)
    assert squeezenet.epochs == pytest.approx(94.1, abs=0.05)
    assert new_iterations(squeezenet, 680, None) == 2000
    assert new_iterations(squeezenet, 100_000, None) == 3000
    assert new_iterations(squeezenet, 100_000, 20) == 62_000  # 62,500 to the even of two digits
    assert new_iterations(squeezenet, 3, None) == 9


@pytest.mark.parametrize(
    ("value", "off", "down"), [(0.2, 1, 1), (7.4, 7, 5), (66.7, 67, 50), (1997.5, 2000, 1000), (333.3, 330, 200)]
)
def test_round_numbers(value: float, off: int, down: int) -> None:
    assert (round_off(value), round_down(value)) == (off, down)


def test_steps_tests_and_snapshots_move_along() -> None:
    message = solver('lr_policy: "step" stepsize: 20000 max_iter: 50000 test_interval: 500 display: 50 snapshot: 10000')
    reschedule(message, 25000)
    assert (message.stepsize, message.max_iter) == (10000, 25000)
    assert (message.test_interval, message.display, message.snapshot) == (200, 20, 5000)
    message = solver('lr_policy: "multistep" stepvalue: 100 stepvalue: 300 max_iter: 400')
    reschedule(message, 40)
    assert list(message.stepvalue) == [10, 30]
    assert (message.snapshot, message.display) == (0, 0)


def test_a_run_has_no_more_than_a_hundred_tests_and_twenty_snapshots() -> None:
    message = solver('lr_policy: "fixed" max_iter: 10000 test_interval: 1 display: 1 snapshot: 1')
    reschedule(message, 5000)
    assert (message.test_interval, message.display, message.snapshot) == (50, 1, 200)


def rate(message: caffe_pb2.SolverParameter, iteration: int) -> float:
    """Caffe's formulas, for base_lr 1."""
    if message.lr_policy == "exp":
        return message.gamma**iteration
    if message.lr_policy == "inv":
        return (1 + message.gamma * iteration) ** -message.power
    if message.lr_policy == "sigmoid":
        return 1 / (1 + math.exp(-message.gamma * (iteration - message.stepsize)))
    return (1 - iteration / message.max_iter) ** message.power


@pytest.mark.parametrize(
    "text",
    [
        'lr_policy: "exp" gamma: 0.999',
        'lr_policy: "inv" gamma: 0.001 power: 0.75',
        'lr_policy: "sigmoid" gamma: -0.01 stepsize: 500',
        'lr_policy: "poly" power: 2',
    ],
)
def test_smooth_policies_have_the_same_rate_at_the_same_share(text: str) -> None:
    old, new = solver(f"{text} max_iter: 1000"), solver(f"{text} max_iter: 1000")
    reschedule(new, 200)
    for share in (0.1, 0.5, 0.9):
        assert rate(new, round(200 * share)) == pytest.approx(rate(old, round(1000 * share)), rel=1e-4)


def test_an_unknown_policy() -> None:
    with pytest.raises(ToolError, match="lr_policy 'cosine' is unknown; expected one of fixed, step"):
        reschedule(solver('lr_policy: "cosine" max_iter: 5'), 3)


def test_the_text_holds_every_field() -> None:
    message = solver(
        'net: "n" test_iter: 10 test_interval: 50 base_lr: 0.00015 lr_policy: "step" gamma: 0.1 stepsize: 1600 '
        'max_iter: 2000 momentum: 0.9 weight_decay: 0.0002 iter_size: 2 random_seed: 1 type: "Nesterov" '
        'stepvalue: 3 stepvalue: 4 snapshot_prefix: "s/x" display: 10 solver_mode: CPU clip_gradients: 35'
    )
    text = solver_text(message, ["command"], "tested", "trained")
    assert text.startswith(
        '# command\nnet: "n"\n\n# tested\ntest_iter: 10\ntest_interval: 50\n\n# trained\niter_size: 2\n'
    )
    assert "base_lr: 0.00015\n" in text
    rates = ("iter_size", "base_lr", "lr_policy", "gamma", "stepsize", "stepvalue", "max_iter", "momentum", "clip_grad")
    places = [text.index(f"\n{name}") for name in rates]
    assert places == sorted(places)
    assert "clip_gradients: 35\n" in text
    assert text.endswith('\n\ndisplay: 10\nsnapshot_prefix: "s/x"\n')
    assert solver(text) == message

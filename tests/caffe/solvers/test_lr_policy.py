"""Learning rates against the formulas, written out number by number."""

from __future__ import annotations

import math

import pytest

import caffe
from caffe.proto.caffe_pb2 import SolverParameter
from caffe.solvers.lr_policy import POLICIES, check, current_step, rate


def param(policy: str, **more: object) -> SolverParameter:
    return SolverParameter(base_lr=0.5, lr_policy=policy, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (param("fixed"), {0: 0.5, 999: 0.5}),
        (param("step", gamma=0.5, stepsize=10), {0: 0.5, 9: 0.5, 10: 0.25, 25: 0.125}),
        (param("exp", gamma=0.5), {0: 0.5, 3: 0.0625}),
        (param("inv", gamma=1, power=2), {0: 0.5, 1: 0.125, 4: 0.02}),
        (param("multistep", gamma=0.5, stepvalue=[5, 8]), {4: 0.5, 5: 0.25, 7: 0.25, 8: 0.125, 100: 0.125}),
        (param("poly", power=2, max_iter=10), {0: 0.5, 5: 0.125, 10: 0}),
        (param("sigmoid", gamma=-1, stepsize=4), {4: 0.25, 0: 0.5 / (1 + math.exp(-4)), 8: 0.5 / (1 + math.exp(4))}),
    ],
    ids=lambda p: p.lr_policy if isinstance(p, SolverParameter) else "",
)
def test_rates(settings: SolverParameter, expected: dict[int, float]) -> None:
    check(settings)
    for iteration, value in expected.items():
        assert rate(settings, iteration) == pytest.approx(value, rel=1e-6), iteration


def test_every_policy_is_in_the_test() -> None:
    assert set(POLICIES) == {"fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid"}


def test_current_step_counts_the_drops() -> None:
    assert current_step(param("multistep", gamma=1, stepvalue=[5, 8]), 6) == 1
    assert current_step(param("step", gamma=1, stepsize=3), 7) == 2
    assert current_step(param("fixed"), 7) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (param("steps"), "Unknown learning rate policy: steps .known policies: exp, fixed, inv"),
        (SolverParameter(base_lr=1), "lr_policy is not set"),
        (param("step", gamma=0.1, stepsize=0), r"this->param_.stepsize\(\) > 0 \(0 vs. 0\)"),
        (param("step", gamma=0.1), "'step' needs stepsize"),
        (param("poly", power=1), "'poly' needs max_iter"),
        (param("inv", gamma=-0.5, power=0.5), r"this->param_.gamma\(\) >= 0 \(-0.5 vs. 0\) lr_policy 'inv'"),
    ],
)
def test_mistakes(settings: SolverParameter, words: str) -> None:
    with pytest.raises(caffe.CaffeError, match=words):
        check(settings)


def test_what_is_left_out_reads_as_zero_as_in_caffe_and_is_said(capfd, monkeypatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    settings = param("inv", gamma=0.5)
    check(settings)
    assert rate(settings, 100) == 0.5  # power 0
    assert "lr_policy 'inv' without power: taken as 0." in capfd.readouterr().err


@pytest.mark.parametrize(("values", "said"), [([5, 2, 3], True), ([3, 3], False), ([2, 5], False)])
def test_stepvalues_that_fall_are_said(values: list[int], said: bool, capfd, monkeypatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    check(param("multistep", gamma=0.5, stepvalue=values))
    assert (f"stepvalue does not rise: {values}; as in Caffe, each waits." in capfd.readouterr().err) == said


@pytest.mark.parametrize("values", [[5, 2, 3, 7], [3, 3], [0, 1, 1, 9], [4]])
def test_stepvalues_are_waited_for_one_after_the_other(values: list[int]) -> None:
    """The oracle walks as BVLC's solver does: it looks at one stepvalue an iteration."""
    step = 0
    for iteration in range(15):
        if step < len(values) and iteration >= values[step]:
            step += 1
        settings = SolverParameter(base_lr=1, lr_policy="multistep", gamma=0.5, stepvalue=values)
        assert rate(settings, iteration) == 0.5**step


@pytest.mark.parametrize("values", [[5, 2, 3, 7], [3, 3], [20, 30], [1, 2, 3, 4, 11, 11, 13]])
@pytest.mark.parametrize("resumed", [(10, 0), (10, 1), (10, 3), (10, 9)])
def test_a_resumed_run_goes_on_with_the_drops_it_had(values: list[int], resumed: tuple[int, int]) -> None:
    """As BVLC, whatever the stepvalues are by now."""
    first, step = resumed
    settings = SolverParameter(base_lr=1, lr_policy="multistep", gamma=0.5, stepvalue=values)
    for iteration in range(first, 20):
        if step < len(values) and iteration >= values[step]:
            step += 1
        assert rate(settings, iteration, resumed) == 0.5**step

"""What watches a run: the line at the foot of a terminal, piece by piece."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import caffe
from caffe import glog
from caffe.tools.extensions import StatusLine, measure

WEIGHTS = {"accuracy": 0, "top_5": 0, "loss": 1, "error": 0, "top_5_error": 0, "center_loss": 0, "lossless": 0}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ("loss accuracy top_5", ("accuracy", 1)),
        ("top_5_error error center_loss top_5", ("top_5", 1)),
        ("loss lossless", ("lossless", 1)),
        ("top_5_error loss", ("top_5_error", -1)),
        ("loss", ("loss", -1)),
        ("", ("", -1)),
    ],
)
def test_the_output_to_judge_a_net_by(outputs: str, expected: tuple[str, int]) -> None:
    net: Any = SimpleNamespace(blob_loss_weights=WEIGHTS)
    assert measure(net, {name: [0.5] for name in outputs.split()}) == expected


def watched(data: bool = True) -> Any:
    """A run of 8 iterations, two batches of 5 each."""
    net = SimpleNamespace(
        wired=[SimpleNamespace(name="in", is_data=False), SimpleNamespace(name="d", is_data=data)],
        top_names={"in": ["z"], "d": ["x"]},
        blobs={"z": caffe.Blob((9,)), "x": caffe.Blob((5, 3))},
        blob_loss_weights=WEIGHTS,
    )
    return SimpleNamespace(net=net, test_nets=[net, net], iter=0, param=SimpleNamespace(max_iter=8, iter_size=2))


def test_the_status_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    monkeypatch.setattr("caffe.tools.extensions.time", SimpleNamespace(monotonic=lambda: now))
    line, solver = StatusLine(), watched()
    line.started(solver)
    try:
        line.computed(solver, torch.tensor(0.25))
        now, solver.iter = 100.25, 1
        line.updated(solver)
        assert line._bar.postfix == "40 images/s  ETA 00:01  loss 0.25"
        line.computed(solver, torch.tensor(0.75))  # too soon for another look
        now, solver.iter = 101.0, 4
        for number, accuracy in ((0, float("nan")), (0, 0.5), (0, 0.25), (1, 0.75)):
            line.tested(solver, number, {"loss": [1.0], "accuracy": [accuracy]})
        line.updated(solver)
        assert line._bar.postfix == "40 images/s  ETA 00:01  loss 0.25  best accuracy 0.5 at 4"
        line.computed(solver, torch.tensor(0.125))
        solver.iter = 6
        line.tested(solver, 0, {"accuracy": [0.625]})
        line.updated(solver)
        assert line._bar.postfix == "60 images/s  ETA 00:00  loss 0.125  best accuracy 0.625 at 6"
        glog.write_to_terminal("a line of the log\n")
        assert "a line of the log\n" in capfd.readouterr().err
    finally:
        line.finished(solver)
    assert glog.write_to_terminal is glog.to_stderr


def test_the_status_line_of_a_net_without_data_and_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("caffe.tools.extensions.time", SimpleNamespace(monotonic=lambda: now))
    line, solver = StatusLine(), watched(data=False)
    line.started(solver)
    for now, loss in ((1.0, 3.0), (2.0, 2.0), (3.0, 4.0)):  # noqa: B007
        solver.iter += 1
        line.tested(solver, 0, {"loss": [loss]})
    line.updated(solver)
    assert line._bar.postfix == "1 iterations/s  ETA 00:05  best loss 2 at 2"
    line.finished(solver)

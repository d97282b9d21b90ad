"""Iterations repeated without the host, against the same iterations run as usual.

A tape of tensor operations stands in for the CUDA graph, but where CAFFE_TEST_DEVICE names a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tape import CountedGraph, Tape
from words import words_net

import caffe
from caffe import glog
from caffe.device import current
from caffe.layers import data
from caffe.solvers.captured import WARM_UP, CapturedIteration, obstacle

NET = """
layer {{ name: "data" type: "ImageData" top: "data" top: "label"
  transform_param {{ mirror: true crop_size: 8 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.02 }}
  image_data_param {{ source: "{source}" batch_size: 3 shuffle: true }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" param {{ lr_mult: 1 }} param {{ lr_mult: 2
  decay_mult: 0 }} convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }}
layer {{ name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param {{ bias_term: true }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "norm" type: "LRN" bottom: "conv" top: "norm" }}
layer {{ name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param {{ kernel_size: 3 stride: 2 }} }}
layer {{ name: "mean" type: "Pooling" bottom: "pool" top: "mean" pooling_param {{ pool: AVE kernel_size: 2 stride: 2
  pad: 1 }} }}
layer {{ name: "drop" type: "Dropout" bottom: "mean" top: "mean" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "mean" top: "ip" inner_product_param {{ num_output: 7
  weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" top: "by_class" }}
"""


@pytest.fixture
def net(make_pictures: Any) -> str:
    listing, _ = make_pictures([(9, 10)] * 7)
    return NET.format(source=listing)


@pytest.fixture(params=["on the host", "on the device"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let pictures be transformed by the thread that reads, or, as on a GPU, within the iteration."""
    if request.param == "on the device":
        monkeypatch.setattr(data, "leaves_to", lambda device: True)
    return


def solver_of(folder: Path, net: str, more: str = "") -> caffe.SGDSolver:
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(
        f'net: "{folder}/net.prototxt" base_lr: 0.05 lr_policy: "inv" gamma: 0.1 power: 0.75 weight_decay: 0.01 '
        f"random_seed: 5 max_iter: 99 {'' if 'momentum' in more else 'momentum: 0.9'} {more}"
    )
    return caffe.get_solver(str(folder / "solver.prototxt"))


def captured(solver: caffe.SGDSolver) -> Tape | CountedGraph:
    """Let the solver's iterations be captured."""
    blobs = [blob for row in solver.net.params.values() for blob in row]
    if solver.net.device.type == "cuda":
        graph: Tape | CountedGraph = CountedGraph(solver.net.device)
    else:
        layers = solver.net.layers
        graph = Tape(
            lambda: [blob.data_tensor() for blob in blobs] + solver.history + [m for x in layers for m in x.memory]
        )
    solver.iteration = CapturedIteration(solver, graph).run
    return graph


def losses(solver: caffe.SGDSolver, count: int) -> list[float]:
    found = []
    for _ in range(count):
        solver.step(1)
        found.append(float(solver._losses[-1]))
    return found


def assert_alike(found: object, expected: object, rtol: float = 1e-6, atol: float = 0) -> None:
    """A GPU adds in another order each time."""
    factor = 1 if current().type == "cpu" else 100
    np.testing.assert_allclose(found, expected, rtol=factor * rtol, atol=factor * atol)


def weights(solver: caffe.SGDSolver) -> list[np.ndarray]:
    return [blob.data.copy() for row in solver.net.params.values() for blob in row]


def compare(folder: Path, net: str, more: str = "", count: int = 10) -> Tape | CountedGraph:
    """Losses, outputs and weights of as many iterations, both ways."""
    usual = solver_of(folder, net, more)
    expected = losses(usual, count)
    solver = solver_of(folder, net, more)
    tape = captured(solver)
    assert_alike(losses(solver, count), expected)
    for ours, theirs in zip(weights(solver), weights(usual), strict=True):
        assert_alike(ours, theirs, rtol=1e-5, atol=1e-7)
    for name in solver.net.outputs:
        assert_alike(solver.net.blobs[name].data, usual.net.blobs[name].data)
    for made in (usual, solver):
        made.close()
    return tape


def test_it_trains_alike(tmp_path: Path, net: str, where: None) -> None:
    assert compare(tmp_path, net).captures == 1


@pytest.mark.parametrize("kind", ["Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_every_rule(tmp_path: Path, net: str, kind: str) -> None:
    momentum = {"AdaGrad": "momentum: 0", "RMSProp": "momentum: 0 rms_decay: 0.9", "AdaDelta": "momentum: 0.95"}
    more = f'type: "{kind}" {momentum.get(kind, "momentum: 0.9")} delta: 1e-4'
    assert compare(tmp_path, net, more).captures == 1


def test_gradients_of_several_batches(tmp_path: Path, net: str, where: None) -> None:
    assert compare(tmp_path, net, "iter_size: 2 average_loss: 3").captures == 1


def test_gradients_are_clipped_and_it_is_told(
    tmp_path: Path, net: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    clipped = []
    for way in (lambda _: None, captured):
        solver = solver_of(tmp_path, net, "clip_gradients: 2")
        way(solver)
        capfd.readouterr()
        solver.step(10)
        lines = re.findall(r"L2 norm (\S+) > 2\) by scale factor (\S+)", capfd.readouterr().err)
        clipped.append(np.array(lines, dtype=float))
        solver.close()
    assert 0 < len(clipped[0]) < 10  # both kinds of iteration are there
    assert_alike(clipped[1], clipped[0], rtol=1e-5)
    assert compare(tmp_path, net, "clip_gradients: 2").captures == 1


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_what_a_batch_carries_to_the_next(kind: str, tmp_path: Path) -> None:
    assert compare(tmp_path, words_net(tmp_path, kind), "clip_gradients: 0.5").captures == 1


def test_a_word_that_there_is_not_makes_the_loss_nan(tmp_path: Path) -> None:
    net = words_net(tmp_path, "LSTM")
    with h5py.File(tmp_path / "words.h5", "a") as file:
        file["words"][20, 1] = 9  # in the sixth batch
    solver = solver_of(tmp_path, net)
    captured(solver)
    found = losses(solver, 8)
    assert np.isfinite(found[:5]).all()
    assert np.isnan(found[5:]).all()
    solver.close()


def test_every_sort_of_group_is_updated_alike(
    tmp_path: Path, net: str, monkeypatch: pytest.MonkeyPatch, on_cpu: None
) -> None:
    made = []
    for _ in range(2):
        made.append(solver_of(tmp_path, net))
        made[-1].compute_gradients()
    usual, grouped = made
    usual.apply_update()
    kinds = {(p.lr_mult, p.decay_mult) for p in grouped.net.learnable if p.lr_mult}
    monkeypatch.setattr(grouped.net, "device", torch.device("cuda"))  # where parameters alike are updated together
    assert len(list(grouped._alike(grouped.rates()))) == len(kinds) == 2
    grouped.apply_update()
    for ours, theirs in zip(weights(grouped), weights(usual), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_a_caller_changes_is_seen(tmp_path: Path, net: str) -> None:
    results = []
    for way in (lambda _: None, captured):
        solver = solver_of(tmp_path, net)
        way(solver)
        solver.step(6)
        solver.net.params["ip"][0].data[...] *= 0.5
        solver.net.params["conv"][0]._data = caffe.Blob((4, 3, 3, 3), solver.net.device)._data  # other memory, of zeros
        solver.net.run_forward()  # puts blobs elsewhere
        results.append((losses(solver, 3), solver.net.blobs["loss"].data_tensor().item()))
        solver.close()
    assert_alike(results[1][0], results[0][0])
    assert results[1][1] == pytest.approx(results[0][1])


def test_a_run_goes_on_from_its_snapshot(tmp_path: Path, net: str) -> None:
    more = f'snapshot_prefix: "{tmp_path}/s"'
    solver = solver_of(tmp_path, net, more)
    captured(solver)
    solver.step(5)
    solver.snapshot()
    expected = losses(solver, 4)
    for way in (lambda _: None, captured):
        again = solver_of(tmp_path, net, more)
        way(again)
        again.restore(f"{tmp_path}/s_iter_5.solverstate")
        assert_alike(losses(again, 4), expected)
        again.close()
    solver.close()


def test_pictures_of_another_size_are_taken_as_usual(tmp_path: Path, make_pictures: Any) -> None:
    listing, _ = make_pictures([(9, 10)] * 5 + [(12, 9)] + [(9, 10)] * 2)
    text = (
        NET.format(source=listing).replace("crop_size: 8", "").replace("batch_size: 3 shuffle: true", "batch_size: 1")
    )
    text = text.replace('type: "InnerProduct"', 'type: "Convolution"').replace(
        "inner_product_param { num_output: 7", "convolution_param { num_output: 8 kernel_size: 1"
    )
    pool = (
        'layer { name: "all" type: "Pooling" bottom: "ip" top: "all" pooling_param { pool: AVE global_pooling: true } }'
    )
    text = text.replace('bottom: "ip" bottom', 'bottom: "all" bottom') + pool
    lines = text.strip().split("\n")
    text = "\n".join([*lines[:-3], lines[-1], *lines[-3:-1]])
    assert compare(tmp_path, text, count=12).captures == 1


def test_a_wrong_label_spoils_the_loss_from_there_on(tmp_path: Path, make_pictures: Any) -> None:
    listing, _ = make_pictures([(9, 10)] * 20)
    lines = listing.read_text().splitlines()
    listing.write_text(
        "".join(f"{line.rpartition(' ')[0]} {7 if i == 16 else i % 7}\n" for i, line in enumerate(lines))
    )
    solver = solver_of(tmp_path, NET.format(source=listing).replace("shuffle: true", ""))
    captured(solver)
    found = losses(solver, 8)
    assert np.isfinite(found[:5]).all()
    assert np.isnan(found[5:]).all()
    assert all(np.isfinite(values).all() for values in weights(solver))
    solver.close()


@pytest.mark.parametrize(
    ("net_more", "solver_more", "said"),
    [
        ('layer { name: "out" type: "HDF5Output" bottom: "ip" bottom: "label" hdf5_output_param { file_name: "x" } }',
         "", "layer 'out' (HDF5Output) goes through the host"),
        ("", "debug_info: true", "debug_info looks at every blob"),
    ],
)  # fmt: skip
def test_what_cannot_be_captured_runs_as_usual(
    tmp_path: Path, net: str, net_more: str, solver_more: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    solver = solver_of(tmp_path, net + net_more, solver_more)
    assert obstacle(solver).startswith(said)
    tape = captured(solver)
    solver.step(WARM_UP + 2)
    assert tape.captures == 0
    solver.close()


def test_callbacks_are_called(tmp_path: Path, net: str) -> None:
    solver = solver_of(tmp_path, net)
    assert obstacle(solver) == ""
    captured(solver)
    seen: list[int] = []
    solver.net.after_forward(seen.append)
    solver.step(WARM_UP + 2)
    assert len(seen) == (WARM_UP + 2) * len(solver.net.layers)
    solver.close()


def test_a_capture_that_fails_loses_no_batch(tmp_path: Path, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(glog, "warning", lambda place, message: said.append(message))
    usual = solver_of(tmp_path, net)
    expected = losses(usual, 8)
    solver = solver_of(tmp_path, net)
    tape = captured(solver)
    capture = tape.capture

    @contextmanager
    def broken() -> Iterator[None]:
        with capture():
            yield
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tape, "capture", broken)
    assert_alike(losses(solver, 8), expected)
    assert said == ["No CUDA graph of an iteration, training goes on without: out of memory"]
    usual.close()
    solver.close()

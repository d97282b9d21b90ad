"""Each update rule against the same rule in a few lines of numpy, weight decay, clipping and iter_size included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caffe

NET = """
layer { name: "in" type: "Input" top: "x" top: "y" input_param { shape { dim: 6 dim: 4 } shape { dim: 6 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "y" top: "loss" }
"""
FOUR = """
layer { name: "in" type: "Input" top: "x" top: "y" input_param { shape { dim: 6 dim: 4 } shape { dim: 6 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "fc2" type: "InnerProduct" bottom: "fc" top: "fc2"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "y" top: "loss" }
"""
RATE, MOMENTUM, DELTA = 0.1, 0.9, 1e-3
Arrays = list[np.ndarray]
Step = Callable[[np.ndarray, float, Arrays, int], np.ndarray]


def sgd(g: np.ndarray, rate: float, h: Arrays, t: int) -> np.ndarray:
    h[0] = MOMENTUM * h[0] + rate * g
    return h[0]


def nesterov(g: np.ndarray, rate: float, h: Arrays, t: int) -> np.ndarray:
    before = h[0]
    h[0] = MOMENTUM * before + rate * g
    return (1 + MOMENTUM) * h[0] - MOMENTUM * before


def adagrad(g: np.ndarray, rate: float, h: Arrays, t: int) -> np.ndarray:
    h[0] = h[0] + g * g
    return rate * g / (np.sqrt(h[0]) + DELTA)


def rmsprop(g: np.ndarray, rate: float, h: Arrays, t: int) -> np.ndarray:
    h[0] = 0.95 * h[0] + 0.05 * g * g
    return rate * g / (np.sqrt(h[0]) + DELTA)


def adadelta(g: np.ndarray, rate: float, h: Arrays, t: int) -> np.ndarray:
    h[0] = MOMENTUM * h[0] + (1 - MOMENTUM) * g * g
    step = g * np.sqrt((h[1] + DELTA) / (h[0] + DELTA))
    h[1] = MOMENTUM * h[1] + (1 - MOMENTUM) * step * step
    return rate * step


def adam(g: np.ndarray, rate: float, h: Arrays, t: int) -> np.ndarray:
    h[0] = MOMENTUM * h[0] + (1 - MOMENTUM) * g
    h[1] = 0.99 * h[1] + 0.01 * g * g
    return rate * np.sqrt(1 - 0.99**t) / (1 - MOMENTUM**t) * h[0] / (np.sqrt(h[1]) + DELTA)


M = f"momentum: {MOMENTUM}"
RULES: dict[str, tuple[Step, str]] = {
    "SGD": (sgd, M),
    "Nesterov": (nesterov, M),
    "AdaGrad": (adagrad, ""),
    "RMSProp": (rmsprop, "rms_decay: 0.95"),
    "AdaDelta": (adadelta, M),
    "Adam": (adam, f"{M} momentum2: 0.99"),
}


def solver_of(folder: Path, settings: str, net: str = NET) -> caffe.SGDSolver:
    (folder / "net.prototxt").write_text(net)
    path = folder / "solver.prototxt"
    path.write_text(
        f'net: "{folder}/net.prototxt" base_lr: {RATE} lr_policy: "fixed" delta: {DELTA} random_seed: 3 '
        f'snapshot_prefix: "{folder}/s" {settings}'
    )
    solver = caffe.get_solver(str(path))
    rng = np.random.default_rng(0)
    solver.net.blobs["x"].data[...] = rng.normal(size=(6, 4))
    solver.net.blobs["y"].data[...] = rng.integers(3, size=6)
    return solver


@pytest.mark.parametrize("regularization", ["L2", "L1"])
@pytest.mark.parametrize("name", RULES)
def test_rule(name: str, regularization: str, tmp_path: Path) -> None:
    step, settings = RULES[name]
    decay = 0.01
    solver = solver_of(
        tmp_path, f'type: "{name}" {settings} weight_decay: {decay} regularization_type: "{regularization}"'
    )
    blobs = solver.net.params["fc"]
    gradients: list[Arrays] = []
    solver.add_callback(lambda: None, lambda: gradients.append([b.diff.astype(np.float64) for b in blobs]))
    weights = [b.data.astype(np.float64) for b in blobs]
    history = [[np.zeros_like(w), np.zeros_like(w)] for w in weights]
    for t in range(1, 9):
        solver.step(1)
        for i, (g, lr_mult, decay_mult) in enumerate(zip(gradients[-1], (1, 2), (1, 0), strict=True)):
            pull = weights[i] if regularization == "L2" else np.sign(weights[i])
            update = step(g + decay * decay_mult * pull, RATE * lr_mult, history[i], t)
            weights[i] = weights[i] - update
            np.testing.assert_allclose(blobs[i].data, weights[i], rtol=2e-4, atol=2e-6, err_msg=f"step {t}")
            np.testing.assert_allclose(blobs[i].diff, update, rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize("piece", [1, 4, 10, 16, 100])
@pytest.mark.parametrize("name", RULES)
def test_parameters_updated_in_parts_and_together(
    name: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, settings = RULES[name]
    monkeypatch.setattr("caffe.solvers.sgd.PIECE", piece)
    solver = solver_of(tmp_path, f'type: "{name}" {settings} weight_decay: 0.01', FOUR)
    blobs = [blob for layer in ("fc", "fc2") for blob in solver.net.params[layer]]
    assert [blob.count for blob in blobs] == [12, 3, 9, 3]
    gradients: Arrays = []
    solver.add_callback(lambda: None, lambda: gradients.extend(b.diff.astype(np.float64) for b in blobs))
    before = [blob.data.astype(np.float64) for blob in blobs]
    solver.step(1)
    for blob, w, g in zip(blobs, before, gradients, strict=True):
        update = step(g + 0.01 * w, RATE, [np.zeros_like(w), np.zeros_like(w)], 1)
        np.testing.assert_allclose(blob.data, w - update, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", RULES)
def test_what_is_frozen_after_it_has_learned_goes_on_by_its_history(name: str, tmp_path: Path) -> None:
    """Weight decay is part of the gradient that a rule remembers, whatever the rate."""
    step, settings = RULES[name]
    rules = f'type: "{name}" {settings} weight_decay: 0.01'
    learned, frozen = solver_of(tmp_path, rules), solver_of(tmp_path, rules, NET.replace("lr_mult: 1", "lr_mult: 0"))
    learned.step(3)
    learned.snapshot()
    frozen.restore(f"{tmp_path}/s_iter_3.solverstate")
    weights = frozen.net.params["fc"][0].data.astype(np.float64)
    half = len(learned.net.learnable)
    history = [values.cpu().numpy().astype(np.float64) for values in frozen.history[::half]]
    for t in (4, 5):
        frozen.step(1)
        weights = weights - step(0.01 * weights, 0.0, history, t)
        np.testing.assert_allclose(frozen.net.params["fc"][0].data, weights, rtol=1e-5, atol=1e-7)
        for mine, expected in zip(frozen.history[::half], history, strict=True):
            np.testing.assert_allclose(mine.cpu(), expected, rtol=1e-4, atol=1e-9)


def test_clipping_scales_all_gradients_by_their_joint_norm(tmp_path: Path) -> None:
    solver = solver_of(tmp_path, 'type: "SGD" clip_gradients: 0.01')
    blobs = solver.net.params["fc"]
    seen: Arrays = []
    solver.add_callback(lambda: None, lambda: seen.extend(b.diff.copy() for b in blobs))
    before = [b.data.copy() for b in blobs]
    solver.step(1)
    norm = np.sqrt(sum(float((g**2).sum()) for g in seen))
    assert norm > 0.01
    for old, blob, g, lr_mult in zip(before, blobs, seen, (1, 2), strict=True):
        np.testing.assert_allclose(old - blob.data, RATE * lr_mult * g * 0.01 / norm, rtol=1e-3, atol=1e-7)


def test_weights_without_a_gradient_decay_all_the_same(tmp_path: Path) -> None:
    """As in Caffe, where it is zero; nothing of theirs counts in the loss."""
    silenced = NET[NET.index('layer { name: "fc"') : NET.index('layer { name: "loss"')].replace('"fc"', '"idle"')
    hush = 'layer { name: "hush" type: "Silence" bottom: "idle" }'
    solver = solver_of(tmp_path, f'type: "SGD" {M} weight_decay: 0.5', NET + silenced + hush)
    weight, moved = solver.net.params["idle"][0], 0.0
    expected = weight.data.copy()
    for _ in range(3):
        moved = MOMENTUM * moved + RATE * 0.5 * expected
        expected = expected - moved
        solver.step(1)
    np.testing.assert_allclose(weight.data, expected, rtol=1e-5)


@pytest.mark.parametrize(("limit", "factor"), [(0, 0), (-1, 1), (1e3, 1)])
def test_limits_that_clip_all_or_nothing(limit: float, factor: int, tmp_path: Path) -> None:
    solver = solver_of(tmp_path, f'type: "SGD" clip_gradients: {limit}')
    weight = solver.net.params["fc"][0]
    seen: Arrays = []
    solver.add_callback(lambda: None, lambda: seen.append(weight.diff.copy()))
    before = weight.data.copy()
    solver.step(1)
    assert seen[0].any()
    np.testing.assert_allclose(before - weight.data, RATE * factor * seen[0], rtol=1e-3, atol=1e-7)


def test_iter_size_averages_that_many_batches(tmp_path: Path) -> None:
    once, thrice = (solver_of(tmp_path, f'type: "SGD" iter_size: {n} weight_decay: 0.1') for n in (1, 3))
    once.step(1)
    thrice.step(1)
    for a, b in zip(once.net.params["fc"], thrice.net.params["fc"], strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["AdaGrad", "RMSProp"])
def test_momentum_does_not_go_with_every_rule(name: str, tmp_path: Path) -> None:
    with pytest.raises(caffe.CaffeError, match=f"Momentum cannot be used with {name}"):
        solver_of(tmp_path, f'type: "{name}" momentum: 0.9')


def test_rms_decay_below_one(tmp_path: Path) -> None:
    with pytest.raises(caffe.CaffeError, match="rms_decay should lie between 0 and 1"):
        solver_of(tmp_path, 'type: "RMSProp" rms_decay: 1')


@pytest.mark.parametrize("setting", ["momentum: 1", "momentum2: 2"])
def test_adam_s_momenta_below_one(setting: str, tmp_path: Path) -> None:
    with pytest.raises(caffe.CaffeError, match=f"Adam's {setting.replace(':', ' is')}: it should lie between 0 and 1"):
        solver_of(tmp_path, f'type: "Adam" {setting}')

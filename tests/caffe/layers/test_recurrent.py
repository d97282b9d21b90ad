"""RNN, LSTM and LSTMUnit against a naive recurrence in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import caffe

MakeLayer = Callable[..., caffe.Net]
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]

FILL = 'weight_filler { type: "uniform" min: -0.6 max: 0.6 } bias_filler { type: "uniform" min: -0.6 max: 0.6 }'
T, N, D = 4, 3, 5


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(
    x: np.ndarray,
    cont: np.ndarray,
    static: np.ndarray | None,
    weights: list[np.ndarray],
    hidden: np.ndarray,
    cell: np.ndarray,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Outputs [T, N, D] and the last states, one step after the other."""
    w, b, *w_static, u = (v.astype(np.float64) for v in weights)
    outputs = []
    for t in range(len(x)):
        c = cont[t][:, None]
        gates = x[t].reshape(len(x[t]), -1) @ w.T + b + (c * hidden) @ u.T
        if static is not None:
            gates = gates + static.reshape(len(static), -1) @ w_static[0].T
        i, f, o = (sigmoid(gates[:, k * D : (k + 1) * D]) for k in range(3))
        cell = c * f * cell + i * np.tanh(gates[:, 3 * D :])
        hidden = o * np.tanh(cell)
        outputs.append(hidden)
    return np.stack(outputs), (hidden, cell)


def rnn(
    x: np.ndarray, cont: np.ndarray, static: np.ndarray | None, weights: list[np.ndarray], hidden: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The same for the simple recurrence."""
    w, b, *w_static, u, w_out, b_out = (v.astype(np.float64) for v in weights)
    outputs = []
    for t in range(len(x)):
        value = x[t].reshape(len(x[t]), -1) @ w.T + b + (cont[t][:, None] * hidden) @ u.T
        if static is not None:
            value = value + static.reshape(len(static), -1) @ w_static[0].T
        hidden = np.tanh(value)
        outputs.append(np.tanh(hidden @ w_out.T + b_out))
    return np.stack(outputs), (hidden,)


RECURRENCES: dict[str, tuple[Callable[..., tuple[np.ndarray, tuple[np.ndarray, ...]]], int]] = {
    "LSTM": (lstm, 2),
    "RNN": (rnn, 1),
}


def text(extra: str = "") -> str:
    return f"recurrent_param {{ num_output: {D} {FILL} {extra} }}"


def some(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def continuation() -> np.ndarray:
    return np.array([[0, 1, 1], [1, 1, 0], [1, 0, 1], [1, 1, 1]], np.float32)


@pytest.mark.parametrize("static", [None, (6,), (2, 3)])
@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_outputs_and_states(make_layer: MakeLayer, kind: str, exposed: bool, static: Shape | None) -> None:
    recurrence, count = RECURRENCES[kind]
    x, cont = some(T, N, 2, 3), continuation()
    given = None if static is None else some(N, *static, seed=1)
    states = [some(1, N, D, seed=2 + i) for i in range(count)] if exposed else []
    bottoms = [x, cont, *([] if given is None else [given]), *states]
    net = make_layer(kind, bottoms, text("expose_hidden: true") if exposed else text(), tops=1 + len(states))
    net.forward()
    weights = [b.data for b in net.params["L"]]
    first = [s[0] for s in states] or [np.zeros((N, D))] * count
    outputs, last = recurrence(x, cont, given, weights, *first)
    np.testing.assert_allclose(net.blobs["y0"].data, outputs, rtol=1e-4, atol=1e-5)
    for i, state in enumerate(last if exposed else []):
        np.testing.assert_allclose(net.blobs[f"y{1 + i}"].data, state[None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_batch_goes_on_where_the_last_one_ended(make_layer: MakeLayer, kind: str) -> None:
    recurrence, count = RECURRENCES[kind]
    x, cont = some(T, N, 2), continuation()
    net = make_layer(kind, [x, cont], text())
    net.forward()
    net.forward()
    weights = [b.data for b in net.params["L"]]
    _, last = recurrence(x, cont, None, weights, *[np.zeros((N, D))] * count)
    outputs, _ = recurrence(x, cont, None, weights, *last)
    np.testing.assert_allclose(net.blobs["y0"].data, outputs, rtol=1e-4, atol=1e-5)


def test_a_batch_of_another_size_starts_afresh(make_layer: MakeLayer) -> None:
    x, cont = some(T, N, 2), continuation()
    net = make_layer("LSTM", [x, cont], text())
    net.forward()
    net.blobs["x0"].reshape(T, 2, 2)
    net.blobs["x1"].reshape(T, 2)
    net.blobs["x0"].data[...], net.blobs["x1"].data[...] = x[:, :2], cont[:, :2]
    net.forward()
    weights = [b.data for b in net.params["L"]]
    outputs, _ = lstm(x[:, :2], cont[:, :2], None, weights, np.zeros((2, D)), np.zeros((2, D)))
    np.testing.assert_allclose(net.blobs["y0"].data, outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "static", "shapes"),
    [
        ("LSTM", False, [(4 * D, 6), (4 * D,), (4 * D, D)]),
        ("LSTM", True, [(4 * D, 6), (4 * D,), (4 * D, 7), (4 * D, D)]),
        ("RNN", False, [(D, 6), (D,), (D, D), (D, D), (D,)]),
        ("RNN", True, [(D, 6), (D,), (D, 7), (D, D), (D, D), (D,)]),
    ],
)
def test_blobs_are_in_the_order_of_caffes_unrolled_net(
    make_layer: MakeLayer, kind: str, static: Shape | None, shapes: Shapes
) -> None:
    net = make_layer(kind, [some(T, N, 2, 3), continuation(), *([some(N, 7)] if static else [])], text())
    assert [b.shape for b in net.params["L"]] == shapes


def test_lstm_unit_is_one_step(make_layer: MakeLayer) -> None:
    cell, gates, cont = some(1, N, D), some(1, N, 4 * D, seed=1), np.array([[0, 1, 1]], np.float32)
    net = make_layer("LSTMUnit", [cell, gates, cont], tops=2)
    net.forward()
    eye = [np.eye(4 * D), np.zeros(4 * D), np.zeros((4 * D, D))]
    _, (hidden, new) = lstm(gates, cont, None, eye, np.zeros((N, D)), cell[0])
    np.testing.assert_allclose(net.blobs["y0"].data[0], new, rtol=1e-5)
    np.testing.assert_allclose(net.blobs["y1"].data[0], hidden, rtol=1e-5)


def test_debug_info_logs_the_states(make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    monkeypatch.setattr(caffe.glog, "info", lambda place, line: lines.append(line))
    net = make_layer("LSTM", [some(2, 1, 2), np.zeros((2, 1))], text("debug_info: true"))
    assert "Initializing recurrent layer: assuming input batch contains 2 timesteps of 1 independent streams." in lines
    lines.clear()
    net.forward()
    assert len(lines) == 4
    logged = dict(line.split(" data: ") for line in lines)["    [Forward] Layer L, top blob h_2"]
    mean = np.abs(net.blobs["y0"].data[1].astype(float)).mean()
    assert float(logged) == pytest.approx(mean, rel=6e-6)  # the sixth digit may be rounded either way
    assert logged == f"{float(logged):g}"


@pytest.mark.parametrize(
    ("shapes", "extra", "tops", "message"),
    [
        (((T, N), (T, N)), "", 1, "bottom.0. must have at least 2 axes"),
        (((T, N, 2), (T, N, 1)), "", 1, "bottom.1. must have exactly 2 axes"),
        (((T, N, 2), (T, N), (2, 4)), "", 1, "static input"),
        (((T, N, 2), (T, N), (N,)), "", 1, "static input"),
        (((T, N, 2), (T, N)), "expose_hidden: true", 3, "takes 4 bottom blobs"),
        (((T, N, 2), (T, N), (1, N, D), (1, N, D)), "expose_hidden: true", 1, "ExactNumTopBlobs"),
        (((T, N, 2), (T, N), (1, N, D), (1, N, 2)), "expose_hidden: true", 3, "shape must match hidden state"),
        (((T, N, 2), (T, N)), "num_output: 0", 1, "num_output must be positive"),
    ],
)
def test_refuses(make_layer: MakeLayer, shapes: Shapes, extra: str, tops: int, message: str) -> None:
    param = f"recurrent_param {{ {extra} }}" if "num_output" in extra else text(extra)
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer("LSTM", [np.zeros(shape) for shape in shapes], param, tops=tops)


def test_the_number_of_steps_stays(make_layer: MakeLayer) -> None:
    net = make_layer("RNN", [some(T, N, 2), continuation()], text())
    net.blobs["x0"].reshape(2, N, 2)
    net.blobs["x1"].reshape(2, N)
    with pytest.raises(caffe.CaffeError, match="number of timesteps changed"):
        net.forward()
